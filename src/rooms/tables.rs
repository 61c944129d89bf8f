//! Every table of this crate. All writing of events goes through `commit`.

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, events::room::member::MembershipState,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue as RawJsonValue;
use store::{Family, Json, Position, Stamped, StoreError, Table, Value, Writer};

use crate::{
    codec::{Cursor, Sink},
    head::Head,
    partial::PartialRow,
    room::RoomRecord,
    state::node::Node,
    stored_event::EventMeta,
};

store::number_key! {
    /// A room, in keys: taken from the hash of its ID, so that no counter is shared between rooms.
    pub struct RoomNumber
}
store::number_key! {
    /// An event within its room, counted from 1 in the order in which we stored them.
    pub struct EventNumber
}
store::number_key! {
    /// A pair of event type and state key within its room, counted from 0.
    pub struct StateKeyNumber
}
store::number_key! {
    /// A node of the tree that holds a room's states, counted from 1. 0 stands for the empty tree.
    pub struct NodeNumber
}

/// A whole state of a room: the root of its tree. [`StateRoot::EMPTY`] has no entries.
pub type StateRoot = NodeNumber;

/// Rooms as such. Key: room. Written once by `create`; the record never changes.
pub(crate) const ROOMS: Table<RoomNumber, Json<RoomRecord>> =
    Table::new(0x0101, "rooms", Family::Main);

/// The number of each room we know. Key: room ID. Written with the row in [`ROOMS`].
pub(crate) const ROOM_NUMBERS: Table<String, RoomNumber> =
    Table::new(0x0102, "room_numbers", Family::Main);

/// Where a room stands: counters, forward extremities and current state. Key: room.
/// Every commit that adds an event expects the head it was built upon.
pub(crate) const HEADS: Table<RoomNumber, Head> = Table::new(0x0103, "heads", Family::Main);

/// The canonical JSON of each event; the pruned form once it is redacted. Key: room, event.
pub(crate) const EVENTS: Table<(RoomNumber, EventNumber), String> =
    Table::new(0x0104, "events", Family::Events);

/// What we know of each event besides its JSON. Key: room, event. Stamped with its position, which
/// is zero for an outlier.
pub(crate) const EVENT_META: Table<(RoomNumber, EventNumber), Stamped<EventMeta>> =
    Table::new(0x0105, "event_meta", Family::Main);

/// The number of each event. Key: room, event ID. Written with the row in [`EVENTS`].
pub(crate) const EVENT_NUMBERS: Table<(RoomNumber, String), EventNumber> =
    Table::new(0x0106, "event_numbers", Family::Main);

/// The room of each event, for those who know only its ID. Key: event ID. Written with the row in
/// [`EVENTS`].
pub(crate) const EVENT_ROOMS: Table<String, RoomNumber> =
    Table::new(0x0107, "event_rooms", Family::Main);

/// The events of a room in the order in which we accepted them. Key: room, position, index in the
/// commit.
/// The value holds the room's state after the event. Outliers and rejected events are not in it.
pub(crate) const TIMELINE: Table<(RoomNumber, Position, u32), TimelineRow> =
    Table::new(0x0108, "timeline", Family::Index);

/// The number of each state key. Key: room, event type, state key. Never changes once written.
pub(crate) const STATE_KEYS: Table<(RoomNumber, String, String), StateKeyNumber> =
    Table::new(0x0109, "state_keys", Family::Index);

/// The event type and state key of each number: [`STATE_KEYS`] read backwards. Key: room, number.
pub(crate) const STATE_KEY_NAMES: Table<(RoomNumber, StateKeyNumber), Json<(String, String)>> =
    Table::new(0x010a, "state_key_names", Family::Index);

/// The nodes of the trees that hold a room's states. Key: room, node. A node never changes.
pub(crate) const STATE_NODES: Table<(RoomNumber, NodeNumber), Node> =
    Table::new(0x010b, "state_nodes", Family::Index);

/// Who is what in the current state of a room. Key: room, membership, user. Value: the member
/// event.
/// Agrees with the room's current state after every commit.
pub(crate) const ROOM_MEMBERS: Table<(RoomNumber, String, String), EventNumber> =
    Table::new(0x010c, "room_members", Family::Index);

