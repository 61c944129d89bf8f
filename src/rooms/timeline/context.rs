//! An event with what was said just before and after it.

use std::sync::Arc;

use ruma::{EventId, RoomId, UserId, api::client::filter::RoomEventFilter};
use store::Direction;

use crate::{
    Rooms, ServedEvent,
    error::{Result, RoomsError},
    room::Room,
    state::StateSelect,
    stored_event::StoredEvent,
    tables::StateRoot,
    timeline::{
        EventFilter, PageToken, Span,
        reader::{Found, Holes, Search},
    },
    visibility::{Access, Lens},
};

/// Most events around the one that is asked for.
const LIMIT_MAX: usize = 1_000;

/// An event and its surroundings.
#[derive(Clone, Debug)]
pub struct Context {
    /// The event asked for.
    pub event: ServedEvent,
    /// The events before it, the nearest first.
    pub before: Vec<ServedEvent>,
    /// The events after it, the nearest first.
    pub after: Vec<ServedEvent>,
    /// Where to read on backward.
    pub start: PageToken,
    /// Where to read on forward.
    pub end: PageToken,
    /// The state of the room at the last event returned.
    pub state: Vec<ServedEvent>,
}

impl Rooms {
    /// Shows an event with up to `limit` others, half of them before and half after it.
    ///
    /// The filter chooses among the others, and with lazy loading the members in the state.
    ///
    /// # Errors
    /// [`RoomsError::NotFound`] when there is no such event that the viewer may see.
    pub async fn context(
        &self,
        viewer: &UserId,
        room_id: &RoomId,
        event_id: &EventId,
        limit: usize,
        filter: RoomEventFilter,
    ) -> Result<Context> {
        let (room, access) = self.open_event_room(viewer, room_id).await?;
        let mut lens = Lens::new(self, &room, viewer).await?;
        let event = self.visible_event(&room, &mut lens, event_id).await?;
        let filter = EventFilter::new(filter);
        let limit = limit.min(LIMIT_MAX);
        let newest = match &access {
            Access::Now => PageToken::after_all(self.store().position()),
            Access::Until(leave) => PageToken::after(leave),
        };
        let (gap_before, gap_after) = (PageToken::before(&event), PageToken::after(&event));
        let before = Search {
            span: Span { from: PageToken::START, to: gap_before },
            direction: Direction::Backward,
            limit: limit / 2,
            filter: &filter,
            holes: Holes::Leave,
        };
        let after = Search {
            span: Span { from: gap_after, to: newest.max(gap_after) },
            direction: Direction::Forward,
            limit: limit - limit / 2,
            filter: &filter,
            holes: Holes::Leave,
        };
        let Found { events: before, end: start, .. } =
            self.search_timeline(&room, &mut lens, before).await?;
        let Found { events: after, end, .. } =
            self.search_timeline(&room, &mut lens, after).await?;
        let last = after.last().unwrap_or(&event);
        let shown: Vec<_> = before.iter().chain([&event]).chain(&after).map(Arc::clone).collect();
        let state = self.state_around(&room, last.state_after, &shown, &filter).await?;
        let mut dressed = self.dress(&mut lens, &room, vec![event]).await?;
        let event = dressed.pop().ok_or(RoomsError::NotFound { what: "event" })?;
        Ok(Context {
            event,
            before: self.dress(&mut lens, &room, before).await?,
            after: self.dress(&mut lens, &room, after).await?,
            start,
            end,
            state: self.dress(&mut lens, &room, state).await?,
        })
    }

    /// A state as a filter wants it.
    async fn state_around(
        &self,
        room: &Room,
        root: StateRoot,
        shown: &[Arc<StoredEvent>],
        filter: &EventFilter,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let select =
            if filter.lazy_members() { StateSelect::without_members() } else { StateSelect::All };
        let numbers = self.select_state(room, root, &select).await?;
        let mut state = self.events(room, &numbers).await?;
        if filter.lazy_members() {
            state.extend(self.senders_of(room, root, shown).await?);
        }
        Ok(state)
    }
}
