//! Tying up a room whose graph has many loose ends, by an event that says nothing.

use ruma::events::TimelineEventType;
use serde_json::value::RawValue as RawJsonValue;
use store::Batch;

use crate::{
    Rooms,
    error::{Result, RoomsError},
    lane::Lane,
    new_event::NewEvent,
};

/// The type of an event that only follows others. It is shown to nobody.
pub(crate) const DUMMY_EVENT: &str = "org.matrix.dummy_event";

/// Most forward extremities that are left alone.
pub(crate) const EXTREMITIES_MAX: usize = 10;

/// How many users of ours are tried as senders.
const SENDERS_MAX: usize = 10;

/// How many such events are made in a row.
const EVENTS_MAX: usize = 5;

impl Rooms {
    /// Sends an event that follows the forward extremities where these have become too many, by
    /// any user of ours who may. It is no loss if that fails.
    pub(crate) async fn tie_up(&self, lane: &mut Lane) {
        for _ in 0..EVENTS_MAX {
            if lane.head().extremities().len() <= EXTREMITIES_MAX {
                return;
            }
            match self.send_dummy(lane).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    let room_id = &lane.room().room_id;
                    tracing::warn!(room.id = %room_id, %error, "loose ends could not be tied up");
                    return;
                }
            }
        }
    }

    /// Whether somebody could send it.
    async fn send_dummy(&self, lane: &mut Lane) -> Result<bool> {
        let joined = self.joined_users(lane.room()).await?;
        let senders = joined.iter().filter(|user| self.is_local(user)).take(SENDERS_MAX);
        for sender in senders {
            let content = RawJsonValue::from_string("{}".to_owned());
            let content = content.map_err(event::EventError::from)?;
            let event = NewEvent::message(TimelineEventType::from(DUMMY_EVENT), content);
            match self.append(lane, sender, event, Batch::new()).await {
                Ok(_) => return Ok(true),
                Err(RoomsError::Forbidden { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}
