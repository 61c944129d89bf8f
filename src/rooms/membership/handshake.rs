//! Asking other servers to help one of our users into a room, or out of it.

use std::{collections::HashSet, time::Duration};

use event::{Completion, Pdu};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedServerName, OwnedUserId,
    RoomId, RoomVersionId, ServerName, UInt, UserId, room_version_rules::RoomVersionRules,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    membership::Profile,
    remote::{RemoteError, Step, Template},
    room::Room,
};

/// Most servers that are asked for one step.
const SERVERS_ASKED_MAX: usize = 20;

/// Most servers of a room that are thought of besides those that the user named.
const SERVERS_OF_ROOM_MAX: usize = 10;

/// How long one server may take to prepare an event.
const PREPARE_TIME_MAX: Duration = Duration::from_secs(20);

/// How long all servers together may take until the last one is asked.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(90);

/// The same for what can be done without them.
const BRIEF_TIME_MAX: Duration = Duration::from_secs(15);

/// A step that a user of ours takes with the help of other servers.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) user: OwnedUserId,
    pub(crate) room_id: OwnedRoomId,
    pub(crate) step: Step,
    pub(crate) profile: Profile,
    pub(crate) reason: Option<String>,
}

/// A completed member event, and the room it is of: which need not be in the store.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) room: Room,
    pub(crate) event: Pdu,
}

/// Why one server could not help.
#[derive(Debug)]
pub(crate) enum Setback {
    /// The next one may.
    Server(RemoteError),
    /// No other can either.
    Ours(RoomsError),
}

impl From<RemoteError> for Setback {
    fn from(error: RemoteError) -> Self {
        Self::Server(error)
    }
}

impl From<RoomsError> for Setback {
    fn from(error: RoomsError) -> Self {
        Self::Ours(error)
    }
}

impl Setback {
    /// Blames a server for what is wrong with its answer, but not for our own failures.
    pub(crate) fn blame(server: &ServerName, error: RoomsError) -> Self {
        match error {
            RoomsError::Store(_) | RoomsError::Stopping | RoomsError::BadRow { .. } => {
                Self::Ours(error)
            }
            other => Self::Server(RemoteError::BadAnswer {
                server: server.to_owned(),
                why: other.to_string(),
            }),
        }
    }
}

/// Asking servers one after the other until one helps.
pub(crate) struct Turn<'a> {
    rooms: &'a Rooms,
    servers: std::vec::IntoIter<OwnedServerName>,
    until: Instant,
    failures: Vec<RemoteError>,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(rooms: &'a Rooms, servers: Vec<OwnedServerName>) -> Self {
        Self::within(rooms, servers, HANDSHAKE_TIME_MAX)
    }

    /// As [`Turn::new`], for what can be done without help.
    pub(crate) fn brief(rooms: &'a Rooms, servers: Vec<OwnedServerName>) -> Self {
        Self::within(rooms, servers, BRIEF_TIME_MAX)
    }

    fn within(rooms: &'a Rooms, servers: Vec<OwnedServerName>, time: Duration) -> Self {
        let until = Instant::now() + time;
        Self { rooms, servers: servers.into_iter(), until, failures: Vec::new() }
    }

    /// The next server to be asked, as long as there is time.
    pub(crate) fn next_server(&mut self) -> Option<OwnedServerName> {
        if Instant::now() < self.until {
            return self.servers.next();
        }
        let late = |server| {
            let why = "there was no time left to ask it".to_owned();
            RemoteError::Unreachable { server, why }
        };
        self.failures.extend(self.servers.by_ref().map(late));
        None
    }

    /// Asks a server. `None` when it could not help.
    ///
    /// # Errors
    /// What no other server could help with either; [`RoomsError::Stopping`] when we stop.
    pub(crate) async fn ask<T>(
        &mut self,
        asking: impl Future<Output = Result<T, Setback>>,
    ) -> Result<Option<T>> {
        let asked = self.rooms.inner.closing.run_until_cancelled(asking).await;
        match asked.ok_or(RoomsError::Stopping)? {
            Ok(done) => Ok(Some(done)),
            Err(Setback::Server(failure)) => {
                tracing::info!(error = %failure, "a server could not help");
                self.failures.push(failure);
                Ok(None)
            }
            Err(Setback::Ours(error)) => Err(error),
        }
    }

    /// What all servers said.
    pub(crate) fn give_up(self) -> RoomsError {
        RoomsError::Servers { failures: self.failures }
    }
}

