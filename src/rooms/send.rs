//! Sending an event into a room.

use ruma::{OwnedEventId, RoomId, UserId, events::room::member::MembershipState};
use store::{Batch, StoreError};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    new_event::NewEvent,
};

/// How often an event is tried again when someone else has written the room meanwhile.
const CONFLICTS_MAX: u32 = 5;

impl Rooms {
    /// Sends an event into a room, and answers once it is durable.
    ///
    /// With a transaction ID that was seen before it answers with the event of then. A state event
    /// with the content of the current one,
    /// by the same sender, makes no new event.
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when there is no such room, or no such event to redact.
    /// - [`RoomsError::Forbidden`] when the rules of the room do not allow it.
    /// - [`RoomsError::TooLarge`] and [`RoomsError::Event`] when the content cannot be an event's.
    pub async fn send(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        mut event: NewEvent,
    ) -> Result<OwnedEventId> {
        self.find_named_aliases(&mut event).await;
        if let Some((target, content)) = self.far_invite(&event) {
            return self.invite_elsewhere(sender, room_id, &target, content).await;
        }
        if let Some(policy) = self.policy_server_for(room_id, &event).await? {
            return self.send_policed(&policy, sender, room_id, event).await;
        }
        for _ in 0..CONFLICTS_MAX {
            match self.send_once(sender, room_id, event.clone()).await {
                Err(RoomsError::Store(StoreError::Conflict { .. })) => {}
                done => return done,
            }
        }
        self.send_once(sender, room_id, event).await
    }

    async fn send_once(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        event: NewEvent,
    ) -> Result<OwnedEventId> {
        let mut lane = self.enter(room_id).await?;
        let event = self.prepare(&lane, sender, event).await?;
        let member = event.member();
        let event_id = self.append(&mut lane, sender, event, Batch::new()).await?;
        if let Some(user) = member
            && self.membership_now(&lane, &user).await? != Some(MembershipState::Join)
        {
            self.inner.typing.stop(room_id, &user);
        }
        Ok(event_id)
    }
}
