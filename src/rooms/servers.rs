//! Which servers are in a room: those of its joined users.

#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{
    OwnedServerName, OwnedUserId, ServerName, UserId,
    events::{StateEventType, room::member::MembershipState},
};

use store::Page;

use crate::{
    Rooms,
    append::MemberChange,
    cache::Weigh,
    error::Result,
    partial::PartialRow,
    room::Room,
    state::{StateSelect, StoredNodes, trie},
    stored_event::StoredEvent,
    tables::{EventNumber, HEADS, REMOTE_JOINS, RoomNumber, StateRoot},
};

/// In how many rooms at most a user of another server is looked for.
const ROOMS_MAX: usize = 100_000;

/// How often members are read anew because others came or went meanwhile.
const TRIES: usize = 4;

/// The servers that have users joined to a room, in the order of their names, and how many each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinedServers {
    /// A state of the room that has these members.
    state: StateRoot,
    users: BTreeMap<OwnedServerName, u64>,
}

impl JoinedServers {
    /// Whether a server has users in the room.
    #[must_use]
    pub fn contains(&self, server: &ServerName) -> bool {
        self.users.contains_key(server)
    }

    /// The servers, in the order of their names; this one too if it has users there.
    pub fn iter(&self) -> impl Iterator<Item = &OwnedServerName> {
        self.users.keys()
    }

    /// The servers, those with the most users first.
    #[must_use]
    pub fn by_users(&self) -> Vec<OwnedServerName> {
        let mut servers: Vec<_> = self.users.iter().collect();
        servers.sort_by_key(|(_, users)| std::cmp::Reverse(**users));
        servers.into_iter().map(|(server, _)| server.clone()).collect()
    }

    /// How many servers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether nobody is in the room.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    fn of<'a>(state: StateRoot, joined: impl Iterator<Item = &'a OwnedUserId>) -> Self {
        let mut servers = Self { state, users: BTreeMap::new() };
        joined.for_each(|user| servers.add(user));
        servers
    }

    fn add(&mut self, user: &UserId) {
        *self.users.entry(user.server_name().to_owned()).or_default() += 1;
    }

    /// Adds the servers that were named when we joined without being told all members: they stay
    /// until the members are known.
    fn add_told(&mut self, row: Option<PartialRow>) {
        for server in row.map(|row| row.servers).unwrap_or_default() {
            *self.users.entry(server).or_default() += 1;
        }
    }

    fn remove(&mut self, user: &UserId) {
        let server = user.server_name();
        if let Some(users) = self.users.get_mut(server) {
            *users = users.saturating_sub(1);
            if *users == 0 {
                self.users.remove(server);
            }
        }
    }

    fn change(&mut self, user: &UserId, was_joined: Joined, is_joined: Joined) {
        match (was_joined, is_joined) {
            (Joined(false), Joined(true)) => self.add(user),
            (Joined(true), Joined(false)) => self.remove(user),
            _ => {}
        }
    }

    /// The servers in a state that follows, after some memberships have changed.
    pub(crate) fn after(
        self: Arc<Self>,
        state: StateRoot,
        members: &[(OwnedUserId, MemberChange)],
    ) -> Arc<Self> {
        let is_joined = |what: &Option<(MembershipState, EventNumber)>| {
            Joined(what.as_ref().is_some_and(|(what, _)| *what == MembershipState::Join))
        };
        let mut servers = Arc::unwrap_or_clone(self);
        servers.state = state;
        for (user, change) in members {
            servers.change(user, is_joined(&change.from), is_joined(&change.to));
        }
        Arc::new(servers)
    }
}

/// Whether somebody is joined.
#[derive(Clone, Copy)]
struct Joined(bool);

impl Weigh for JoinedServers {
    fn weigh(&self) -> u64 {
        200 + 80 * self.users.len() as u64
    }
}

impl Rooms {
    /// The servers in a room, this one included if it is.
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn joined_servers(&self, room: &Room) -> Result<Arc<JoinedServers>> {
        let cache = &self.inner.caches.joined_servers;
        if let Some(cached) = cache.get(&room.number) {
            return Ok(cached);
        }
        let ticket = cache.ticket(&room.number);
        for _ in 0..TRIES {
            // The members are read page by page: they belong to the state if it is the same after.
            let state = self.stored_state(room).await?;
            let rows = self.members_with(room, &MembershipState::Join, usize::MAX).await?;
            if self.stored_state(room).await? == state {
                let mut servers = JoinedServers::of(state, rows.iter().map(|(user, _)| user));
                if self.is_partial(room.number) {
                    servers.add_told(self.partial_row(room.number).await?);
                }
                let servers = Arc::new(servers);
                cache.fill(&room.number, &servers, ticket);
                return Ok(servers);
            }
        }
        let state = self.stored_state(room).await?;
        self.servers_in_state(room, state).await.map(Arc::new)
    }