impl Rooms {
    /// Lets a server prepare a member event, and completes it.
    pub(crate) async fn prepare_with(
        &self,
        server: &ServerName,
        wish: &Wish,
    ) -> Result<Prepared, Setback> {
        let remote = &self.inner.config.remote;
        let preparing =
            remote.prepare(server, &wish.room_id, &wish.user, wish.step, &event::SUPPORTED);
        let prepared = timeout_at(Instant::now() + PREPARE_TIME_MAX, preparing).await;
        let late = |_| RemoteError::Unreachable {
            server: server.to_owned(),
            why: "it did not answer in time".to_owned(),
        };
        let Template { version, event } = prepared.map_err(late)??;
        let rules = self.rules_of(server, &version)?;
        let room = self.room_of_version(&wish.room_id, version, rules).await?;
        let completion = Completion {
            room_id: &wish.room_id,
            user: &wish.user,
            membership: wish.step.membership(),
            content: wish.content(),
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(self.now_ms())),
        };
        let config = &self.inner.config;
        let completed =
            event::complete(event.get(), completion, self.server_name(), &config.key, &room.rules);
        let event = completed.map_err(|error| Setback::blame(server, error.into()))?;
        Ok(Prepared { room, event })
    }

    /// The rules of a version that a server names.
    fn rules_of(
        &self,
        server: &ServerName,
        version: &RoomVersionId,
    ) -> Result<RoomVersionRules, RemoteError> {
        let supported = event::SUPPORTED.contains(version);
        event::rules(version).filter(|_| supported).ok_or_else(|| RemoteError::Refused {
            server: server.to_owned(),
            status: 400,
            errcode: "M_INCOMPATIBLE_ROOM_VERSION".to_owned(),
            message: format!("the room is of version {version}"),
            room_version: Some(version.clone()),
        })
    }

    /// A room that may not be in the store yet.
    async fn room_of_version(
        &self,
        room_id: &RoomId,
        version: RoomVersionId,
        rules: RoomVersionRules,
    ) -> Result<Room> {
        let number = match self.room(room_id).await? {
            Some(room) => room.number,
            None => self.free_room_number(room_id).await?,
        };
        Ok(Room { number, room_id: room_id.to_owned(), version, rules })
    }

    /// The servers that may be able to help a user, in the order in which to ask them: those named,
    /// the one that an invite came from, those in the room, and the one that made the room. Those
    /// that have just failed come last.
    pub(crate) async fn helpers(
        &self,
        user: &UserId,
        room_id: &RoomId,
        via: &[OwnedServerName],
    ) -> Result<Vec<OwnedServerName>> {
        let mut servers: Vec<OwnedServerName> =
            via.iter().take(SERVERS_ASKED_MAX).cloned().collect();
        if let Some(room) = self.room(room_id).await? {
            servers.extend(self.servers_outside(&room, user).await?);
            let joined = self.joined_servers(&room).await?.by_users();
            let joined = joined.into_iter().filter(|server| server != self.server_name());
            servers.extend(joined.take(SERVERS_OF_ROOM_MAX));
        }
        servers.extend(room_id.server_name().map(ToOwned::to_owned));
        let mut seen = HashSet::new();
        servers.retain(|server| server != self.server_name() && seen.insert(server.clone()));
        servers.truncate(SERVERS_ASKED_MAX);
        let remote = &self.inner.config.remote;
        servers.sort_by_key(|server| !remote.is_reachable(server));
        Ok(servers)
    }

    /// Runs a handshake to its end, even if the one who asked for it goes away: the other server
    /// may have taken the event already.
    pub(crate) async fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.inner.tasks.spawn(work).await.map_err(|_| RoomsError::Stopping)?
    }
}

impl Wish {
    /// The content of the member event, but for the membership.
    fn content(&self) -> CanonicalJsonObject {
        let mut content = CanonicalJsonObject::new();
        let mut put = |field: &str, value: &Option<String>| {
            if let Some(value) = value {
                content.insert(field.to_owned(), value.as_str().into());
            }
        };
        put("reason", &self.reason);
        if self.step != Step::Leave {
            put("displayname", &self.profile.displayname);
            put("avatar_url", &self.profile.avatar_url);
        }
        content
    }
}
