//! Pages of a timeline, either way.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{RoomId, UserId, api::client::filter::RoomEventFilter};
use store::Direction;

use crate::{
    Rooms, ServedEvent,
    error::Result,
    room::Room,
    state::StateSelect,
    stored_event::StoredEvent,
    tables::StateRoot,
    timeline::{
        EventFilter, PageToken, Span,
        reader::{Holes, Search},
    },
    visibility::{Access, Lens},
};

/// Most events of one page.
const LIMIT_MAX: usize = 1_000;

/// Which page of a timeline is wanted.
#[derive(Clone, Debug)]
pub struct MessagesQuery {
    /// Where to begin; at the first or last event that the viewer may see if `None`.
    pub from: Option<PageToken>,
    /// Where to stop, if anywhere.
    pub to: Option<PageToken>,
    /// Which way to read.
    pub direction: ruma::api::Direction,
    /// How many events at most.
    pub limit: usize,
    /// Which events.
    pub filter: RoomEventFilter,
}

/// A page of a timeline.
#[derive(Clone, Debug)]
pub struct MessagesPage {
    /// The events, in the order of reading.
    pub chunk: Vec<ServedEvent>,
    /// State that helps to show the events: with lazy loading the members who sent them.
    pub state: Vec<ServedEvent>,
    /// Where the page begins.
    pub start: PageToken,
    /// Where to read on. `None` when there is nothing more that way.
    pub end: Option<PageToken>,
}

impl Rooms {
    /// Reads a page of a room's timeline, without what the viewer may not see.
    ///
    /// A page may hold less than what was asked for, or nothing, and yet not be the last one.
    ///
    /// # Errors
    /// [`crate::RoomsError::Forbidden`] when the viewer may not read the room.
    pub async fn messages(
        &self,
        viewer: &UserId,
        room_id: &RoomId,
        query: MessagesQuery,
    ) -> Result<MessagesPage> {
        let (room, access) = self.open_for(viewer, room_id).await?;
        let direction = match query.direction {
            ruma::api::Direction::Forward => Direction::Forward,
            ruma::api::Direction::Backward => Direction::Backward,
        };
        let newest = match &access {
            Access::Now => PageToken::after_all(self.store().position()),
            Access::Until(leave) => PageToken::after(leave),
        };
        let (first, last) = match direction {
            Direction::Forward => (query.from, query.to),
            Direction::Backward => (query.to, query.from),
        };
        let span = Span {
            from: first.unwrap_or(PageToken::START),
            to: last.unwrap_or(newest).min(newest),
        };
        let start = query.from.unwrap_or(match direction {
            Direction::Forward => span.from,
            Direction::Backward => span.to,
        });
        let filter = EventFilter::new(query.filter);
        let mut lens = Lens::new(self, &room, viewer).await?;
        let limit = query.limit.min(LIMIT_MAX);
        let holes = match direction {
            Direction::Backward => Holes::Fill,
            Direction::Forward => Holes::Leave,
        };
        let search = Search { span, direction, limit, filter: &filter, holes };
        let found = self.search_timeline(&room, &mut lens, search).await?;
        let state = match found.events.first() {
            Some(first) if filter.lazy_members() => {
                self.senders_of(&room, first.state_after, &found.events).await?
            }
            _ => Vec::new(),
        };
        Ok(MessagesPage {
            chunk: self.dress(&mut lens, &room, found.events).await?,
            state: self.dress(&mut lens, &room, state).await?,
            start,
            end: (!found.exhausted).then_some(found.end),
        })
    }

    /// The member events, in a state, of those who sent some events.
    pub(crate) async fn senders_of(
        &self,
        room: &Room,
        root: StateRoot,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let senders: BTreeSet<&UserId> = events.iter().map(|event| &*event.pdu.sender).collect();
        let numbers = self.select_state(room, root, &StateSelect::members(senders)).await?;
        self.events(room, &numbers).await
    }
}
