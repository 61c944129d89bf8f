//! Peers that sign as they should and lie: each lie has a bounded cost and harms nobody else.

mod joins;
mod requests;
mod transactions;

use serde_json::json;

use crate::kit::{self, Authority, Network, Peer, PeerRoom, User};

/// A server of ours, a peer that lies, a room of ours that the peer has joined, and our user in it.
struct Stage {
    network: Network,
    peer: Peer,
    alice: User,
    room: PeerRoom,
    since: String,
}

/// Sets the stage with a room of a version.
async fn stage(version: &str) -> Stage {
    let authority = Authority::new();
    let peer = Peer::start(&authority, &["liar.test"]).await;
    let network = kit::network_with(authority, 1, &[&peer], |_| ()).await;
    let alice = network[0].register("alice").await;
    let room_id =
        alice.create_room(json!({ "preset": "public_chat", "room_version": version })).await;
    let room = peer.join(&network[0], &room_id, "mallory").await;
    let since = alice.sync_token().await;
    Stage { network, peer, alice, room, since }
}

impl Stage {
    /// Sends a message of the peer that must be taken, and gives all texts that Alice saw until
    /// then.
    async fn texts_until_marker(&mut self) -> Vec<String> {
        let marker = self.room.message(&self.peer, "marker");
        let txn = format!("marker{}", marker.event_id.len() + self.room.depth as usize);
        let pdus =
            self.peer.transact(&self.network[0], &txn, std::slice::from_ref(&marker.json)).await;
        assert_eq!(pdus[&marker.event_id], json!({}), "the marker should be taken");
        self.room.follow(&marker);
        let room_id = self.room.room_id.clone();
        let mut texts = Vec::new();
        self.alice
            .sync_until(&mut self.since, |sync| {
                let events = &sync["rooms"]["join"][&room_id]["timeline"]["events"];
                let events = events.as_array().into_iter().flatten();
                texts.extend(events.map(|event| {
                    event["content"]["body"]
                        .as_str()
                        .unwrap_or(event["type"].as_str().unwrap())
                        .to_owned()
                }));
                texts.iter().any(|text| text == "marker")
            })
            .await;
        texts
    }
}
