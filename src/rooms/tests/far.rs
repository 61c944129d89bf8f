//! Coming into rooms of other servers, and out of them.

mod invites;
mod joins;
mod knocks;
mod liars;
mod partial;
mod restricted;
mod third_party;

use event::Pdu;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, UserId,
    events::room::member::MembershipState,
};
use serde_json::json;

use super::net::Net;
use crate::{NewRoom, Profile, Received, Result, RoomPreset};

/// A network with what is needed here.
pub(super) struct Far {
    pub(super) net: Net,
}

impl Far {
    pub(super) async fn new(count: u8) -> Self {
        Self { net: Net::new(count).await }
    }

    pub(super) fn via(&self, nodes: &[usize]) -> Vec<OwnedServerName> {
        nodes.iter().map(|node| self.net.nodes[*node].name.clone()).collect()
    }

    /// Lets a user join over some servers, and tells those of the join.
    pub(super) async fn join(
        &self,
        (name, node): (&str, usize),
        room: &RoomId,
        via: &[usize],
    ) -> Result<()> {
        self.net.tick();
        let user = self.net.user(name, node);
        let profile = Profile { displayname: Some(name.to_owned()), avatar_url: None };
        self.net.nodes[node].rooms.join(&user, room, &self.via(via), profile, None).await
    }

    pub(super) async fn leave(&self, (name, node): (&str, usize), room: &RoomId) -> Result<()> {
        let user = self.net.user(name, node);
        self.net.nodes[node].rooms.leave(&user, room, None).await
    }

    pub(super) async fn invite(
        &self,
        (sender, from): (&str, usize),
        room: &RoomId,
        (target, to): (&str, usize),
    ) -> Result<()> {
        self.net.tick();
        let (sender, target) = (self.net.user(sender, from), self.net.user(target, to));
        let rooms = &self.net.nodes[from].rooms;
        rooms.invite(&sender, room, &target, Profile::default(), None, false).await
    }

    pub(super) async fn private_room(&self, version: RoomVersionId) -> OwnedRoomId {
        let preset = Some(RoomPreset::PrivateChat);
        let new = NewRoom { version: Some(version), preset, ..NewRoom::default() };
        self.net.nodes[0].rooms.create(&self.net.user("alice", 0), new).await.unwrap()
    }

    /// What a user is in a room, by the table that all read.
    pub(super) async fn membership(
        &self,
        (name, node): (&str, usize),
        room: &RoomId,
    ) -> Option<MembershipState> {
        let user = self.net.user(name, node);
        let memberships = self.net.nodes[node].rooms.memberships(&user).await.unwrap();
        memberships.by_id(room).map(|record| record.membership.clone())
    }

    /// What a server thinks that a user of another one is.
    pub(super) async fn seen(
        &self,
        node: usize,
        user: &UserId,
        room: &RoomId,
    ) -> Option<MembershipState> {
        let id = self.member_event(node, user, room).await?;
        self.net.event(node, room, &id).await.membership()
    }

    pub(super) async fn member_event(
        &self,
        node: usize,
        user: &UserId,
        room: &RoomId,
    ) -> Option<OwnedEventId> {
        let key = ("m.room.member".to_owned(), user.to_string());
        self.net.nodes[node].state(room).await.remove(&key)
    }

    /// Gives a user's member event from one server to another.
    pub(super) async fn tell(
        &self,
        (from, to): (usize, usize),
        user: &UserId,
        room: &RoomId,
    ) -> Received {
        let id = self.member_event(from, user, room).await.unwrap();
        let pdu: std::sync::Arc<Pdu> = self.net.event(from, room, &id).await;
        self.net.give(&pdu, from, to).await.unwrap()
    }

    /// Gives the newest events of one server to another, as far as that lacks them.
    pub(super) async fn catch_up(&self, from: usize, to: usize, room: &RoomId) {
        for id in self.net.nodes[from].extremities(room).await {
            let pdu = self.net.event(from, room, &id).await;
            self.net.give(&pdu, from, to).await.unwrap();
        }
    }

    pub(super) async fn are_sound(&self) {
        for node in &self.net.nodes {
            node.is_sound().await;
        }
    }

    pub(super) async fn set_join_rule(&self, room: &RoomId, content: serde_json::Value) {
        let alice = self.net.user("alice", 0);
        let rooms = &self.net.nodes[0];
        rooms.set(&alice, room, "m.room.join_rules", "", content).await.unwrap();
    }
}

/// A page of messages, the newest first.
pub(super) fn page() -> crate::MessagesQuery {
    crate::MessagesQuery {
        from: None,
        to: None,
        direction: ruma::api::Direction::Backward,
        limit: 10,
        filter: ruma::api::client::filter::RoomEventFilter::default(),
    }
}

/// The rule by which the members of another room may join.
pub(super) fn restricted_to(room: &RoomId) -> serde_json::Value {
    json!({
        "join_rule": "restricted",
        "allow": [{ "type": "m.room_membership", "room_id": room }],
    })
}
