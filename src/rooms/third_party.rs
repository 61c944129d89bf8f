//! Invites by e-mail address or telephone number, once it is known whose that is.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#third-party-invites)

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as JsonValue, value::RawValue as RawJsonValue};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    membership::{MemberContent, Profile},
    new_event::{NewEvent, to_raw},
};

/// Most bytes of what an identity server signed.
const SIGNED_BYTES_MAX: usize = 16 * 1024;

/// An invite that an identity server hands over once an address has been bound to a user of ours.
#[derive(Clone, Debug)]
pub struct ThirdPartyInvite {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who invites.
    pub sender: OwnedUserId,
    /// Who is invited: a user of ours.
    pub user: OwnedUserId,
    /// What the identity server signed: an object with `mxid`, `token` and `signatures`.
    pub signed: Box<RawJsonValue>,
}

/// An invite as the server of the one invited sends it to that of the sender.
#[derive(Deserialize)]
struct Exchanged {
    #[serde(rename = "type")]
    kind: TimelineEventType,
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    state_key: OwnedUserId,
    content: ExchangedContent,
}

#[derive(Deserialize)]
struct ExchangedContent {
    membership: MembershipState,
    third_party_invite: ExchangedInvite,
}

#[derive(Deserialize)]
struct ExchangedInvite {
    signed: Map<String, JsonValue>,
}

/// What is added to the content of the invite.
#[derive(Serialize)]
struct Section {
    display_name: String,
    signed: Map<String, JsonValue>,
}

#[derive(Serialize)]
struct Content {
    #[serde(flatten)]
    member: MemberContent,
    third_party_invite: Section,
}

impl Rooms {
    /// Makes a real invite of one that was sent to an address, for the server of the user to whom
    /// the address has turned out to belong. That server is asked to sign it as any invite.
    ///
    /// # Errors
    /// - [`RoomsError::InvalidParam`] for what is no such invite, or not of the server's user.
    /// - [`RoomsError::NotFound`] when we are not in the room.
    /// - [`RoomsError::Forbidden`] when the identity server's signature does not hold, or the
    ///   sender may not invite any more.
    pub async fn exchange_third_party(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event: Box<RawJsonValue>,
    ) -> Result<()> {
        let bad = |what: &str| RoomsError::invalid_param(what);
        if event.get().len() > event::PDU_BYTES_MAX {
            return Err(bad("the event is too large"));
        }
        let event: Exchanged = serde_json::from_str(event.get())
            .map_err(|error| RoomsError::invalid_param(error.to_string()))?;
        if event.kind != TimelineEventType::RoomMember
            || event.content.membership != MembershipState::Invite
            || event.room_id != room_id
        {
            return Err(bad("the event is no invite into the room"));
        }
        if event.state_key.server_name() != origin {
            return Err(bad("the user is not of the sending server"));
        }
        if !self.is_local(&event.sender) {
            return Err(bad("the sender is not of this server"));
        }
        let signed = event.content.third_party_invite.signed;
        self.invite_third_party(&event.sender, room_id, &event.state_key, signed).await
    }

    /// Makes a real invite of one that was sent to an address, which has turned out to belong to a
    /// user of ours: or asks the server of the sender to.
    ///
    /// # Errors
    /// As [`Rooms::exchange_third_party`], and [`RoomsError::Servers`] when the other server does
    /// not agree.
    pub async fn bind_third_party(&self, invite: ThirdPartyInvite) -> Result<()> {
        let ThirdPartyInvite { room_id, sender, user, signed } = invite;
        if !self.is_local(&user) {
            return Err(RoomsError::invalid_param("the user is not of this server"));
        }
        if signed.get().len() > SIGNED_BYTES_MAX {
            return Err(RoomsError::invalid_param("the signed object is too large"));
        }
        let signed: Map<String, JsonValue> = serde_json::from_str(signed.get())
            .map_err(|error| RoomsError::invalid_param(error.to_string()))?;
        if self.is_local(&sender) {
            return self.invite_third_party(&sender, &room_id, &user, signed).await;
        }
        let event = to_raw(&serde_json::json!({
            "type": "m.room.member",
            "room_id": room_id,
            "sender": sender,
            "state_key": user,
            "content": {
                "membership": "invite",
                "third_party_invite": { "display_name": "", "signed": signed },
            },
        }))?;
        let remote = &self.inner.config.remote;
        let asked = remote.exchange_third_party_invite(sender.server_name(), &room_id, &event);
        asked.await.map_err(|failure| RoomsError::Servers { failures: vec![failure] })
    }

    async fn invite_third_party(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        user: &UserId,
        signed: Map<String, JsonValue>,
    ) -> Result<()> {
        let room = self.room_if_resident(room_id).await?;
        let room = room.ok_or(RoomsError::NotFound { what: "room" })?;
        let token = signed.get("token").and_then(JsonValue::as_str).unwrap_or_default();
        let root = self.current_state(&room).await?;
        let kind = StateEventType::RoomThirdPartyInvite;
        let sent = self.state_event(&room, root, &kind, token).await?;
        let sent = sent.ok_or_else(|| RoomsError::forbidden("there is no such invite"))?;
        let sent: Map<String, JsonValue> = sent.content_as().unwrap_or_default();
        let display_name = sent.get("display_name").and_then(JsonValue::as_str);
        let content = to_raw(&Content {
            member: MemberContent::new(MembershipState::Invite).profile(Profile::default()),
            third_party_invite: Section {
                display_name: display_name.unwrap_or_default().to_owned(),
                signed,
            },
        })?;
        // `send` asks the other server where the user is of one.
        let event = NewEvent::state(StateEventType::RoomMember, user, content);
        self.send(sender, room_id, event).await?;
        Ok(())
    }
}
