//! Writing what an assembly made: one batch, then the caches.

use std::{collections::HashMap, sync::Arc};

use ruma::{
    OwnedUserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use store::{Batch, Json, Position, Stamped, StoreError};

use crate::{
    Rooms,
    append::{Accepted, Assembly, MemberChange},
    cache::JoinedUsers,
    error::{Result, RoomsError},
    head::Head,
    lane::{Held, Lane},
    log_row::{LOG_TOPIC, RoomsLogRow},
    new_event::TxnKey,
    room::Room,
    servers::JoinedServers,
    state::trie::NewNodes,
    stored_event::StoredEvent,
    tables::{
        EVENT_META, EVENT_NUMBERS, EVENT_ROOMS, EVENTS, EVENTS_BY_TIME, EventNumber, HEADS,
        MEMBERSHIPS, MembershipRow, REMOTE_JOINS, ROOM_MEMBERS, STATE_KEY_NAMES, STATE_KEYS,
        STATE_NODES, StateKeyNumber, StateRoot, TIMELINE, TRANSACTIONS, TimelineRow,
    },
};

impl Rooms {
    /// Commits what was assembled in a lane, and moves the lane's head.
    pub(crate) async fn commit(
        &self,
        lane: &mut Lane,
        assembly: Assembly<'_>,
        extra: Batch,
    ) -> Result<Position> {
        if assembly.is_empty() {
            return if extra.is_empty() {
                Ok(self.store().position())
            } else {
                self.write(extra, Arc::clone(&lane.held), |_, _| {}).await
            };
        }
        let room = Arc::clone(lane.room());
        let (position, head) = self.commit_assembly(assembly, extra, &lane.held, &room).await?;
        lane.head = head;
        Ok(position)
    }

    /// Commits what was assembled, and tells the caches.
    pub(crate) async fn commit_assembly(
        &self,
        assembly: Assembly<'_>,
        extra: Batch,
        held: &Held,
        room: &Arc<Room>,
    ) -> Result<(Position, Arc<Head>)> {
        let mut batch = assembly.batch()?;
        batch.extend(extra);
        let written = assembly.written();
        let head = Arc::clone(&written.head);
        let room = Arc::clone(room);
        let begun = self.begin(&room, &written);
        let settle = move |rooms: &Rooms, result: &Result<Position, StoreError>| match result {
            Ok(position) => rooms.settle(&room, written, begun, *position),
            Err(_) => rooms.abandon(&room, &written),
        };
        let position = self.write(batch, Arc::clone(held), settle).await?;
        Ok((position, head))
    }

    /// Commits a batch and then tells the caches of it, even if nobody waits for that any more. The
    /// lane stays held until then.
    pub(crate) async fn write(
        &self,
        batch: Batch,
        held: Held,
        settle: impl FnOnce(&Self, &Result<Position, StoreError>) + Send + 'static,
    ) -> Result<Position> {
        let rooms = self.clone();
        let task = self.inner.tasks.spawn(async move {
            let result = rooms.store().commit(batch).await;
            settle(&rooms, &result);
            drop(held);
            result
        });
        Ok(task.await.map_err(|_| RoomsError::Stopping)??)
    }

    /// Takes out of the caches what is about to change, so that whoever the log wakes before the
    /// caches are told reads the store. Gives who was joined, as far as that was cached.
    fn begin(&self, room: &Room, written: &Written) -> Begun {
        let caches = &self.inner.caches;
        caches.heads.begin(&room.number);
        for event in &written.changed {
            caches.events.begin(&(room.number, *event));
        }
        for (user, _) in written.members.iter().filter(|(user, _)| self.is_local(user)) {
            caches.memberships.begin(user);
        }
        if written.members.is_empty() {
            return Begun::default();
        }
        Begun {
            users: caches.joined_users.begin(&room.number),
            servers: caches.joined_servers.begin(&room.number),
        }
    }

    /// Says that what was begun has come to nothing. What is in the store has to be read again.
    fn abandon(&self, room: &Room, written: &Written) {
        let caches = &self.inner.caches;
        caches.heads.finish(&room.number, None);
        for event in &written.changed {
            caches.events.finish(&(room.number, *event), None);
        }
        for (user, _) in written.members.iter().filter(|(user, _)| self.is_local(user)) {
            caches.memberships.finish(user, None);
        }
        if !written.members.is_empty() {
            caches.joined_users.finish(&room.number, None);
            caches.joined_servers.finish(&room.number, None);
        }
    }

    /// Brings the caches up to date with what was written.
    fn settle(&self, room: &Room, written: Written, begun: Begun, position: Position) {
        let caches = &self.inner.caches;
        let number = room.number;
        for (node_number, node) in written.nodes.made {
            caches.nodes.insert((number, node_number), node);
        }
        for (roots, root) in written.resolved {
            caches.resolved.insert((number, roots), root);
        }
        for (key_number, key) in written.names {
            caches.state_keys.insert((number, key.clone()), key_number);
            caches.state_key_names.insert((number, key_number), Arc::new(key));
        }
        for event in written.redacted {
            caches.events.finish(&(number, event.number), Some(event));
        }
        for event in written.events {
            let mut event = StoredEvent::clone(&event);
            if event.position == Position::PENDING {
                event.position = position;
            }
            let id = (number, event.pdu.event_id.clone());
            caches.event_numbers.insert(id, event.number);
            caches.events.put(&(number, event.number), Arc::new(event));
        }
        for event in written.outliers {
            let id = (number, event.pdu.event_id.clone());
            caches.event_numbers.insert(id, event.number);
            caches.events.put(&(number, event.number), event);
        }
        for (user, _) in written.members.iter().filter(|(user, _)| self.is_local(user)) {
            caches.memberships.finish(user, None);
        }
        if !written.members.is_empty() {
            let members = &written.members;
            let users = begun.users.map(|old| joined_after(old, members));
            caches.joined_users.finish(&number, users);
            let servers = begun.servers.map(|old| old.after(written.head.state, members));
            caches.joined_servers.finish(&number, servers);
        }
        caches.heads.finish(&number, Some(written.head));
    }
}

/// The joined users after some memberships have changed.
fn joined_after(
    mut users: Arc<JoinedUsers>,
    members: &[(OwnedUserId, MemberChange)],
) -> Arc<JoinedUsers> {
    let joins = |what: &Option<(MembershipState, _)>| {
        what.as_ref().is_some_and(|(membership, _)| *membership == MembershipState::Join)
    };
    for (user, change) in members {
        match (joins(&change.from), joins(&change.to)) {
            (false, true) => drop(Arc::make_mut(&mut users).insert(user.clone())),
            (true, false) => drop(Arc::make_mut(&mut users).remove(user)),
            (true, true) | (false, false) => {}
        }
    }
    users
}

/// Who was joined before a change, as far as it was cached.
#[derive(Default)]
struct Begun {
    users: Option<Arc<JoinedUsers>>,
    servers: Option<Arc<JoinedServers>>,
}

/// What the caches have to know once a batch is written.
struct Written {
    head: Arc<Head>,
    /// The stored events that change.
    changed: Vec<EventNumber>,
    events: Vec<Arc<StoredEvent>>,
    outliers: Vec<Arc<StoredEvent>>,
    redacted: Vec<Arc<StoredEvent>>,
    nodes: NewNodes,
    resolved: HashMap<Vec<StateRoot>, StateRoot>,
    names: Vec<(StateKeyNumber, crate::cache::StateKey)>,
    members: Vec<(OwnedUserId, MemberChange)>,
}

impl Assembly<'_> {
    /// Whether there is nothing to be written.
    fn is_empty(&self) -> bool {
        self.accepted.is_empty() && self.outliers.is_empty() && self.redacted.is_empty()
    }

    fn written(self) -> Written {
        // What was an outlier until now may be in the cache as one.
        let known = |event: &StoredEvent| {
            self.base.as_ref().is_some_and(|base| event.number < base.next_event)
        };
        let placed = self.accepted.iter().map(|accepted| &accepted.event);
        let changed = placed.chain(self.redacted.values()).filter(|event| known(event));
        Written {
            head: Arc::new(self.head),
            changed: changed.map(|event| event.number).collect(),
            events: self.accepted.into_iter().map(|accepted| accepted.event).collect(),
            outliers: self.outliers.into_values().collect(),
            redacted: self.redacted.into_values().collect(),
            nodes: self.nodes,
            resolved: self.resolved,
            names: self.names.into_iter().collect(),
            members: self.members.into_iter().collect(),
        }
    }

    /// The batch with everything that was assembled.
    fn batch(&self) -> Result<Batch> {
        let mut batch = Batch::new();
        let room = self.room.number;
        batch.expect(&HEADS, &room, self.base.as_deref());
        batch.put(&HEADS, &room, &self.head);
        for (number, node) in &self.nodes.made {
            batch.put(&STATE_NODES, &(room, *number), node.as_ref());
        }
        for (number, (kind, key)) in &self.names {
            let name = (kind.to_string(), key.clone());
            batch.put(&STATE_KEYS, &(room, name.0.clone(), name.1.clone()), number);
            batch.put(&STATE_KEY_NAMES, &(room, *number), &Json(name));
        }
        for accepted in &self.accepted {
            self.put_event(&mut batch, accepted)?;
        }
        for event in self.outliers.values() {
            self.put_known(&mut batch, event);
        }
        for event in self.redacted.values() {
            let key = (room, event.number);
            let meta = Stamped { position: event.position, value: event.meta() };
            batch.put(&EVENTS, &key, &event.pdu.json.as_ref().to_owned());
            batch.put(&EVENT_META, &key, &meta);
        }
        for (user, change) in &self.members {
            self.put_member(&mut batch, user, change);
        }
        batch.extend(self.rows.clone());
        Ok(batch)
    }

    /// An event with the rows by which it is found by its ID.
    fn put_known(&self, batch: &mut Batch, event: &StoredEvent) {
        let room = self.room.number;
        let key = (room, event.number);
        let event_id = event.pdu.event_id.as_str().to_owned();
        batch.put(&EVENTS, &key, &event.pdu.json.as_ref().to_owned());
        batch.put(&EVENT_META, &key, &Stamped { position: event.position, value: event.meta() });
        batch.put(&EVENT_NUMBERS, &(room, event_id.clone()), &event.number);
        batch.put(&EVENT_ROOMS, &event_id, &room);
    }

    /// An event with the rows by which it is found.
    fn put_event(&self, batch: &mut Batch, accepted: &Accepted) -> Result<()> {
        let room = self.room.number;
        let Accepted { event, room_state, shown, relay } = accepted;
        let pdu = &event.pdu;
        self.put_known(batch, event);
        if let Some(txn) = &event.txn {
            let key = TxnKey { device_id: txn.device_id.clone(), txn_id: txn.txn_id.clone() };
            let row = key.row(&self.room, &txn.user_id, &pdu.kind, txn.target.as_deref());
            batch.put(&TRANSACTIONS, &row, &event.number);
        }
        if !shown {
            return Ok(());
        }
        let row = TimelineRow { event: event.number, state: *room_state };
        let index =
            u32::try_from(event.index).map_err(|_| RoomsError::BadRow { why: "a place" })?;
        batch.put(&TIMELINE, &(room, Position::PENDING, index), &row);
        let time = (room, pdu.origin_server_ts.0.into(), event.number);
        batch.put(&EVENTS_BY_TIME, &time, &());
        batch.log(LOG_TOPIC, self.log_row(event, *relay).encode()?);
        Ok(())
    }

    fn log_row(&self, event: &StoredEvent, relay: bool) -> RoomsLogRow {
        let pdu = &event.pdu;
        let user: Option<OwnedUserId> = match (&pdu.kind, &pdu.state_key) {
            (TimelineEventType::RoomMember, Some(user)) => user.as_str().try_into().ok(),
            _ => None,
        };
        RoomsLogRow::Event {
            room: self.room.number,
            room_id: self.room.room_id.clone(),
            event: event.number,
            kind: pdu.kind.clone(),
            state_key: pdu.state_key.clone(),
            sender: pdu.sender.clone(),
            member: user.zip(pdu.membership()),
            relay,
        }
    }

    /// The rows about a user's membership in the current state.
    fn put_member(&self, batch: &mut Batch, user: &OwnedUserId, change: &MemberChange) {
        let room = self.room.number;
        let row = |membership: &MembershipState| {
            (room, membership.as_str().to_owned(), user.as_str().to_owned())
        };
        if let Some((membership, _)) = &change.from {
            batch.delete(&ROOM_MEMBERS, &row(membership));
        }
        if let Some((membership, event)) = &change.to {
            batch.put(&ROOM_MEMBERS, &row(membership), event);
        }
        let key = (user.as_str().to_owned(), room);
        if !self.rooms.is_local(user) {
            match &change.to {
                Some((MembershipState::Join, _)) => batch.put(&REMOTE_JOINS, &key, &()),
                _ => batch.delete(&REMOTE_JOINS, &key),
            }
            return;
        }
        match &change.to {
            Some((membership, event)) => {
                let row = MembershipRow {
                    room_id: self.room.room_id.clone(),
                    membership: membership.clone(),
                    event: *event,
                    forgotten: false,
                };
                batch.put(&MEMBERSHIPS, &key, &Stamped::pending(Json(row)));
            }
            None => batch.delete(&MEMBERSHIPS, &key),
        }
    }
}
