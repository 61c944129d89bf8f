//! The check of one room, and how it reads events.

use std::{collections::HashMap, sync::Arc};

use event::Pdu;
use ruma::OwnedEventId;
use store::{Position, Store};

use super::{Check, bits::Bits};
use crate::{
    error::{Result, RoomsError},
    head::Head,
    room::{Room, RoomRecord},
    state::{node::Node, trie::Nodes},
    stored_event::EventMeta,
    tables::{
        ENTERED, EVENT_META, EVENT_NUMBERS, EVENTS, EventNumber, HEADS, NodeNumber, ROOM_NUMBERS,
        RoomNumber, STATE_NODES,
    },
};

/// Most events that are held at once.
const KEPT_MAX: usize = 4_096;

/// The check of one room under way.
pub(super) struct RoomCheck<'a, 'b> {
    pub(super) check: &'a mut Check<'b>,
    pub(super) store: &'b Store,
    pub(super) room: Room,
    pub(super) head: Head,
    kept: HashMap<EventNumber, Arc<Kept>>,
    /// Events in the timeline.
    pub(super) shown: Bits,
    /// Events that an event in the timeline follows.
    pub(super) followed: Bits,
    pub(super) counts: Counts,
    /// When this server last came into the room from outside.
    pub(super) entered: Position,
}

/// What was counted in a room.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) events: u64,
    /// Member events from when this server was not in the room.
    pub(super) outside: u64,
    pub(super) shown: u64,
    /// Those in holes of the timeline.
    pub(super) fetched: u64,
    pub(super) depth_max: u64,
}

/// An event with what is stored of it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) number: EventNumber,
    pub(super) pdu: Arc<Pdu>,
    pub(super) meta: EventMeta,
    pub(super) position: Position,
}

impl Kept {
    /// Known only because another event names it: its own place is not.
    pub(super) fn is_outlier(&self) -> bool {
        self.position == Position::ZERO
    }

    /// Whether it was fetched into a hole of the timeline.
    pub(super) fn is_fetched(&self) -> bool {
        self.meta.index < 0
    }

    /// Whether it belongs into the timeline.
    pub(super) fn is_shown(&self) -> bool {
        !self.is_outlier() && !self.meta.rejected && !self.meta.soft_failed
    }
}

impl<'a, 'b> RoomCheck<'a, 'b> {
    /// Checks a room.
    pub(super) async fn run(
        check: &'a mut Check<'b>,
        number: RoomNumber,
        record: RoomRecord,
    ) -> Result<()> {
        let store = check.store;
        check.report.rooms += 1;
        let RoomRecord { room_id, version } = record;
        let Some(rules) = event::rules(&version) else {
            return Err(RoomsError::UnsupportedVersion { version });
        };
        let indexed = store.get(&ROOM_NUMBERS, &room_id.as_str().to_owned()).await?;
        if indexed != Some(number) {
            check.report.say(format!("room {room_id} is not found by its ID"));
        }
        let Some(head) = store.get(&HEADS, &number).await? else {
            check.report.say(format!("room {room_id} has no head"));
            return Ok(());
        };
        let entered = store.get(&ENTERED, &number).await?;
        let mut room = RoomCheck {
            check,
            entered: entered.map_or(Position::ZERO, |row| row.position),
            store,
            shown: Bits::below(head.next_event.get()),
            followed: Bits::below(head.next_event.get()),
            room: Room { number, room_id, version, rules },
            head,
            kept: HashMap::new(),
            counts: Counts::default(),
        };
        room.events().await?;
        room.indexes().await?;
        room.gaps().await?;
        room.states().await?;
        room.members().await
    }

    /// Notes a disagreement in the room.
    pub(super) fn say(&mut self, sentence: impl std::fmt::Display) {
        let room_id = &self.room.room_id;
        self.check.report.say(format!("room {room_id}: {sentence}"));
    }

    /// Notes a disagreement about an event.
    pub(super) fn say_of(&mut self, event: &Kept, sentence: impl std::fmt::Display) {
        let Kept { number, meta, .. } = event;
        self.say(format_args!("event {number} ({}) {sentence}", meta.event_id));
    }

    /// The number under which an event ID is found.
    pub(super) async fn number_of(&self, event_id: &OwnedEventId) -> Result<Option<EventNumber>> {
        let key = (self.room.number, event_id.as_str().to_owned());
        Ok(self.store.get(&EVENT_NUMBERS, &key).await?)
    }

    /// An event by number, if it is there.
    pub(super) async fn event_at(&mut self, number: EventNumber) -> Result<Option<Arc<Kept>>> {
        if let Some(kept) = self.kept.get(&number) {
            return Ok(Some(Arc::clone(kept)));
        }
        let key = (self.room.number, number);
        let json = self.store.get(&EVENTS, &key).await?;
        let meta = self.store.get(&EVENT_META, &key).await?;
        let (Some(json), Some(meta)) = (json, meta) else { return Ok(None) };
        self.keep(number, json, meta.position, meta.value).map(Some)
    }

    /// An event by ID, if it is there.
    pub(super) async fn event_by_id(
        &mut self,
        event_id: &OwnedEventId,
    ) -> Result<Option<Arc<Kept>>> {
        match self.number_of(event_id).await? {
            Some(number) => self.event_at(number).await,
            None => Ok(None),
        }
    }

    /// Reads an event, and keeps it for a while.
    pub(super) fn keep(
        &mut self,
        number: EventNumber,
        json: String,
        position: Position,
        meta: EventMeta,
    ) -> Result<Arc<Kept>> {
        let mut pdu = Pdu::from_stored(meta.event_id.clone(), json.into(), &self.room.rules)?;
        pdu.rejected = meta.rejected;
        let kept = Arc::new(Kept { number, pdu: Arc::new(pdu), meta, position });
        if self.kept.len() >= KEPT_MAX {
            self.kept.clear();
        }
        self.kept.insert(number, Arc::clone(&kept));
        Ok(kept)
    }

    /// The nodes of the room's states, straight from the store.
    pub(super) fn nodes(&self) -> StoredNodes<'b> {
        StoredNodes { store: self.store, room: self.room.number }
    }
}

/// The nodes of one room.
pub(super) struct StoredNodes<'a> {
    store: &'a Store,
    room: RoomNumber,
}

impl Nodes for StoredNodes<'_> {
    async fn load(&self, numbers: &[NodeNumber]) -> Result<Vec<Arc<Node>>> {
        let keys: Vec<_> = numbers.iter().map(|number| (self.room, *number)).collect();
        let nodes = self.store.multi_get(&STATE_NODES, &keys).await?;
        nodes
            .into_iter()
            .map(|node| node.map(Arc::new))
            .collect::<Option<Vec<_>>>()
            .ok_or(RoomsError::BadRow { why: "a state lacks a node" })
    }
}
