//! How a room looks to one server: by the history visibility and its users' memberships at each
//! event.

use std::{collections::HashMap, ops::Bound, sync::Arc};

use event::Pdu;
use ruma::{
    ServerName,
    events::{
        StateEventType,
        room::{history_visibility::HistoryVisibility, member::MembershipState},
    },
};
use store::Page;

use crate::{
    Rooms,
    error::Result,
    redaction,
    room::Room,
    state::{StoredNodes, trie},
    stored_event::StoredEvent,
    tables::{STATE_KEYS, StateKeyNumber, StateRoot},
    visibility::visibility_in,
};

/// How many state keys are read from the store at a time.
const KEYS_PAGE_LEN: usize = 1_024;

/// How many members are looked up in a state at a time.
const MEMBERS_CHUNK_LEN: usize = 64;

/// Most members of one server that are looked at in one state. A server with more of them has
/// somebody among the first.
const MEMBERS_MAX: usize = 4_096;

/// What the users of a server are in one state, the strongest that any of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Presence {
    /// None is joined or invited.
    Absent,
    /// One is invited, none joined.
    Invited,
    /// One is joined.
    Joined,
}

/// Looks at the events of one room with the eyes of one server.
pub(super) struct ServerLens<'a> {
    rooms: &'a Rooms,
    room: &'a Room,
    server: &'a ServerName,
    /// Whether a user of the server is joined now.
    is_joined: bool,
    /// The state keys of all members that the server ever had, the oldest first.
    members: Option<Vec<StateKeyNumber>>,
    presences: HashMap<StateRoot, Presence>,
    visibilities: HashMap<StateRoot, HistoryVisibility>,
}

impl<'a> ServerLens<'a> {
    /// The eyes of a server; `None` for one that never had a member in the room.
    pub(super) async fn new(
        rooms: &'a Rooms,
        room: &'a Room,
        server: &'a ServerName,
    ) -> Result<Option<Self>> {
        let mut lens = Self {
            rooms,
            room,
            server,
            is_joined: rooms.joined_servers(room).await?.contains(server),
            members: None,
            presences: HashMap::new(),
            visibilities: HashMap::new(),
        };
        if lens.is_joined {
            return Ok(Some(lens));
        }
        let members = rooms.members_of_server(room, server).await?;
        let known = !members.is_empty();
        lens.members = Some(members);
        Ok(known.then_some(lens))
    }

    /// The event as the server may see it.
    pub(super) async fn view(&mut self, event: &StoredEvent) -> Result<Arc<Pdu>> {
        if self.shows(event).await? && !self.is_veiled(event).await? {
            return Ok(Arc::clone(&event.pdu));
        }
        Ok(Arc::clone(&redaction::pruned(event, self.room)?.pdu))
    }

    /// Whether the server was in the room when an event was made, or is in it now.
    pub(super) async fn was_there(&mut self, event: &StoredEvent) -> Result<bool> {
        if self.is_joined {
            return Ok(true);
        }
        Ok(self.presence_around(event).await? == Presence::Joined)
    }

    /// Whether the server may see what an event says.
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-8)
    async fn shows(&mut self, event: &StoredEvent) -> Result<bool> {
        if event.state_after == StateRoot::EMPTY {
            // We do not know the state around an outlier. Those that are state are known to all in
            // the room as part of it.
            return Ok(self.is_joined && event.pdu.is_state());
        }
        let mut visibilities = vec![self.visibility(event.state_after).await?];
        if event.pdu.is_state() {
            visibilities.push(self.visibility(event.state_before).await?);
        }
        for visibility in visibilities {
            let shown = match visibility {
                HistoryVisibility::WorldReadable => true,
                HistoryVisibility::Invited => {
                    self.presence_around(event).await? >= Presence::Invited
                }
                HistoryVisibility::Joined => self.presence_around(event).await? == Presence::Joined,
                // Shared, and whatever we do not understand.
                _ => self.was_there(event).await?,
            };
            if shown {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the sender asked to be forgotten by all who were not there.
    async fn is_veiled(&mut self, event: &StoredEvent) -> Result<bool> {
        let sender = &event.pdu.sender;
        if !self.rooms.is_local(sender) {
            return Ok(false);
        }
        let erased = self.rooms.erased_among([sender.clone()].into()).await?;
        Ok(!erased.is_empty() && self.presence_around(event).await? < Presence::Joined)
    }

    async fn presence_around(&mut self, event: &StoredEvent) -> Result<Presence> {
        let after = self.presence(event.state_after).await?;
        if after == Presence::Joined || event.state_before == event.state_after {
            return Ok(after);
        }
        Ok(after.max(self.presence(event.state_before).await?))
    }

    async fn presence(&mut self, root: StateRoot) -> Result<Presence> {
        if let Some(known) = self.presences.get(&root) {
            return Ok(*known);
        }
        let members = match self.members.take() {
            Some(members) => members,
            None => self.rooms.members_of_server(self.room, self.server).await?,
        };
        let presence = self.find_presence(root, &members).await?;
        self.members = Some(members);
        self.presences.insert(root, presence);
        Ok(presence)
    }

    async fn find_presence(&self, root: StateRoot, members: &[StateKeyNumber]) -> Result<Presence> {
        let nodes = StoredNodes { rooms: self.rooms, room: self.room.number };
        let mut strongest = Presence::Absent;
        let members = members.get(..MEMBERS_MAX).unwrap_or(members);
        for chunk in members.chunks(MEMBERS_CHUNK_LEN) {
            let numbers: Vec<_> =
                trie::find(&nodes, root, chunk).await?.into_iter().flatten().collect();
            for event in self.rooms.events(self.room, &numbers).await? {
                match event.pdu.membership() {
                    Some(MembershipState::Join) => return Ok(Presence::Joined),
                    Some(MembershipState::Invite) => strongest = Presence::Invited,
                    _ => {}
                }
            }
        }
        Ok(strongest)
    }

    async fn visibility(&mut self, root: StateRoot) -> Result<HistoryVisibility> {
        if let Some(known) = self.visibilities.get(&root) {
            return Ok(known.clone());
        }
        let kind = StateEventType::RoomHistoryVisibility;
        let event = self.rooms.state_event(self.room, root, &kind, "").await?;
        let visibility = event.map_or(HistoryVisibility::Shared, |event| visibility_in(&event));
        self.visibilities.insert(root, visibility.clone());
        Ok(visibility)
    }
}

impl Rooms {
    /// The state keys of all members that a server ever had in a room, in the order in which the
    /// room came to know them.
    async fn members_of_server(
        &self,
        room: &Room,
        server: &ServerName,
    ) -> Result<Vec<StateKeyNumber>> {
        let all = (room.number, StateEventType::RoomMember.to_string());
        let mut range = STATE_KEYS.prefix(&all);
        let mut members = Vec::new();
        loop {
            let page = Page::first(KEYS_PAGE_LEN);
            let rows = self.store().scan(&STATE_KEYS, range, page).await?;
            let of_server = |user: &str| {
                user.split_once(':').is_some_and(|(_, domain)| domain == server.as_str())
            };
            members.extend(rows.iter().filter(|((.., user), _)| of_server(user)).map(|row| row.1));
            match rows.last() {
                Some((last, _)) if rows.len() == KEYS_PAGE_LEN => {
                    range = STATE_KEYS.between(Bound::Excluded(last), Bound::Included(&all));
                }
                _ => break,
            }
        }
        members.sort_unstable();
        Ok(members)
    }
}
