//! Follows the log: what it tells of goes into the queues of the servers that it concerns, in the
//! same batch as the place in the log.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rooms::{EventNumber, Position, Room, RoomNumber, RoomsError, RoomsLogRow};
use ruma::{
    OwnedServerName, OwnedUserId, ServerName, UserId,
    events::{receipt::ReceiptThread, room::member::MembershipState},
};
use store::{Batch, Follower, Json, LogEntry, StoreError};
use users::{UsersError, UsersLogRow};

use super::{
    Shared,
    destinations::Destination,
    edus::ReadUpTo,
    outcome::{EDUS_MAX, EVENTS_MAX},
    tables::{CATCH_UP, EDUS, OUTBOX, QueuedEdu, QueuedEvent},
    transaction::SenderError,
};

/// Our name among those who follow the log.
pub(super) const NAME: &str = "federation.sender";

/// How many rows of the log are taken at a time.
const LOG_ROWS: usize = 256;

/// How many rows are put into queues in one batch, about.
const QUEUE_ROWS: usize = 20_000;

/// How long it is waited after something could not be read or written.
const PAUSE: Duration = Duration::from_millis(200);

/// Follows the log until the store fails or closes. A new follower begins after a position.
pub(super) async fn run(shared: Arc<Shared>, begin: Position) {
    loop {
        match follow(&shared, begin).await {
            SenderError::Store(StoreError::Closed) => return,
            SenderError::Store(error @ StoreError::Failed { .. }) => {
                tracing::error!(%error, "other servers are no longer told of what happens");
                return;
            }
            error => {
                tracing::warn!(%error, "the log cannot be followed, and is tried again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Follows the log until something fails.
async fn follow(shared: &Arc<Shared>, begin: Position) -> SenderError {
    let follower = Follower::starting_after(shared.store.clone(), NAME, begin).await;
    let mut follower = match follower {
        Ok(follower) => follower,
        Err(error) => return error.into(),
    };
    loop {
        let result = async {
            let rows = follower.next(LOG_ROWS).await?;
            let mut spread = Spread::new(shared);
            let mut done = None;
            for row in &rows {
                spread.row(row).await?;
                done = Some(row);
                if spread.queued >= QUEUE_ROWS {
                    break;
                }
            }
            if let Some(done) = done {
                follower.advance(&mut spread.batch, done);
            }
            spread.finish().await
        };
        if let Err(error) = result.await {
            return error;
        }
    }
}

/// Some rows of the log on their way into queues.
struct Spread<'a> {
    shared: &'a Arc<Shared>,
    batch: Batch,
    queued: usize,
    news: BTreeMap<OwnedServerName, News>,
}

/// What there is to be told to one server.
#[derive(Default)]
struct News {
    events: u64,
    edus: u64,
    missed: Vec<RoomNumber>,
    presences: Vec<OwnedUserId>,
    receipts: Vec<((ruma::OwnedRoomId, OwnedUserId, String), ReadUpTo)>,
    to_device: bool,
}

impl<'a> Spread<'a> {
    fn new(shared: &'a Arc<Shared>) -> Self {
        Self { shared, batch: Batch::new(), queued: 0, news: BTreeMap::new() }
    }

    /// Commits what was put into queues, and wakes those who send it.
    async fn finish(self) -> Result<(), SenderError> {
        self.shared.store.commit(self.batch).await?;
        for (server, news) in self.news {
            self.shared.touch(&server, |destination| news.tell(destination));
        }
        Ok(())
    }

    async fn row(&mut self, row: &LogEntry) -> Result<(), SenderError> {
        let result = match row.topic {
            rooms::LOG_TOPIC => match RoomsLogRow::decode(&row.payload) {
                Ok(change) => self.room_row(row, change).await,
                Err(error) => Err(error.into()),
            },
            users::LOG_TOPIC => match UsersLogRow::decode(&row.payload) {
                Ok(change) => self.user_row(row, change).await,
                Err(error) => Err(error.into()),
            },
            _ => Ok(()),
        };
        match result {
            Err(SenderError::Store(error) | SenderError::Rooms(RoomsError::Store(error))) => {
                Err(SenderError::Store(error))
            }
            Err(SenderError::Users(UsersError::Store(error))) => Err(SenderError::Store(error)),
            // What passes is waited for: the row is taken again.
            Err(
                error @ (SenderError::Rooms(RoomsError::Stopping)
                | SenderError::Users(
                    UsersError::Contended | UsersError::Busy | UsersError::Stopping,
                )),
            ) => Err(error),
            Err(error) => {
                // It would fail again: the others must not wait for it.
                tracing::error!(%error, position = row.position.get(), "a log row is not told of");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn room_row(&mut self, row: &LogEntry, change: RoomsLogRow) -> Result<(), SenderError> {
        let rooms = &self.shared.rooms;
        match change {
            RoomsLogRow::Event { room, event, sender, relay, member, .. } => {
                let is_ours = rooms.is_local(&sender) || relay;
                if is_ours || member.is_some() {
                    let room = rooms.room_by_number(room).await?;
                    if is_ours {
                        self.event(row, &room, event, member.as_ref()).await?;
                    }
                    match member {
                        Some((user, MembershipState::Join)) => self.greet(&room, &user).await?,
                        Some((user, _)) => self.shared.part(&room, &user, row.position).await?,
                        None => {}
                    }
                }
                Ok(())
            }
            RoomsLogRow::Receipt { room, user, private: false, .. } if rooms.is_local(&user) => {
                self.receipt(row.position, room, &user).await
            }
            _ => Ok(()),
        }
    }

    /// Queues an event for the servers that have to be told of it.
    async fn event(
        &mut self,
        row: &LogEntry,
        room: &Room,
        number: EventNumber,
        member: Option<&(OwnedUserId, MembershipState)>,
    ) -> Result<(), SenderError> {
        let rooms = &self.shared.rooms;
        let event = rooms.load_event(room, number).await?;
        for server in rooms.servers_to_tell(room, &event).await? {
            if !self.shared.deliver.is_allowed(&server) {
                continue;
            }
            let ends = member.is_some_and(|(user, membership)| {
                user.server_name() == server && *membership != MembershipState::Join
            });
            self.queue(row, &server, QueuedEvent { room: room.number, event: number }, ends);
        }
        Ok(())
    }

    fn queue(&mut self, row: &LogEntry, server: &ServerName, event: QueuedEvent, ends: bool) {
        enum Way {
            Queue,
            Missed,
            Nothing,
        }
        let way = self.shared.destinations.with(server, |destination| {
            if !destination.is_behind() && destination.events < EVENTS_MAX {
                Way::Queue
            } else if ends || !destination.missed.contains(&event.room) {
                Way::Missed
            } else {
                Way::Nothing
            }
        });
        match way.unwrap_or(Way::Queue) {
            Way::Queue => {
                let key = (server.to_string(), row.position, row.index);
                self.batch.put(&OUTBOX, &key, &event);
                self.news_for(server).events += 1;
            }
            Way::Missed => {
                self.batch.put(&CATCH_UP, &(server.to_string(), event.room), &event.event);
                self.news_for(server).missed.push(event.room);
            }
            Way::Nothing => return,
        }
        self.queued += 1;
    }

    fn news_for(&mut self, server: &ServerName) -> &mut News {
        self.news.entry(server.to_owned()).or_default()
    }

    /// A receipt of a user of ours, as it is now.
    async fn receipt(
        &mut self,
        position: Position,
        room: RoomNumber,
        user: &UserId,
    ) -> Result<(), SenderError> {
        let rooms = &self.shared.rooms;
        let room = rooms.room_by_number(room).await?;
        let before = Position::new(position.get().saturating_sub(1));
        let receipts = rooms.receipts_after(&room, before, position).await?;
        let servers = rooms.joined_servers(&room).await?;
        for receipt in receipts.iter().filter(|r| r.user_id == user && !r.private) {
            let thread = match &receipt.thread {
                ReceiptThread::Unthreaded => String::new(),
                thread => thread.as_str().unwrap_or_default().to_owned(),
            };
            for server in servers.iter().filter(|server| self.shared.is_told(server)) {
                let key = (room.room_id.clone(), user.to_owned(), thread.clone());
                let read = ReadUpTo {
                    event_id: receipt.event_id.clone(),
                    timestamp_ms: receipt.timestamp_ms,
                };
                self.news_for(server).receipts.push((key, read));
            }
        }
        Ok(())
    }

    /// When somebody joins, both sides learn who is online.
    async fn greet(&mut self, room: &Room, user: &UserId) -> Result<(), SenderError> {
        for (server, users) in self.shared.greetings(room, user).await? {
            self.news_for(&server).presences.extend(users);
        }
        Ok(())
    }

    async fn user_row(&mut self, row: &LogEntry, change: UsersLogRow) -> Result<(), SenderError> {
        match change {
            UsersLogRow::DeviceListChanged { user_id, stream_ids, signing_keys }
                if self.shared.rooms.is_local(&user_id) =>
            {
                let servers = self.shared.rooms.servers_sharing(&user_id).await?;
                for server in servers.iter().filter(|server| self.shared.is_told(server)) {
                    self.list_change(row, server, &user_id, &stream_ids, signing_keys);
                }
            }
            UsersLogRow::ToDeviceOut { destination } if self.shared.is_told(&destination) => {
                self.news_for(&destination).to_device = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Queues what a server is told of a change of a user's devices or keys.
    fn list_change(
        &mut self,
        row: &LogEntry,
        server: &ServerName,
        user: &UserId,
        stream_ids: &[u64],
        signing_keys: bool,
    ) {
        let waiting = self.shared.destinations.with(server, |destination| destination.edus);
        if waiting.is_some_and(|waiting| waiting >= EDUS_MAX as u64) {
            tracing::warn!(destination = %server, "too many EDUs wait for a server");
            return;
        }
        let user = || user.to_owned();
        let keys = signing_keys.then(|| QueuedEdu::SigningKeys { user: user() });
        let devices = stream_ids.iter().map(|&stream| QueuedEdu::Device { user: user(), stream });
        let edus: Vec<_> = keys.into_iter().chain(devices).collect();
        // The places of one row's EDUs lie between this row's and the next one's: a commit has far
        // fewer rows than there are places.
        let first = row.index.saturating_mul(EDU_PLACES);
        for (place, edu) in (first..).zip(edus) {
            self.batch.put(&EDUS, &(server.to_string(), row.position, place), &Json(edu));
            self.news_for(server).edus += 1;
            self.queued += 1;
        }
    }
}

/// How many places for EDUs a row of the log has.
const EDU_PLACES: u32 = 4_096;

impl News {
    fn tell(self, destination: &mut Destination) {
        destination.events += self.events;
        destination.edus += self.edus;
        if !self.missed.is_empty() {
            destination.has_missed = true;
            if destination.is_behind() {
                destination.missed.extend(self.missed);
            }
        }
        destination.has_to_device |= self.to_device;
        if destination.is_behind() {
            return;
        }
        for user in self.presences {
            destination.fleeting.add_presence(user);
        }
        for (key, read) in self.receipts {
            destination.fleeting.add_receipt(key, read);
        }
    }
}

impl Shared {
    /// Whether a server is another one to which we may talk.
    pub(super) fn is_told(&self, server: &ServerName) -> bool {
        server != self.rooms.server_name() && self.deliver.is_allowed(server)
    }
}
