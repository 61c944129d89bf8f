//! Joining, knocking, leaving and inviting by way of other servers.

use event::{Pdu, VerifiedPdu};
use http::Method;
use rooms::{JoinAnswer, RemoteResult, Room, Step, Template};
use ruma::{
    OwnedServerName, RoomId, RoomVersionId, ServerName, UserId,
    api::federation::membership::{
        create_join_event, create_knock_event, create_leave_event, prepare_join_event,
        prepare_knock_event, prepare_leave_event,
    },
};
use serde::Deserialize;
use serde_json::{json, value::RawValue as RawJsonValue};

use crate::{
    Client, Limits, RawRequest,
    client::bad_answer,
    remote::{
        answers::Bounded,
        events::{Events, STATE_LEN_MAX},
    },
};

/// Most servers of a room that an answer may name.
const SERVERS_LEN_MAX: usize = 100_000;

/// Most stripped state events of a room.
const STRIPPED_LEN_MAX: usize = 1_000;

/// The server's part of a path.
const V2: &str = "/_matrix/federation/v2";

impl Client {
    pub(super) async fn ask_template(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        user: &UserId,
        step: Step,
        versions: &[RoomVersionId],
    ) -> RemoteResult<Template> {
        #[derive(Deserialize)]
        struct Answer {
            room_version: Option<RoomVersionId>,
            event: Box<RawJsonValue>,
        }
        let (room_id, user) = (room_id.to_owned(), user.to_owned());
        let answer: Answer = match step {
            Step::Join => {
                let mut request = prepare_join_event::v1::Request::new(room_id, user);
                request.ver = versions.to_vec();
                self.ask(server, request, Limits::URGENT).await?
            }
            Step::Knock => {
                let mut request = prepare_knock_event::v1::Request::new(room_id, user);
                request.ver = versions.to_vec();
                self.ask(server, request, Limits::URGENT).await?
            }
            Step::Leave => {
                let request = prepare_leave_event::v1::Request::new(room_id, user);
                self.ask(server, request, Limits::URGENT).await?
            }
        };
        // Servers from before there were versions don't say.
        let version = answer.room_version.unwrap_or(RoomVersionId::V1);
        if !versions.contains(&version) {
            let why = format!("the room has version {version}, which was not offered");
            return Err(bad_answer(server, why));
        }
        if answer.event.get().len() > event::PDU_BYTES_MAX {
            return Err(bad_answer(server, "it prepared an event that is too large"));
        }
        Ok(Template { version, event: answer.event })
    }

    pub(super) async fn put_join(
        &self,
        server: &ServerName,
        room: &Room,
        event: &Pdu,
        omit_members: bool,
    ) -> RemoteResult<JoinAnswer> {
        #[derive(Deserialize)]
        struct Answer {
            event: Option<Box<RawJsonValue>>,
            state: Events<STATE_LEN_MAX>,
            auth_chain: Events<STATE_LEN_MAX>,
            #[serde(default)]
            members_omitted: bool,
            servers_in_room: Option<Bounded<String, SERVERS_LEN_MAX>>,
        }
        let (room_id, event_id) = (event.room_id.clone(), event.event_id.clone());
        let pdu = raw(server, event)?;
        let mut request = create_join_event::v2::Request::new(room_id, event_id, pdu);
        request.omit_members = omit_members;
        let answer: Answer = self.ask(server, request, Limits::STATE).await?;
        let (state, auth_chain) =
            self.sound_state(server, room, answer.state.0, answer.auth_chain.0).await;
        let signed = match answer.event {
            Some(signed) => {
                let signed = self.keyring().verify(signed, &room.rules).await;
                let is_ours = |signed: &VerifiedPdu| signed.pdu().event_id == event.event_id;
                signed.ok().filter(is_ours)
            }
            None => None,
        };
        let servers = answer.servers_in_room.unwrap_or_default().0;
        Ok(JoinAnswer {
            event: signed,
            state,
            auth_chain,
            members_omitted: answer.members_omitted,
            servers_in_room: servers
                .into_iter()
                .filter_map(|name| OwnedServerName::try_from(name).ok())
                .collect(),
        })
    }

    pub(super) async fn put_knock(
        &self,
        server: &ServerName,
        event: &Pdu,
    ) -> RemoteResult<Vec<Box<RawJsonValue>>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            knock_room_state: Events<STRIPPED_LEN_MAX>,
        }
        let (room_id, event_id) = (event.room_id.clone(), event.event_id.clone());
        let pdu = raw(server, event)?;
        let request = create_knock_event::v1::Request::new(room_id, event_id, pdu);
        let answer: Answer = self.ask(server, request, Limits::URGENT).await?;
        Ok(answer.knock_room_state.0)
    }

    pub(super) async fn put_leave(&self, server: &ServerName, event: &Pdu) -> RemoteResult<()> {
        let (room_id, event_id) = (event.room_id.clone(), event.event_id.clone());
        let pdu = raw(server, event)?;
        let request = create_leave_event::v2::Request::new(room_id, event_id, pdu);
        self.send(server, request, Limits::URGENT).await.map(|_| ())
    }

    pub(super) async fn put_invite(
        &self,
        server: &ServerName,
        room: &Room,
        event: &Pdu,
        room_state: &[Box<RawJsonValue>],
    ) -> RemoteResult<VerifiedPdu> {
        #[derive(Deserialize)]
        struct Answer {
            event: Box<RawJsonValue>,
        }
        let body = json!({
            "event": raw(server, event)?,
            "invite_room_state": room_state,
            "room_version": room.version,
        });
        let path =
            [V2, "invite", &encode(event.room_id.as_str()), &encode(event.event_id.as_str())];
        let request = RawRequest {
            method: Method::PUT,
            path: path.join("/"),
            body: Some(body.to_string().into()),
        };
        let answer = self.send_raw(server, request, Limits::URGENT).await?;
        let answer: Answer = serde_json::from_slice(&answer.body)
            .map_err(|error| bad_answer(server, error.to_string()))?;
        let signed = self.keyring().verify(answer.event, &room.rules).await;
        let signed = signed.map_err(|error| bad_answer(server, error.to_string()))?;
        if signed.pdu().event_id != event.event_id {
            return Err(bad_answer(server, "it gave another event back"));
        }
        Ok(signed)
    }

    pub(super) async fn put_third_party_invite(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        event: &RawJsonValue,
    ) -> RemoteResult<()> {
        let room_id = encode(room_id.as_str());
        let request = RawRequest {
            method: Method::PUT,
            path: format!("/_matrix/federation/v1/exchange_third_party_invite/{room_id}"),
            body: Some(event.get().to_owned().into()),
        };
        self.send_raw(server, request, Limits::URGENT).await.map(|_| ())
    }
}

/// An event as it is sent.
fn raw(server: &ServerName, event: &Pdu) -> RemoteResult<Box<RawJsonValue>> {
    RawJsonValue::from_string(event.json.to_string())
        .map_err(|error| bad_answer(server, format!("no request: {error}")))
}

/// A part of a path.
fn encode(part: &str) -> String {
    percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string()
}
