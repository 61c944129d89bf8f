//! What a server is given that has joined a room: its state, and what allows that.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use event::Pdu;
use ruma::{
    OwnedEventId, UserId,
    events::{StateEventType, room::member::MembershipState},
};

use super::accept::JoinGrant;
use crate::{
    Rooms,
    error::Result,
    room::Room,
    state::StateSelect,
    stored_event::StoredEvent,
    tables::{EventNumber, StateRoot},
};

/// How many members a server needs to name a room that has no name.
const HEROES_MAX: usize = 5;

/// How many events of a state are read at a time.
const PAGE_LEN: usize = 500;

/// How many members are looked at to find those.
const CANDIDATES_MAX: usize = 512;

impl Rooms {
    /// The state before a join, and the auth chains.
    pub(super) async fn grant(
        &self,
        room: &Arc<Room>,
        join: &StoredEvent,
        omit_members: bool,
    ) -> Result<JoinGrant> {
        let root = join.state_before;
        let state = if omit_members {
            self.state_without_members(room, root, &join.pdu).await?
        } else {
            self.select_state(room, root, &StateSelect::All).await?
        };
        let mut start: BTreeSet<OwnedEventId> = join.pdu.auth_events.iter().cloned().collect();
        for page in state.chunks(PAGE_LEN) {
            let events = self.events(room, page).await?;
            start.extend(events.iter().flat_map(|event| event.pdu.auth_events.iter().cloned()));
        }
        let chain = self.auth_chain_of(room, start.into_iter().collect()).await?;
        let given: HashSet<EventNumber> = state.iter().copied().collect();
        let auth_chain: Vec<EventNumber> = chain
            .into_iter()
            .map(|(number, _)| number)
            .filter(|number| !omit_members || !given.contains(number))
            .collect();
        let servers_in_room =
            if omit_members { self.servers_before(room, join).await? } else { Vec::new() };
        Ok(JoinGrant {
            event: Arc::clone(&join.pdu),
            room: Arc::clone(room),
            state,
            auth_chain,
            members_omitted: omit_members,
            servers_in_room,
        })
    }

    /// A state without the members, but for those that decide over the join and those by whom a
    /// room without a name is known.
    async fn state_without_members(
        &self,
        room: &Room,
        root: StateRoot,
        join: &Pdu,
    ) -> Result<Vec<EventNumber>> {
        let mut numbers = self.select_state(room, root, &StateSelect::without_members()).await?;
        let mut members: BTreeSet<String> = BTreeSet::from([join.sender.to_string()]);
        let auth = self.event_numbers(room, &join.auth_events).await?;
        let auth: Vec<EventNumber> = auth.into_iter().flatten().collect();
        for event in self.events(room, &auth).await? {
            if let Some((StateEventType::RoomMember, user)) = event.pdu.state_entry() {
                members.insert(user.to_owned());
            }
        }
        if !self.has_name(room, root).await? {
            members.extend(self.first_members(room, &join.sender).await?);
        }
        let keys = StateSelect::members(members);
        numbers.extend(self.select_state(room, root, &keys).await?);
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// The first members of a room besides one who joins.
    async fn first_members(&self, room: &Room, joining: &UserId) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for membership in [MembershipState::Join, MembershipState::Invite] {
            found.extend(self.members_with(room, &membership, CANDIDATES_MAX).await?);
        }
        found.retain(|(user, _)| user != joining);
        found.sort_unstable_by_key(|(_, event)| *event);
        found.truncate(HEROES_MAX);
        Ok(found.into_iter().map(|(user, _)| user.to_string()).collect())
    }

    /// The servers that were in the room before a join.
    async fn servers_before(
        &self,
        room: &Room,
        join: &StoredEvent,
    ) -> Result<Vec<ruma::OwnedServerName>> {
        let mut servers = self.servers_to_tell(room, join).await?;
        servers.insert(self.server_name().to_owned());
        Ok(servers.into_iter().collect())
    }
}
