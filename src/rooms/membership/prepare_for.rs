//! Preparing member events for the users of other servers: `make_join`, `make_knock` and
//! `make_leave`.

use std::sync::Arc;

use ruma::{
    RoomId, RoomVersionId, ServerName, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use serde_json::value::RawValue as RawJsonValue;

use crate::{
    Rooms,
    append::Assembly,
    error::{Result, RoomsError},
    membership::MemberContent,
    new_event::{NewEvent, to_raw},
    remote::{Step, Template},
    room::Room,
};

impl Step {
    /// The membership that it leads to.
    pub(crate) fn membership(self) -> MembershipState {
        match self {
            Self::Join => MembershipState::Join,
            Self::Knock => MembershipState::Knock,
            Self::Leave => MembershipState::Leave,
        }
    }
}

impl Rooms {
    /// Prepares a member event of another server's user, for their server to complete and sign.
    /// `versions` are those that it can take part in.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_joinroomiduserid)
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when we are not in the room.
    /// - [`RoomsError::IncompatibleVersion`] when the room's version is none of those.
    /// - [`RoomsError::Forbidden`] when the user is of a third server, or the room does not allow
    ///   the step.
    /// - [`RoomsError::UnableToAuthorise`] and [`RoomsError::UnableToGrant`] in restricted rooms.
    /// - [`RoomsError::Partial`] while we are still being told the room's state.
    pub async fn prepare_for(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user: &UserId,
        step: Step,
        versions: &[RoomVersionId],
    ) -> Result<Template> {
        if user.server_name() != origin {
            return Err(RoomsError::forbidden(format!("{user} is not a user of {origin}")));
        }
        let room = self.open_for_step(origin, room_id).await?;
        let leaves = step == Step::Leave;
        if !leaves && !versions.contains(&room.version) {
            return Err(RoomsError::IncompatibleVersion { version: room.version.clone() });
        }
        let head = self.head(room.number).await?;
        let member = self
            .state_event(&room, head.state, &StateEventType::RoomMember, user.as_str())
            .await?
            .and_then(|event| event.membership());
        let mut content = MemberContent::new(step.membership());
        if step == Step::Join && !is_let_in(member.as_ref()) {
            let via = self.authorising_member(&room, head.state, user).await?;
            content = content.authorised_via(via.as_deref());
        }
        let event = NewEvent::state(StateEventType::RoomMember, user, to_raw(&content)?);
        let mut assembly = Assembly::new(self, Arc::clone(&room), head);
        let event = assembly.unsigned(user, event).await?;
        let event = RawJsonValue::from_string(event.json.as_ref().to_owned())
            .map_err(event::EventError::from)?;
        Ok(Template { version: room.version.clone(), event })
    }

    /// A room that we are in and know wholly, for a server that its access control list lets in.
    pub(super) async fn open_for_step(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
    ) -> Result<Arc<Room>> {
        let room = self.room_if_resident(room_id).await?;
        let room = room.ok_or(RoomsError::NotFound { what: "room" })?;
        self.check_acl(&room, origin).await?;
        if self.is_partial(room.number) {
            return Err(RoomsError::Partial);
        }
        Ok(room)
    }
}

/// Whether a user needs nobody's leave to join a room, or will get none.
pub(super) fn is_let_in(membership: Option<&MembershipState>) -> bool {
    matches!(
        membership,
        Some(MembershipState::Join | MembershipState::Invite | MembershipState::Ban)
    )
}
