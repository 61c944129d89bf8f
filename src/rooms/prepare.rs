//! What a state event that a user puts must satisfy besides the authorisation rules.

use ruma::{
    UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde_json::{Map, Value as JsonValue, value::RawValue as RawJsonValue};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    lane::Lane,
    new_event::{Content, NewEvent, to_raw},
};

/// The key of a join that names the user whose power to invite allows it. Only the server may set
/// it.
const AUTHORISED_VIA: &str = "join_authorised_via_users_server";

impl Rooms {
    /// Completes an event that a user wishes to send, or refuses it.
    pub(crate) async fn prepare(
        &self,
        lane: &Lane,
        sender: &UserId,
        mut event: NewEvent,
    ) -> Result<NewEvent> {
        let (Some(key), Content::Raw(content)) = (&event.state_key, &event.content) else {
            return Ok(event);
        };
        if event.kind == TimelineEventType::RoomMember {
            let content = self.prepare_member(lane, sender, key, content).await?;
            event.content = Content::Raw(content);
        } else if event.kind == TimelineEventType::RoomCanonicalAlias && key.is_empty() {
            let (room, root) = (lane.room(), lane.state());
            self.check_canonical_alias(room, root, content, &event.aliases).await?;
        }
        Ok(event)
    }

    /// Holds a member event to the rules of the endpoints that join and invite.
    async fn prepare_member(
        &self,
        lane: &Lane,
        sender: &UserId,
        target: &str,
        content: &RawJsonValue,
    ) -> Result<Box<RawJsonValue>> {
        let bad = || RoomsError::invalid("an m.room.member event must have a membership");
        let target = UserId::parse(target)
            .map_err(|_| RoomsError::invalid_param("the state key must be a user ID"))?;
        let mut content: Map<String, JsonValue> =
            serde_json::from_str(content.get()).map_err(|_| bad())?;
        let membership =
            content.get("membership").and_then(JsonValue::as_str).ok_or_else(bad)?.to_owned();
        let now = self.membership_now(lane, &target).await?;
        content.remove(AUTHORISED_VIA);
        match MembershipState::from(membership) {
            MembershipState::Join if target == sender => {
                let in_already = matches!(
                    now,
                    Some(MembershipState::Join | MembershipState::Invite | MembershipState::Ban)
                );
                let via = if in_already {
                    None
                } else {
                    self.authorising_member(lane.room(), lane.state(), sender).await?
                };
                if let Some(via) = via {
                    content.insert(AUTHORISED_VIA.to_owned(), via.to_string().into());
                }
            }
            MembershipState::Invite if !self.is_local(&target) => {
                return Err(RoomsError::Remote { user: target });
            }
            MembershipState::Leave if now.is_none() => {
                return Err(RoomsError::forbidden(format!("{target} is not in the room")));
            }
            _ => {}
        }
        to_raw(&content)
    }
}