    /// The servers in a state, found by its member events: slow, and right whatever happens.
    async fn servers_in_state(&self, room: &Room, state: StateRoot) -> Result<JoinedServers> {
        let select = StateSelect::kind(StateEventType::RoomMember);
        let numbers = self.select_state(room, state, &select).await?;
        let events = self.events(room, &numbers).await?;
        let joined = events
            .iter()
            .filter(|event| event.pdu.membership() == Some(MembershipState::Join))
            .filter_map(|event| UserId::parse(event.pdu.state_key.as_deref()?).ok());
        let joined: Vec<OwnedUserId> = joined.collect();
        Ok(JoinedServers::of(state, joined.iter()))
    }

    async fn stored_state(&self, room: &Room) -> Result<StateRoot> {
        let head = self.store().get(&HEADS, &room.number).await?;
        Ok(head.map_or(StateRoot::EMPTY, |head| head.state))
    }

    /// The rooms where a user is joined, whichever server they are of.
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn rooms_of(&self, user: &UserId) -> Result<Vec<RoomNumber>> {
        if self.is_local(user) {
            let memberships = self.memberships(user).await?;
            return Ok(memberships.joined().map(|record| record.room).collect());
        }
        let range = REMOTE_JOINS.prefix(&user.as_str().to_owned());
        let rows = self.store().scan(&REMOTE_JOINS, range, Page::first(ROOMS_MAX)).await?;
        Ok(rows.into_iter().map(|((_, room), ())| room).collect())
    }

    /// The other servers that share a room with a user.
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn servers_sharing(&self, user: &UserId) -> Result<BTreeSet<OwnedServerName>> {
        let mut servers = BTreeSet::new();
        for number in self.rooms_of(user).await? {
            let room = self.room_by_number(number).await?;
            servers.extend(self.joined_servers(&room).await?.iter().cloned());
        }
        servers.remove(self.server_name());
        Ok(servers)
    }

    /// The other servers that have to be told of an event: those that were in the room before it,
    /// and that of a user whose invite or knock it ends. Where this server was not in the room
    /// before, as with its first join, the one that took the event in tells the others.
    ///
    /// Costs as much as the state has changed since the event.
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn servers_to_tell(
        &self,
        room: &Room,
        event: &StoredEvent,
    ) -> Result<BTreeSet<OwnedServerName>> {
        let mut servers = JoinedServers::clone(&*self.joined_servers(room).await?);
        let nodes = StoredNodes { rooms: self, room: room.number };
        let differences = trie::diff(&nodes, servers.state, event.state_before).await?;
        let keys: Vec<_> = differences.iter().map(|difference| difference.key).collect();
        let names = self.state_key_names(room, &keys).await?;
        for (name, difference) in names.iter().zip(differences) {
            let Some(user) = member(name) else { continue };
            let now = self.is_join(room, difference.from).await?;
            let then = self.is_join(room, difference.to).await?;
            servers.change(&user, now, then);
        }
        if !servers.contains(self.server_name()) {
            return Ok(BTreeSet::new());
        }
        let mut servers: BTreeSet<_> = servers.users.into_keys().collect();
        servers.extend(self.server_turned_away(room, event).await?);
        servers.remove(self.server_name());
        servers.remove(event.pdu.sender.server_name());
        Ok(servers)
    }

    /// The server of a user who was invited or had knocked, and no longer is.
    async fn server_turned_away(
        &self,
        room: &Room,
        event: &StoredEvent,
    ) -> Result<Option<OwnedServerName>> {
        let Some((kind, user)) = event.pdu.state_entry() else { return Ok(None) };
        let Some(user) = member(&(kind, user.to_owned())) else { return Ok(None) };
        let ends =
            matches!(event.pdu.membership(), Some(MembershipState::Leave | MembershipState::Ban));
        let Some(before) = event.prev_state.as_ref().filter(|_| ends) else { return Ok(None) };
        let before =
            self.event_by_id(room, before).await?.and_then(|before| before.pdu.membership());
        let was_waiting = matches!(before, Some(MembershipState::Invite | MembershipState::Knock));
        Ok(was_waiting.then(|| user.server_name().to_owned()))
    }

    async fn is_join(&self, room: &Room, event: Option<EventNumber>) -> Result<Joined> {
        let Some(number) = event else { return Ok(Joined(false)) };
        let event = self.load_event(room, number).await?;
        Ok(Joined(event.pdu.membership() == Some(MembershipState::Join)))
    }
}

/// The user whose membership a state key holds.
fn member((kind, key): &(StateEventType, String)) -> Option<OwnedUserId> {
    if *kind == StateEventType::RoomMember { UserId::parse(key).ok() } else { None }
}
