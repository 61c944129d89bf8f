//! Getting what an event builds upon from other servers, outside of any lane.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use event::{Pdu, VerifiedPdu};
use ruma::{OwnedEventId, OwnedServerName, ServerName};

use crate::{
    Received, Rooms,
    error::{Result, RoomsError},
    outliers::deciding,
    receive::place::{FetchedState, Outcome, Supply},
    remote::{Remote, RemoteError, RemoteResult},
    room::Room,
};

/// Most servers that are asked for one thing: the one that sent the event, and a few others.
const SERVERS_MAX: usize = 4;

/// Most requests that one event may cause.
const REQUESTS_MAX: u32 = 600;

/// How often an event is tried to be placed with what was fetched for it.
const ROUNDS_MAX: u32 = 4;

/// Most events of an auth chain that are asked for one by one.
const SINGLE_AUTH_MAX: usize = 60;

/// What an event builds upon and we do not have.
#[derive(Clone, Debug, Default)]
pub(super) struct Lack {
    /// Events that decide over it, not stored at all.
    pub(super) auth_events: Vec<OwnedEventId>,
    /// Events that it follows, whose place is not known.
    pub(super) prev_events: Vec<OwnedEventId>,
}

impl Lack {
    pub(super) fn is_empty(&self) -> bool {
        self.auth_events.is_empty() && self.prev_events.is_empty()
    }
}

/// Something could not be fetched.
#[derive(Debug)]
pub(crate) struct Missed(pub(crate) String);

/// One event being received, with those before it.
pub(crate) struct Receiving<'a> {
    pub(super) rooms: &'a Rooms,
    pub(crate) room: Arc<Room>,
    pub(super) origin: &'a ServerName,
    /// Those who are asked, in this order; empty until that is needed.
    servers: Vec<OwnedServerName>,
    /// States that were fetched already.
    pub(super) states: HashMap<OwnedEventId, Arc<FetchedState>>,
    requests_left: u32,
    /// Whether a server that might have helped could not be asked, or had no answer just now.
    pub(super) unreached: bool,
}

impl<'a> Receiving<'a> {
    pub(crate) fn new(rooms: &'a Rooms, room: Arc<Room>, origin: &'a ServerName) -> Self {
        Self {
            rooms,
            room,
            origin,
            servers: Vec::new(),
            states: HashMap::new(),
            requests_left: REQUESTS_MAX,
            unreached: false,
        }
    }

