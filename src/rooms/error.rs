//! What can go wrong in a room, in words of the domain.

use event::EventError;
use ruma::{OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomVersionId};
use store::StoreError;

use crate::remote::RemoteError;

/// The result of whatever is done to rooms.
pub type Result<T, E = RoomsError> = std::result::Result<T, E>;

/// Why something could not be done to a room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoomsError {
    /// The thing named is not there, or the asker may not know that it is.
    #[error("{what} not found")]
    NotFound {
        /// What was looked for, as in "room" or "event".
        what: &'static str,
    },
    /// The authorisation rules, or a rule of this server, refuse it.
    #[error("{why}")]
    Forbidden {
        /// The reason, as a sentence for people.
        why: String,
    },
    /// The request makes no sense.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it, as a sentence for people.
        what: String,
    },
    /// The request names a parameter that is missing or has an impossible value.
    #[error("{what}")]
    InvalidParam {
        /// What is wrong with it, as a sentence for people.
        what: String,
    },
    /// The initial state of a new room contradicts itself or the rules.
    #[error("the room cannot be created like this: {why}")]
    InvalidRoomState {
        /// The reason, as a sentence for people.
        why: String,
    },
    /// We cannot make or take part in rooms of this version.
    #[error("room version {version} is not supported")]
    UnsupportedVersion {
        /// The version asked for.
        version: RoomVersionId,
    },
    /// An event is larger than the specification allows.
    #[error("the event is too large: {why}")]
    TooLarge {
        /// What is too large.
        why: String,
    },
    /// The alias points to a room already.
    #[error("the alias {alias} is taken")]
    AliasTaken {
        /// The alias asked for.
        alias: OwnedRoomAliasId,
    },
    /// An alias in `m.room.canonical_alias` does not point to the room.
    #[error("{why}")]
    BadAlias {
        /// The reason, as a sentence for people.
        why: String,
    },
    /// The user has to be a member to do this.
    #[error("{user} is not in the room {room}")]
    NotJoined {
        /// The user.
        user: OwnedUserId,
        /// The room.
        room: OwnedRoomId,
    },
    /// The user is banned already or cannot be in the target membership.
    #[error("{why}")]
    BadState {
        /// The reason, as a sentence for people.
        why: String,
    },
    /// The user lives on another server: it alone acts for them.
    #[error("{user} is not on this server")]
    Remote {
        /// The user.
        user: OwnedUserId,
    },
    /// The room is of a version that the other server did not name among those it knows.
    #[error("the room is of version {version}")]
    IncompatibleVersion {
        /// The room's version.
        version: RoomVersionId,
    },
    /// We do not know the rooms whose members may join a restricted room well enough to tell
    /// whether a user is in them.
    #[error("this server cannot tell whether the user may join: it is in none of the rooms named")]
    UnableToAuthorise,
    /// A user may join a restricted room, but nobody of ours has the power to let them in.
    #[error("nobody on this server has the power to let the user into this room")]
    UnableToGrant,
    /// We are still being told the state of the room, and cannot answer for it yet.
    #[error("this server does not know the whole room yet")]
    Partial,
    /// No server that was asked could help, or there is none to ask.
    #[error("{}", failures_text(.failures))]
    Servers {
        /// What each server that was asked said, in the order in which they were.
        failures: Vec<RemoteError>,
    },
    /// An event builds upon others that no server could give us now. It may go better later.
    #[error("what {event} builds upon could not be had: {why}")]
    Incomplete {
        /// The event.
        event: OwnedEventId,
        /// What was tried, as a sentence for people.
        why: String,
    },
    /// A room's records contradict each other.
    #[error("the records of the room {room} are damaged: {why}")]
    Damaged {
        /// The room.
        room: OwnedRoomId,
        /// What is wrong.
        why: String,
    },
    /// A row could not be read.
    #[error("a stored row is damaged: {why}")]
    BadRow {
        /// What is wrong.
        why: &'static str,
    },
    /// An event that others build upon is missing.
    #[error("the event {event} is missing")]
    MissingEvent {
        /// The event.
        event: OwnedEventId,
    },
    /// The event is malformed.
    #[error(transparent)]
    Event(EventError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The task that was writing ended before it could answer.
    #[error("the server is stopping")]
    Stopping,
}

/// What all servers said, as one sentence.
fn failures_text(failures: &[RemoteError]) -> String {
    if failures.is_empty() {
        return "no server is known that could help".to_owned();
    }
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    format!("no server could help: {}", texts.join("; "))
}

impl RoomsError {
    pub(crate) fn forbidden(why: impl Into<String>) -> Self {
        Self::Forbidden { why: why.into() }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    pub(crate) fn invalid_param(what: impl Into<String>) -> Self {
        Self::InvalidParam { what: what.into() }
    }
}

impl From<EventError> for RoomsError {
    fn from(error: EventError) -> Self {
        match error {
            EventError::Forbidden(why) => Self::Forbidden { why },
            EventError::TooLarge(why) => Self::TooLarge { why },
            other => Self::Event(other),
        }
    }
}
