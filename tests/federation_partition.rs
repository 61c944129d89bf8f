//! Servers that are cut off from each other, do conflicting things, and end up with the same room.
//!
//! Every seed is a room in each version. `PARTITION_SEEDS` says how many; all rooms live through
//! the same partitions of the same three servers, each with its own quarrels.

mod quarrel;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;

use self::quarrel::{Actors, Quarrel};
use crate::kit::{self, Network, RoomView};

/// Room versions with state resolution v2 and v2.1.
const VERSIONS: [&str; 3] = ["10", "11", "12"];

/// How many seeds there are unless the environment says otherwise.
const SEEDS: u64 = 4;

/// How many rooms are worked on at the same time.
const ROOMS_AT_ONCE: usize = 8;

/// Longest that servers may take to agree about all rooms: this and [`AGREE_ROOM`] for each room.
const AGREE: Duration = Duration::from_secs(60);
const AGREE_ROOM: Duration = Duration::from_secs(2);

/// A room, and what there was in it before the quarrels.
struct Quarrelled {
    quarrel: Quarrel,
    /// What each server knew before: those that joined later never place what was before them.
    before: BTreeSet<String>,
}

fn seeds() -> u64 {
    std::env::var("PARTITION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

/// Lets an admin of each server speak in each room once all servers have all events.
///
/// Which events a server does not show depends on when it heard of what, and what it does not show
/// is no end of the graph to it: so the current states may differ until somebody to whom it is one
/// says something after it.
async fn make_peace(network: &Network, actors: &Actors, rooms: &[Quarrelled], when: &str) {
    wait_until(network, rooms, when, same_events).await;
    for room in rooms {
        for admin in &actors.admins {
            admin.say(&room.quarrel.room_id, "peace").await;
        }
    }
}

/// Waits until all servers hold the same of each room.
async fn agree(network: &Network, rooms: &[Quarrelled], when: &str) {
    wait_until(network, rooms, when, same).await;
}

/// Waits until what all servers hold of each room is the same in some respect.
async fn wait_until(
    network: &Network,
    rooms: &[Quarrelled],
    when: &str,
    same: fn(&RoomView, &RoomView) -> bool,
) {
    let mut open: Vec<&Quarrelled> = rooms.iter().collect();
    let mut positions: Vec<_> =
        network.servers().iter().map(|server| server.server().store().positions()).collect();
    let limit = AGREE + AGREE_ROOM * u32::try_from(rooms.len()).unwrap();
    let end = tokio::time::Instant::now() + limit;
    loop {
        positions.iter_mut().for_each(|position| drop(position.borrow_and_update()));
        let mut different = Vec::new();
        for room in open {
            let views = views(network, room).await;
            if views.iter().any(|view| !same(view, &views[0])) {
                different.push(room);
            }
        }
        let Some(first) = different.first() else { return };
        let changes = positions.iter_mut().map(|position| Box::pin(position.changed()));
        let change = futures_util::future::select_all(changes);
        if tokio::time::timeout_at(end, change).await.is_err() {
            let views = views(network, first).await;
            panic!(
                "{} of {} rooms differ {when}; {}",
                different.len(),
                rooms.len(),
                first.explain(&views)
            );
        }
        open = different;
    }
}

async fn views(network: &Network, room: &Quarrelled) -> Vec<RoomView> {
    let mut views = Vec::new();
    for server in network.servers() {
        let mut view = server.room_view(&room.quarrel.room_id).await;
        view.accepted.retain(|event_id| !room.before.contains(event_id));
        view.rejected.retain(|event_id| !room.before.contains(event_id));
        views.push(view);
    }
    views
}

/// Which events a server does not show depends on when it heard of what; all else does not.
fn same(one: &RoomView, other: &RoomView) -> bool {
    one.state == other.state && same_events(one, other)
}

fn same_events(one: &RoomView, other: &RoomView) -> bool {
    one.accepted == other.accepted && one.rejected == other.rejected
}

impl Quarrelled {
    fn explain(&self, views: &[RoomView]) -> String {
        let mut lines = vec![self.quarrel.story()];
        let keys: BTreeSet<_> = views.iter().flat_map(|view| view.state.keys()).collect();
        for key in keys {
            let events: Vec<_> = views.iter().map(|view| view.state.get(key)).collect();
            if events.iter().any(|event| *event != events[0]) {
                lines.push(format!("state {key:?}: {events:?}"));
            }
        }
        for (what, set) in [
            ("accepted", views.iter().map(|view| &view.accepted).collect::<Vec<_>>()),
            ("rejected", views.iter().map(|view| &view.rejected).collect()),
        ] {
            let all: BTreeSet<_> = set.iter().flat_map(|set| set.iter()).collect();
            for event_id in all {
                let holders: Vec<_> = set.iter().map(|set| set.contains(event_id)).collect();
                if holders.contains(&false) {
                    lines.push(format!("{what} {event_id} by {holders:?}"));
                }
            }
        }
        let extremities = views.iter().map(|view| &view.extremities).collect::<Vec<_>>();
        lines.push(format!("extremities {extremities:?}"));
        lines.join("\n  ")
    }
}

/// Lets something be done in every room, some at a time.
async fn in_every_room(rooms: &mut [Quarrelled], actors: &Actors, servers: &[usize], steps: usize) {
    stream::iter(rooms)
        .for_each_concurrent(ROOMS_AT_ONCE, async |room| {
            for _ in 0..steps {
                for server in servers {
                    room.quarrel.step(actors, *server).await;
                }
            }
        })
        .await;
}

async fn settle(network: &Network, actors: &Actors, seeds: u64) -> Vec<Quarrelled> {
    let kinds = (0..seeds).flat_map(|seed| VERSIONS.map(|version| (seed, version)));
    let rooms: Vec<Quarrelled> = stream::iter(kinds)
        .map(async |(seed, version)| {
            let quarrel = Quarrel::begin(actors, seed, version).await;
            Quarrelled { quarrel, before: BTreeSet::new() }
        })
        .buffer_unordered(ROOMS_AT_ONCE)
        .collect()
        .await;
    // Only the state must be the same yet: who joined first holds more.
    let mut settled = Vec::new();
    for mut room in rooms {
        // Who joined while a server was joining may be unknown to that one until somebody speaks
        // who knows of both.
        let everybody = 3 * network.servers().len();
        let room_id = room.quarrel.room_id.clone();
        let knows_all = |views: &[RoomView]| views[0].members() == everybody;
        network.wait_for(&room_id, knows_all).await;
        actors.admins[0].say(&room_id, "welcome").await;
        network
            .wait_for(&room.quarrel.room_id, |views: &[RoomView]| {
                views.iter().all(|view| {
                    view.state == views[0].state && view.extremities == views[0].extremities
                })
            })
            .await;
        for server in network.servers() {
            room.before.extend(server.room_view(&room.quarrel.room_id).await.accepted);
        }
        settled.push(room);
    }
    settled
}

/// Cuts some links, each way for itself, and lets others lose answers.
fn disturb(network: &Network, random: &mut StdRng) {
    let indexes = 0..network.servers().len();
    for caller in indexes.clone() {
        for callee in indexes.clone().filter(|callee| *callee != caller) {
            let link = network.link(caller, callee);
            match random.random_range(0..6) {
                0..3 => link.cut(),
                3 => link.lose_answers(),
                _ => link.mend(),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_servers_agree_however_their_links_came_and_went() {
    let network = kit::network(5).await;
    let actors = Actors::register(&network).await;
    // Fifteen people join each room: so there are fewer.
    let mut rooms = settle(&network, &actors, 1 + seeds() / 10).await;
    let mut random = StdRng::seed_from_u64(seeds());
    for _ in 0..6 {
        disturb(&network, &mut random);
        in_every_room(&mut rooms, &actors, &[3, 0, 4, 1, 2], 1).await;
    }
    network.heal();
    make_peace(&network, &actors, &rooms, "after the disturbances").await;
    agree(&network, &rooms, "after the disturbances").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_with_conflicting_changes_heal_to_the_same_room() {
    let network = kit::network(3).await;
    let actors = Actors::register(&network).await;
    let mut rooms = settle(&network, &actors, seeds()).await;

    network.partition(&[&[0], &[1], &[2]]);
    in_every_room(&mut rooms, &actors, &[0, 1, 2], 3).await;
    // Two meet again, and go on while they still tell each other what was.
    network.partition(&[&[0, 1], &[2]]);
    in_every_room(&mut rooms, &actors, &[2, 1, 0], 2).await;
    network.partition(&[&[0], &[1, 2]]);
    in_every_room(&mut rooms, &actors, &[1, 0, 2], 2).await;
    network.heal();
    make_peace(&network, &actors, &rooms, "after the partitions").await;
    agree(&network, &rooms, "after the partitions").await;

    // What they agree on is the ground of what comes.
    in_every_room(&mut rooms, &actors, &[0, 1, 2], 1).await;
    make_peace(&network, &actors, &rooms, "after they went on").await;
    agree(&network, &rooms, "after peace was made").await;
    let mut done: BTreeMap<&str, u64> = BTreeMap::new();
    for room in &rooms {
        for (action, count) in &room.quarrel.done {
            *done.entry(action).or_default() += count;
        }
    }
    // A quarrel in which everything is refused would prove nothing.
    for action in ["ban", "power", "say", "topic"] {
        assert!(done.get(action).is_some_and(|count| *count > 0), "{action} in {}", json!(done));
    }
}