/// The membership of each user of this server in each room. Key: user, room. Stamped with the
/// position of the member event.
/// Agrees with the room's current state after every commit.
pub(crate) const MEMBERSHIPS: Table<(String, RoomNumber), Stamped<Json<MembershipRow>>> =
    Table::new(0x010d, "memberships", Family::Index);

/// The event that each client transaction made. Key: room, user, device, event type (of a
/// redaction: and after a zero byte its target), transaction ID. Written with the event.
pub(crate) const TRANSACTIONS: Table<(RoomNumber, String, String, String, String), EventNumber> =
    Table::new(0x010e, "transactions", Family::Main);

/// Where each alias of this server points. Key: alias.
pub(crate) const ALIASES: Table<String, Json<AliasRow>> =
    Table::new(0x0110, "aliases", Family::Main);

/// The aliases of each room on this server: [`ALIASES`] read backwards. Key: room, alias.
pub(crate) const ROOM_ALIASES: Table<(RoomNumber, String), ()> =
    Table::new(0x0111, "room_aliases", Family::Index);

/// The rooms in the published directory. Key: room.
pub(crate) const DIRECTORY: Table<RoomNumber, ()> = Table::new(0x0112, "directory", Family::Index);

/// The newest receipt of each user, type and thread. Key: room, type, thread, user. Stamped with
/// when it was set.
pub(crate) const RECEIPTS: Table<(RoomNumber, String, String, String), Stamped<Json<ReceiptRow>>> =
    Table::new(0x0113, "receipts", Family::Index);

/// The receipts by when they were set. Key: room, position, type, thread, user. One row for each in
/// [`RECEIPTS`].
pub(crate) const RECEIPTS_BY_POSITION: Table<(RoomNumber, Position, String, String, String), ()> =
    Table::new(0x0114, "receipts_by_position", Family::Index);

/// Users of this server who asked to be erased. Key: user. Value: when, in milliseconds since the
/// Unix epoch.
pub(crate) const ERASED: Table<String, u64> = Table::new(0x0115, "erased", Family::Main);

/// Holes in timelines: what is missing just before the event that was accepted at a position, as
/// the first of its commit. Key: room, position. Gone once nothing is missing any more.
pub(crate) const GAPS: Table<(RoomNumber, Position), Json<GapRow>> =
    Table::new(0x0116, "gaps", Family::Index);

/// The events that were fetched into holes of timelines, in the order of the timeline. Key: room,
/// position of the hole, `u64::MAX` less how far before the hole's end. The value holds the state
/// after the event.
pub(crate) const HISTORY: Table<(RoomNumber, Position, u64), TimelineRow> =
    Table::new(0x0117, "history", Family::Index);

/// The events that others follow though their place was not known. Key: room, event ID, follower.
/// Stays when the event gets its place.
pub(crate) const MISSING: Table<(RoomNumber, String, EventNumber), ()> =
    Table::new(0x0118, "missing", Family::Index);

/// Redactions that came before what they redact. Key: room, ID of the target, redaction.
pub(crate) const EARLY_REDACTIONS: Table<(RoomNumber, String, EventNumber), ()> =
    Table::new(0x0119, "early_redactions", Family::Index);

/// The events of a room's timeline by their `origin_server_ts`. Key: room, time in milliseconds,
/// event.
pub(crate) const EVENTS_BY_TIME: Table<(RoomNumber, u64, EventNumber), ()> =
    Table::new(0x0130, "events_by_time", Family::Index);

/// Memberships of users of this server in rooms where this server is not: an invite or a knock, or
/// how it ended. Key: room, user. Beside it the row in [`MEMBERSHIPS`] need not agree with the
/// room's state as we have it. Deleted when this server joins.
///
/// The member event is in [`EVENTS`] and [`EVENT_META`] under a number, but cannot be found by its
/// ID: nobody has authorised it, so that it does not count when it comes again as one of the
/// room's.
pub(crate) const OUTSIDE: Table<(RoomNumber, String), Json<OutsideRow>> =
    Table::new(0x0120, "outside", Family::Main);

