//! Member events: their content, and how one is sent.

use std::sync::Arc;

use ruma::{
    OwnedEventId, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use serde::Serialize;
use store::Batch;

use crate::{
    Rooms,
    error::{Result, RoomsError},
    lane::Lane,
    membership::Profile,
    new_event::{NewEvent, to_raw},
};

/// The content of an `m.room.member` event.
///
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#mroommember)
#[derive(Debug, Serialize)]
pub(crate) struct MemberContent {
    membership: MembershipState,
    #[serde(skip_serializing_if = "Option::is_none")]
    displayname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_direct: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_authorised_via_users_server: Option<String>,
}

impl MemberContent {
    pub(crate) fn new(membership: MembershipState) -> Self {
        Self {
            membership,
            displayname: None,
            avatar_url: None,
            reason: None,
            is_direct: false,
            join_authorised_via_users_server: None,
        }
    }

    pub(crate) fn profile(self, profile: Profile) -> Self {
        let Profile { displayname, avatar_url } = profile;
        Self { displayname, avatar_url, ..self }
    }

    pub(crate) fn reason(self, reason: Option<String>) -> Self {
        Self { reason, ..self }
    }

    pub(crate) fn direct(self, is_direct: bool) -> Self {
        Self { is_direct, ..self }
    }

    /// Names the user whose power to invite lets the sender join.
    pub(crate) fn authorised_via(self, user: Option<&UserId>) -> Self {
        let join_authorised_via_users_server = user.map(ToString::to_string);
        Self { join_authorised_via_users_server, ..self }
    }
}

impl Rooms {
    /// Sets the membership of a user. Where it is the same already, by the same sender, nothing is
    /// written. In a room with a policy server that is asked, once the lane has been left; but
    /// nobody is kept from leaving.
    pub(crate) async fn send_member(
        &self,
        mut lane: Lane,
        sender: &UserId,
        target: &UserId,
        content: MemberContent,
    ) -> Result<OwnedEventId> {
        let left = !matches!(content.membership, MembershipState::Join);
        let event = NewEvent::state(StateEventType::RoomMember, target, to_raw(&content)?);
        let room = Arc::clone(lane.room());
        let leaves = content.membership == MembershipState::Leave && sender == target;
        let event_id = match self.policy_server(&room).await? {
            None => self.append(&mut lane, sender, event, Batch::new()).await?,
            Some(policy) => {
                drop(lane);
                match self.send_policed(&policy, sender, &room.room_id, event.clone()).await {
                    Err(RoomsError::Servers { .. }) if leaves => {
                        let mut lane = self.enter(&room.room_id).await?;
                        self.append(&mut lane, sender, event, Batch::new()).await?
                    }
                    sent => sent?,
                }
            }
        };
        if left {
            self.inner.typing.stop(&room.room_id, target);
        }
        Ok(event_id)
    }

    /// What a user is in the room of a lane; `None` where they never were anything.
    pub(crate) async fn membership_now(
        &self,
        lane: &Lane,
        user: &UserId,
    ) -> Result<Option<MembershipState>> {
        let kind = StateEventType::RoomMember;
        let event = self.state_event(lane.room(), lane.state(), &kind, user.as_str()).await?;
        Ok(event.and_then(|event| event.membership()))
    }
}