    /// Receives the event, and before it those that are missing, the oldest first.
    pub(super) async fn run(mut self, event: VerifiedPdu) -> Result<Received> {
        let lack = self.rooms.lack(&self.room, event.pdu()).await?;
        if !lack.prev_events.is_empty() {
            for earlier in self.missing_events(&event).await? {
                let event_id = earlier.pdu().event_id.clone();
                match self.take(earlier).await {
                    Ok(received) => {
                        tracing::debug!(event.id = %event_id, ?received, "filled a gap");
                    }
                    Err(error @ RoomsError::Incomplete { .. }) => {
                        tracing::info!(event.id = %event_id, %error, "a gap stays");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.take(event).await
    }

    /// Receives one event; what it follows and is not there yet counts as a gap.
    async fn take(&mut self, event: VerifiedPdu) -> Result<Received> {
        if let Some(seen) = self.rooms.seen(&self.room, event.pdu()).await? {
            return Ok(seen);
        }
        let unwanted = self.rooms.unwanted(&self.room, event.pdu()).await?;
        let mut supply = Supply { unwanted, ..Supply::default() };
        // What its auth events refuse needs no state: so first these, then the others.
        let mut lack =
            Lack { prev_events: Vec::new(), ..self.rooms.lack(&self.room, event.pdu()).await? };
        for _ in 0..ROUNDS_MAX {
            if let Err(Missed(why)) = self.fetch(event.pdu(), &lack, &mut supply).await? {
                if self.unreached {
                    let event = event.pdu().event_id.clone();
                    return Err(RoomsError::Incomplete { event, why });
                }
                return Ok(Received::Rejected { why });
            }
            // A large state does not go into one commit.
            self.rooms.store_ahead(&self.room, &supply.outliers, &[]).await?;
            match self.rooms.try_place(&self.room, &event, &supply).await? {
                Outcome::Done(received) => return Ok(received),
                Outcome::Lacks(more) => lack = more,
            }
        }
        let why = "what others say of the room does not fit together".to_owned();
        Ok(Received::Rejected { why })
    }

    async fn fetch(
        &mut self,
        pdu: &Pdu,
        lack: &Lack,
        supply: &mut Supply,
    ) -> Result<Result<(), Missed>> {
        if !lack.auth_events.is_empty()
            && let Err(missed) = self.auth_events(pdu, &lack.auth_events, supply).await?
        {
            return Ok(Err(missed));
        }
        for prev in &lack.prev_events {
            if let Err(missed) = self.state_after(prev, supply).await? {
                return Ok(Err(missed));
            }
        }
        Ok(Ok(()))
    }

    /// Fetches events that decide over another, and those that decide over them, and so on.
    pub(crate) async fn auth_events(
        &mut self,
        pdu: &Pdu,
        missing: &[OwnedEventId],
        supply: &mut Supply,
    ) -> Result<Result<(), Missed>> {
        let mut pool: HashMap<OwnedEventId, VerifiedPdu> = HashMap::new();
        let mut told = Missed("no server is known that could help".to_owned());
        let room = Arc::clone(&self.room);
        for server in self.servers(pdu.sender.server_name()).await? {
            let remote = self.remote();
            match self.ask(remote.event_auth(&server, &room, &pdu.event_id)).await {
                Ok(chain) => self.pool(&mut pool, chain),
                Err(missed) => told = missed,
            }
            let mut singles = 0;
            loop {
                let lacking = self.lacking(missing, &pool).await?;
                if lacking.is_empty() {
                    supply.outliers.extend(self.closure(missing, &mut pool));
                    return Ok(Ok(()));
                }
                let before = pool.len();
                for id in lacking.into_iter().take(SINGLE_AUTH_MAX.saturating_sub(singles)) {
                    singles += 1;
                    match self.ask(remote.event(&server, &room, &id)).await {
                        Ok(event) => self.pool(&mut pool, [event]),
                        Err(missed) => told = missed,
                    }
                }
                if pool.len() == before {
                    break;
                }
            }
        }
        let Missed(why) = told;
        Ok(Err(Missed(format!("the events that would allow it are missing: {why}"))))
    }

    /// Which of some events, and of those that decide over them, are neither stored nor in a pool.
    pub(crate) async fn lacking(
        &self,
        wanted: &[OwnedEventId],
        pool: &HashMap<OwnedEventId, VerifiedPdu>,
    ) -> Result<Vec<OwnedEventId>> {
        let mut met: HashSet<OwnedEventId> = wanted.iter().cloned().collect();
        let mut work: Vec<OwnedEventId> = wanted.to_vec();
        let mut unknown = Vec::new();
        while let Some(id) = work.pop() {
            let Some(event) = pool.get(&id) else {
                unknown.push(id);
                continue;
            };
            for decides in deciding(event.pdu(), &self.room) {
                if met.insert(decides.clone()) {
                    work.push(decides);
                }
            }
        }
        let stored = self.rooms.event_numbers(&self.room, &unknown).await?;
        Ok(unknown.into_iter().zip(stored).filter(|(_, n)| n.is_none()).map(|(id, _)| id).collect())
    }

    /// Takes some events and those that decide over them out of a pool.
    fn closure(
        &self,
        wanted: &[OwnedEventId],
        pool: &mut HashMap<OwnedEventId, VerifiedPdu>,
    ) -> Vec<VerifiedPdu> {
        let mut work: Vec<OwnedEventId> = wanted.to_vec();
        let mut taken = Vec::new();
        while let Some(id) = work.pop() {
            let Some(event) = pool.remove(&id) else { continue };
            work.extend(deciding(event.pdu(), &self.room));
            taken.push(event);
        }
        taken
    }

    /// Puts events into a pool, as far as they are of this room.
    pub(crate) fn pool(
        &self,
        pool: &mut HashMap<OwnedEventId, VerifiedPdu>,
        events: impl IntoIterator<Item = VerifiedPdu>,
    ) {
        for event in events {
            if event.pdu().room_id == self.room.room_id {
                pool.entry(event.pdu().event_id.clone()).or_insert(event);
            }
        }
    }

    /// Whom to ask: who sent the event first, then the server of its sender, then those with the
    /// most users.
    pub(super) async fn servers(&mut self, sender: &ServerName) -> Result<Vec<OwnedServerName>> {
        if self.servers.is_empty() {
            let joined = self.rooms.joined_servers(&self.room).await?.by_users();
            let remote = self.remote();
            let first = [self.origin.to_owned(), sender.to_owned()];
            let mut servers: Vec<OwnedServerName> = Vec::new();
            for server in first.into_iter().chain(joined) {
                let fits = server != *self.rooms.server_name() && !servers.contains(&server);
                if !fits || servers.len() >= SERVERS_MAX {
                    continue;
                }
                if server == *self.origin || remote.is_reachable(&server) {
                    servers.push(server);
                } else {
                    self.unreached = true;
                }
            }
            self.servers = servers;
        }
        Ok(self.servers.clone())
    }

    pub(super) fn remote(&self) -> Arc<dyn Remote> {
        Arc::clone(&self.rooms.inner.config.remote)
    }

    /// Awaits an answer, within what one event may cost.
    pub(crate) async fn ask<T>(
        &mut self,
        answer: impl Future<Output = RemoteResult<T>>,
    ) -> Result<T, Missed> {
        self.charge(1)?;
        answer.await.map_err(|error| self.note(&error))
    }

    /// Counts requests that are about to be made, where they are not made by [`Receiving::ask`].
    pub(super) fn charge(&mut self, count: usize) -> Result<(), Missed> {
        let left =
            u32::try_from(count).ok().and_then(|count| self.requests_left.checked_sub(count));
        let Some(left) = left else {
            return Err(Missed("too many requests would be needed".to_owned()));
        };
        self.requests_left = left;
        Ok(())
    }

    /// Takes note of a failure.
    pub(super) fn note(&mut self, error: &RemoteError) -> Missed {
        self.unreached |= is_passing(error);
        Missed(error.to_string())
    }
}

impl Rooms {
    /// As [`Rooms::receive`], for a step of a user of ours that another server has taken: also into
    /// a room that we believe deserted.
    pub(crate) async fn receive_step(
        &self,
        server: &ServerName,
        event: VerifiedPdu,
    ) -> Result<Received> {
        let Some(room) = self.room_if_resident(&event.pdu().room_id).await? else {
            return Ok(Received::NotOurs);
        };
        if let Some(seen) = self.seen(&room, event.pdu()).await? {
            return Ok(seen);
        }
        Receiving::new(self, room, server).run(event).await
    }
}

/// Whether the same request may well succeed later.
pub(super) fn is_passing(error: &RemoteError) -> bool {
    match error {
        RemoteError::Unreachable { .. } => true,
        RemoteError::Refused { status, .. } => *status == 429 || *status >= 500,
        RemoteError::Denied { .. } | RemoteError::BadAnswer { .. } => false,
    }
}