/// Where users of other servers are joined: [`ROOM_MEMBERS`] read backwards. Key: user, room.
/// Agrees with the room's current state after every commit.
pub(crate) const REMOTE_JOINS: Table<(String, RoomNumber), ()> =
    Table::new(0x0128, "remote_joins", Family::Index);

/// Rooms that this server has joined without being told all members: whether that is still so, and
/// what it takes to find out. Key: room. Stamped with when the row was written.
/// Written with the join, and when the whole state is known.
pub(crate) const PARTIAL: Table<RoomNumber, Stamped<Json<PartialRow>>> =
    Table::new(0x0121, "partial", Family::Main);

/// When this server last came into a room from outside: what was in the timeline before is behind
/// a hole, and no extremity any more. Key: room. Stamped with the position of the join.
pub(crate) const ENTERED: Table<RoomNumber, Stamped<()>> =
    Table::new(0x0122, "entered", Family::Main);

/// A row of [`TIMELINE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimelineRow {
    /// The event.
    pub(crate) event: EventNumber,
    /// The current state of the room once the event was accepted: after resolution, so not always
    /// the state after the event.
    pub(crate) state: StateRoot,
}

/// A row of [`GAPS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GapRow {
    /// Events that are followed by what stands behind the hole, and have no place themselves.
    pub(crate) missing: Vec<OwnedEventId>,
    /// How many events have been fetched into the hole.
    #[serde(default)]
    pub(crate) fetched: u64,
}

/// A row of [`ALIASES`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AliasRow {
    /// The room that it points to.
    pub(crate) room_id: OwnedRoomId,
    /// Its number.
    pub(crate) room: RoomNumber,
    /// Who made it.
    pub(crate) creator: OwnedUserId,
    /// Servers that can help to join; empty when that is this server alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) servers: Vec<OwnedServerName>,
}

/// A row of [`RECEIPTS`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReceiptRow {
    /// The event up to which the user has read.
    pub(crate) event_id: OwnedEventId,
    /// When the receipt was sent, in milliseconds since the Unix epoch.
    pub(crate) timestamp_ms: u64,
}

/// A row of [`OUTSIDE`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OutsideRow {
    /// The member event. The next one of the same user takes its number.
    pub(crate) event: EventNumber,
    /// The server that the invite came from, or that took the knock.
    pub(crate) server: OwnedServerName,
    /// The user's last member event from when this server was in the room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<OwnedEventId>,
    /// What is told of the room: state events, stripped or whole.
    pub(crate) state: Vec<Box<RawJsonValue>>,
}

/// A row of [`MEMBERSHIPS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembershipRow {
    /// The room.
    pub(crate) room_id: OwnedRoomId,
    /// What the user is in it.
    pub(crate) membership: MembershipState,
    /// The member event.
    pub(crate) event: EventNumber,
    /// Whether the user has forgotten the room since. A new member event makes it false again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) forgotten: bool,
}

impl StateRoot {
    /// The state without entries.
    pub const EMPTY: Self = Self::new(0);
}

/// Records with an encoding of their own, as values of tables.
macro_rules! value {
    ($($record:ty),*) => {$(
        impl Value for $record {
            fn encode(&self, out: &mut Writer) {
                out.extend(&self.to_bytes());
            }

            fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
                Self::from_bytes(bytes).map_err(|error| StoreError::corrupt(error.to_string()))
            }
        }
    )*};
}
value!(EventMeta, Head, Node, TimelineRow);

impl TimelineRow {
    fn to_bytes(self) -> Vec<u8> {
        let mut out = Sink::default();
        out.number(self.event.get());
        out.number(self.state.get());
        out.finish()
    }

    fn from_bytes(bytes: &[u8]) -> crate::Result<Self> {
        let mut input = Cursor::new(bytes, "a row of a timeline");
        Ok(Self {
            event: EventNumber::new(input.number()?),
            state: StateRoot::new(input.number()?),
        })
    }
}
