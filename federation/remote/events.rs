//! Events and states of rooms, from other servers.

use event::VerifiedPdu;
use rooms::{Gap, RemoteResult, RemoteState, Room, StateIds};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, ServerName, UInt,
    api::{
        Direction,
        federation::{
            authorization::get_event_authorization,
            backfill::get_backfill,
            event::{
                get_event, get_event_by_timestamp, get_missing_events, get_room_state,
                get_room_state_ids,
            },
        },
    },
};
use serde::Deserialize;
use serde_json::value::RawValue as RawJsonValue;

use crate::{Client, Limits, client::bad_answer, remote::answers::Bounded};

/// Most events of a state or of its auth chain.
pub(crate) const STATE_LEN_MAX: usize = 500_000;

/// Most events of an answer that is asked for a few; beyond the limit they are passed over.
const SOME_LEN_MAX: usize = 5_000;

/// Most events in the auth chain of one event.
const AUTH_CHAIN_LEN_MAX: usize = 100_000;

/// A list of whole events.
pub(crate) type Events<const MAX: usize> = Bounded<Box<RawJsonValue>, MAX>;

impl Client {
    pub(super) async fn fetch_event(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<VerifiedPdu> {
        #[derive(Deserialize)]
        struct Answer {
            pdus: Events<8>,
        }
        let request = get_event::v1::Request::new(event_id.to_owned());
        let answer: Answer = self.ask(server, request, Limits::QUERY).await?;
        let [event] = <[_; 1]>::try_from(answer.pdus.0)
            .map_err(|_| bad_answer(server, "it gave another number of events than one"))?;
        let event = self
            .keyring()
            .verify(event, &room.rules)
            .await
            .map_err(|error| bad_answer(server, error.to_string()))?;
        if event.pdu().event_id != event_id {
            return Err(bad_answer(server, "it gave another event than was asked for"));
        }
        Ok(event)
    }

    pub(super) async fn fetch_missing_events(
        &self,
        server: &ServerName,
        room: &Room,
        gap: Gap,
    ) -> RemoteResult<Vec<VerifiedPdu>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            events: Events<SOME_LEN_MAX>,
        }
        let room_id = room.room_id.clone();
        let mut request = get_missing_events::v1::Request::new(room_id, gap.earliest, gap.latest);
        request.limit = gap.limit.into();
        request.min_depth = UInt::new_saturating(gap.min_depth);
        let answer: Answer = self.ask(server, request, Limits::EVENTS).await?;
        let mut events = answer.events.0;
        events.truncate(gap.limit.into());
        Ok(self.sound(server, room, events).await)
    }

    pub(super) async fn fetch_backfill(
        &self,
        server: &ServerName,
        room: &Room,
        from: &[OwnedEventId],
        limit: u16,
    ) -> RemoteResult<Vec<VerifiedPdu>> {
        #[derive(Deserialize)]
        struct Answer {
            pdus: Events<SOME_LEN_MAX>,
        }
        let room_id = room.room_id.clone();
        let request = get_backfill::v1::Request::new(room_id, from.to_vec(), limit.into());
        let answer: Answer = self.ask(server, request, Limits::EVENTS).await?;
        let mut events = answer.pdus.0;
        events.truncate(limit.into());
        Ok(self.sound(server, room, events).await)
    }

    pub(super) async fn fetch_state_ids(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<StateIds> {
        #[derive(Deserialize)]
        struct Answer {
            pdu_ids: Bounded<OwnedEventId, STATE_LEN_MAX>,
            auth_chain_ids: Bounded<OwnedEventId, STATE_LEN_MAX>,
        }
        let (event_id, room_id) = (event_id.to_owned(), room.room_id.clone());
        let request = get_room_state_ids::v1::Request::new(event_id, room_id);
        let answer: Answer = self.ask(server, request, Limits::STATE).await?;
        Ok(StateIds { state: answer.pdu_ids.0, auth_chain: answer.auth_chain_ids.0 })
    }

    pub(super) async fn fetch_state(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<RemoteState> {
        #[derive(Deserialize)]
        struct Answer {
            pdus: Events<STATE_LEN_MAX>,
            auth_chain: Events<STATE_LEN_MAX>,
        }
        let (event_id, room_id) = (event_id.to_owned(), room.room_id.clone());
        let request = get_room_state::v1::Request::new(event_id, room_id);
        let answer: Answer = self.ask(server, request, Limits::STATE).await?;
        let (pdus, auth_chain) = (answer.pdus.0, answer.auth_chain.0);
        let (state, auth_chain) = self.sound_state(server, room, pdus, auth_chain).await;
        Ok(RemoteState { state, auth_chain })
    }

    /// Verifies a state and its auth chain, whose keys are fetched together.
    pub(super) async fn sound_state(
        &self,
        server: &ServerName,
        room: &Room,
        state: Vec<Box<RawJsonValue>>,
        auth_chain: Vec<Box<RawJsonValue>>,
    ) -> (Vec<VerifiedPdu>, Vec<VerifiedPdu>) {
        let state_len = state.len();
        let mut all = state;
        all.extend(auth_chain);
        let mut results = self.keyring().verify_all(all, &room.rules).await.into_iter();
        let mut bad = 0_usize;
        let mut last_error = None;
        let mut sound = |results: &mut dyn Iterator<Item = Result<VerifiedPdu, _>>| {
            let mut events = Vec::new();
            for result in results {
                match result {
                    Ok(event) => events.push(event),
                    Err(error) => {
                        bad += 1;
                        last_error = Some(error);
                    }
                }
            }
            events
        };
        let state = sound(&mut results.by_ref().take(state_len));
        let auth_chain = sound(&mut results);
        if let Some(error) = last_error {
            tracing::warn!(
                %server, room.id = %room.room_id, bad, %error,
                "bad events of a state are left out"
            );
        }
        (state, auth_chain)
    }

    pub(super) async fn fetch_event_auth(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<Vec<VerifiedPdu>> {
        #[derive(Deserialize)]
        struct Answer {
            auth_chain: Events<AUTH_CHAIN_LEN_MAX>,
        }
        let (room_id, event_id) = (room.room_id.clone(), event_id.to_owned());
        let request = get_event_authorization::v1::Request::new(room_id, event_id);
        let answer: Answer = self.ask(server, request, Limits::EVENTS).await?;
        Ok(self.sound(server, room, answer.auth_chain.0).await)
    }

    pub(super) async fn ask_timestamp_to_event(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        timestamp_ms: u64,
        backwards: bool,
    ) -> RemoteResult<(OwnedEventId, u64)> {
        #[derive(Deserialize)]
        struct Answer {
            event_id: OwnedEventId,
            origin_server_ts: u64,
        }
        let when = MilliSecondsSinceUnixEpoch(UInt::new_saturating(timestamp_ms));
        let direction = if backwards { Direction::Backward } else { Direction::Forward };
        let room_id = room_id.to_owned();
        let request = get_event_by_timestamp::v1::Request::new(room_id, when, direction);
        let answer: Answer = self.ask(server, request, Limits::QUERY).await?;
        Ok((answer.event_id, answer.origin_server_ts))
    }
}
