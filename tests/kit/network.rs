//! Servers in this process that know each other, and the links between them.
//!
//! ```ignore
//! let network = kit::network(3).await;
//! let alice = network[0].register("alice").await;
//! network.partition(&[&[0], &[1, 2]]);
//! network.heal();
//! ```

use std::{collections::BTreeMap, ops::Index, time::Duration};

use natterjack::{Config, ListenerConfig, Resource};
use ruma::OwnedServerName;

use super::{
    authority::{Authority, Certified},
    link::Link,
    peer::Peer,
    room_view::RoomView,
    server::{TestServer, server_with},
};

/// Names of the servers, by their index.
const NAMES: [&str; 5] = ["one.test", "two.test", "three.test", "four.test", "five.test"];

/// Longest that [`Network::wait_for`] waits.
const WAIT: Duration = Duration::from_secs(120);

/// Several servers that can reach each other and some peers.
pub(crate) struct Network {
    servers: Vec<TestServer>,
    /// By the indexes of who calls and who is called.
    links: BTreeMap<(usize, usize), Link>,
    _authority: Authority,
}

/// Starts servers that know each other.
pub(crate) async fn network(count: usize) -> Network {
    network_with(Authority::new(), count, &[], |_| ()).await
}

/// Starts servers that know each other and some peers, whose certificates are of the same
/// authority. `change` is applied to each server's settings.
pub(crate) async fn network_with(
    authority: Authority,
    count: usize,
    peers: &[&Peer],
    change: impl Fn(&mut Config),
) -> Network {
    let mut links = BTreeMap::new();
    for caller in 0..count {
        for callee in (0..count).filter(|callee| *callee != caller) {
            links.insert((caller, callee), Link::new().await);
        }
    }
    let mut network = Network { servers: Vec::new(), links, _authority: authority };
    for (index, name) in NAMES.into_iter().enumerate().take(count) {
        let certified = network._authority.certify(&[name.to_owned()]);
        let server = server_with(|config| {
            network.configure(config, index, &certified, peers);
            change(config);
        })
        .await;
        network.servers.push(server);
        network.lead_to(index);
    }
    network
}

impl Index<usize> for Network {
    type Output = TestServer;

    fn index(&self, index: usize) -> &TestServer {
        &self.servers[index]
    }
}

impl Network {
    fn configure(&self, config: &mut Config, index: usize, own: &Certified, peers: &[&Peer]) {
        config.server.name = Some(name(index));
        config.listeners[0].serve = vec![Resource::Client, Resource::Metrics];
        config.listeners.push(ListenerConfig {
            bind: "127.0.0.1:0".parse().unwrap(),
            serve: vec![Resource::Federation],
            tls_certificate: own.certificate.clone(),
            tls_private_key: own.key.clone(),
            forwarded_for: false,
        });
        config.federation.allow_private_addresses = true;
        config.federation.extra_root_certificates = vec![self._authority.root().to_owned()];
        let links = self.links.iter().filter(|((caller, _), _)| *caller == index);
        let others = links.map(|((_, callee), link)| (name(*callee), link.address()));
        let peers = peers
            .iter()
            .flat_map(|peer| peer.names().iter().map(|name| (name.clone(), peer.address())));
        config.federation.overrides = others.chain(peers).collect();
    }

    /// Lets the links to a server lead to where it listens now.
    fn lead_to(&self, index: usize) {
        let target = self.servers[index].server().addresses()[1].address;
        for ((_, callee), link) in &self.links {
            if *callee == index {
                link.lead_to(target);
            }
        }
    }

    /// All servers, by their index.
    pub(crate) fn servers(&self) -> &[TestServer] {
        &self.servers
    }

    /// The way from one server to another.
    pub(crate) fn link(&self, caller: usize, callee: usize) -> &Link {
        &self.links[&(caller, callee)]
    }

    /// Cuts all links between servers that are not in one of the groups together.
    pub(crate) fn partition(&self, groups: &[&[usize]]) {
        for ((caller, callee), link) in &self.links {
            let together = |group: &&[usize]| group.contains(caller) && group.contains(callee);
            if groups.iter().any(together) { link.mend() } else { link.cut() }
        }
    }

    /// Mends all links.
    pub(crate) fn heal(&self) {
        self.links.values().for_each(Link::mend);
    }

    /// Waits until what the servers hold of a room satisfies `wanted`.
    pub(crate) async fn wait_for(&self, room_id: &str, wanted: impl Fn(&[RoomView]) -> bool) {
        let positions = self.servers.iter().map(|server| server.server().store().positions());
        let mut positions: Vec<_> = positions.collect();
        let end = tokio::time::Instant::now() + WAIT;
        loop {
            let mut views = Vec::new();
            for (server, position) in self.servers.iter().zip(&mut positions) {
                position.borrow_and_update();
                views.push(server.room_view(room_id).await);
            }
            if wanted(&views) {
                return;
            }
            let changes = positions.iter_mut().map(|position| Box::pin(position.changed()));
            let change = futures_util::future::select_all(changes);
            if tokio::time::timeout_at(end, change).await.is_err() {
                panic!("what is awaited should come to {room_id}: {views:#?}");
            }
        }
    }

    /// Stops a server in an orderly way.
    pub(crate) async fn stop(&mut self, index: usize) {
        self.servers[index].stop().await;
    }

    /// Starts a server that was stopped.
    pub(crate) async fn start(&mut self, index: usize) {
        self.servers[index].start().await;
        self.lead_to(index);
    }
}

/// The name of the server with an index.
fn name(index: usize) -> OwnedServerName {
    NAMES[index].try_into().unwrap()
}
