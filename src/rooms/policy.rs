//! Policy servers: who says of each event of a room whether it is wanted there.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#policy-servers)

#[cfg(test)]
mod tests;

use std::sync::Arc;

use event::Pdu;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedServerName, RoomId, UserId,
    events::{StateEventType, TimelineEventType},
    serde::Base64,
    signatures::{PublicKeyMap, verify_json},
};
use serde::Deserialize;
use serde_json::value::RawValue as RawJsonValue;
use store::Batch;

use crate::{
    Rooms,
    append::{Assembly, accept::Place},
    error::{Result, RoomsError},
    new_event::NewEvent,
    remote::RemoteError,
    room::Room,
    stored_event::StoredEvent,
};

/// The type of the state event that names a room's policy server. It is never asked about it
/// itself.
const POLICY: &str = "m.room.policy";

/// The key with which every policy server signs; which key that is, the room says.
const KEY_ID: &str = "ed25519:policy_server";

/// The policy server of a room.
#[derive(Debug)]
pub(crate) struct PolicyServer {
    server: OwnedServerName,
    keys: PublicKeyMap,
}

#[derive(Deserialize)]
struct Content {
    via: OwnedServerName,
    public_keys: PublicKeys,
}

#[derive(Deserialize)]
struct PublicKeys {
    ed25519: Base64,
}

impl Rooms {
    /// The policy server that a room uses now, if any: the one that its state names, as long as it
    /// has a user in the room.
    pub(crate) async fn policy_server(&self, room: &Room) -> Result<Option<PolicyServer>> {
        let root = self.current_state(room).await?;
        let kind = StateEventType::from(POLICY);
        let Some(event) = self.state_event(room, root, &kind, "").await? else { return Ok(None) };
        let Ok(Content { via, public_keys }) = event.content_as() else { return Ok(None) };
        // We are no policy server, whatever a room says.
        if via == self.server_name() || !self.joined_servers(room).await?.contains(&via) {
            return Ok(None);
        }
        let key = [(KEY_ID.to_owned(), public_keys.ed25519)].into();
        let keys = [(via.to_string(), key)].into();
        Ok(Some(PolicyServer { server: via, keys }))
    }

    /// Whether an event has the signature that a room's policy server has to give, or needs none.
    pub(crate) async fn is_policed(&self, room: &Room, pdu: &Pdu) -> Result<bool> {
        if is_exempt(&pdu.kind, pdu.state_key.as_deref()) {
            return Ok(true);
        }
        let policy = self.policy_server(room).await?;
        Ok(policy.is_none_or(|policy| policy.has_signed(room, pdu)))
    }

    /// Why a room's policy server does not want an event; `None` where it does, or there is no such
    /// server. It is asked where the event lacks its signature: never inside a lane.
    pub(crate) async fn unwanted(&self, room: &Room, pdu: &Pdu) -> Result<Option<String>> {
        if is_exempt(&pdu.kind, pdu.state_key.as_deref()) {
            return Ok(None);
        }
        let Some(policy) = self.policy_server(room).await? else { return Ok(None) };
        if policy.has_signed(room, pdu) {
            return Ok(None);
        }
        Ok(self.ask_policy_server(&policy, room, pdu).await.err().map(|error| error.to_string()))
    }

    /// An event of ours with the signature of the room's policy server, if it has one. Never to be
    /// awaited inside a lane.
    ///
    /// # Errors
    /// [`RoomsError::Servers`] with what the policy server said.
    pub(crate) async fn policed(&self, room: &Room, pdu: Pdu) -> Result<Pdu> {
        let Some(policy) = self.policy_server(room).await? else { return Ok(pdu) };
        let asked = self.ask_policy_server(&policy, room, &pdu).await;
        let signature = asked.map_err(|failure| RoomsError::Servers { failures: vec![failure] })?;
        policy.add(room, &pdu, &signature)
    }

    /// Asks a policy server to sign an event. Gives the signature, which holds.
    async fn ask_policy_server(
        &self,
        policy: &PolicyServer,
        room: &Room,
        pdu: &Pdu,
    ) -> Result<String, RemoteError> {
        let server = &policy.server;
        let remote = &self.inner.config.remote;
        let signatures = remote.policy_signature(server, room, pdu).await?;
        let bad =
            |why: &str| RemoteError::BadAnswer { server: server.clone(), why: why.to_owned() };
        let signature = policy.signature_in(&signatures).ok_or_else(|| bad("no signature"))?;
        if policy.holds(room, pdu, &signature) {
            Ok(signature)
        } else {
            Err(bad("its signature does not hold"))
        }
    }

    /// The policy server to be asked before an event of ours is sent, if the room has one.
    pub(crate) async fn policy_server_for(
        &self,
        room_id: &RoomId,
        event: &NewEvent,
    ) -> Result<Option<PolicyServer>> {
        if is_exempt(&event.kind, event.state_key.as_deref()) {
            return Ok(None);
        }
        match self.room(room_id).await? {
            Some(room) => self.policy_server(&room).await,
            None => Ok(None),
        }
    }

    /// Sends an event of a local user into a room that uses a policy server. That one is asked
    /// between two stays in the lane: the event is made in the first and placed in the second.
    ///
    /// # Errors
    /// [`RoomsError::Servers`] with what the policy server said; else as [`Rooms::send`].
    pub(crate) async fn send_policed(
        &self,
        policy: &PolicyServer,
        sender: &UserId,
        room_id: &RoomId,
        event: NewEvent,
    ) -> Result<OwnedEventId> {
        let lane = self.enter(room_id).await?;
        let room = Arc::clone(lane.room());
        if let Some(seen) = self.seen_transaction(&room, sender, &event).await? {
            return Ok(seen);
        }
        let prepared = self.prepare(&lane, sender, event.clone()).await?;
        let mut assembly = Assembly::new(self, Arc::clone(&room), Arc::clone(&lane.head));
        let event_id = assembly.add(sender, prepared).await?;
        // Nothing is new where the state says so already.
        let Some(made) = assembly.accepted.pop() else { return Ok(event_id) };
        drop(assembly);
        drop(lane);
        let asked = self.ask_policy_server(policy, &room, &made.event.pdu).await;
        let signature = asked.map_err(|failure| RoomsError::Servers { failures: vec![failure] })?;
        let signed = policy.add(&room, &made.event.pdu, &signature)?;
        let mut lane = self.enter(room_id).await?;
        if let Some(seen) = self.seen_transaction(&room, sender, &event).await? {
            return Ok(seen);
        }
        let mut assembly = Assembly::new(self, room, Arc::clone(&lane.head));
        assembly.add_signed(signed, &made.event).await?;
        self.commit(&mut lane, assembly, Batch::new()).await?;
        Ok(event_id)
    }
}

impl Assembly<'_> {
    /// Places an event that was made a moment ago: the room may have gone on since.
    async fn add_signed(&mut self, signed: Pdu, made: &StoredEvent) -> Result<()> {
        let mut roots = Vec::with_capacity(signed.prev_events.len());
        for id in &signed.prev_events {
            let missing = || RoomsError::MissingEvent { event: id.clone() };
            roots.push(self.placed(id).await?.ok_or_else(missing)?.state_after);
        }
        let before = self.resolve(&roots).await?;
        for root in [before, self.head.state] {
            self.allows(&signed, root).await?.map_err(|why| RoomsError::Forbidden { why })?;
        }
        self.accept(signed, Place { txn: made.txn.clone(), ..Place::at(before) }).await?;
        Ok(())
    }
}

impl PolicyServer {
    /// Whether an event has a signature of the server that holds.
    fn has_signed(&self, room: &Room, pdu: &Pdu) -> bool {
        #[derive(Deserialize)]
        struct Signed {
            signatures: Box<RawJsonValue>,
        }
        let Ok(Signed { signatures }) = serde_json::from_str(&pdu.json) else { return false };
        self.signature_in(&signatures).is_some_and(|signature| self.holds(room, pdu, &signature))
    }

    /// The server's signature among others.
    fn signature_in(&self, signatures: &RawJsonValue) -> Option<String> {
        let all: CanonicalJsonObject = serde_json::from_str(signatures.get()).ok()?;
        let ours = all.get(self.server.as_str())?.as_object()?;
        Some(ours.get(KEY_ID)?.as_str()?.to_owned())
    }

    /// Whether a signature is that of the server for an event.
    fn holds(&self, room: &Room, pdu: &Pdu, signature: &str) -> bool {
        let Ok(redacted) = event::redact(pdu, &room.rules) else { return false };
        let Ok(mut object) = event::parse_canonical(&redacted.json) else { return false };
        object.insert("signatures".to_owned(), self.signed_with(signature).into());
        verify_json(&self.keys, &object).is_ok()
    }

    fn signed_with(&self, signature: &str) -> CanonicalJsonObject {
        let by_key = CanonicalJsonObject::from([(KEY_ID.to_owned(), signature.into())]);
        [(self.server.to_string(), by_key.into())].into()
    }

    /// The event with the signature among its others.
    fn add(&self, room: &Room, pdu: &Pdu, signature: &str) -> Result<Pdu> {
        let bad = || RoomsError::invalid("the event's signatures are malformed");
        let mut object = event::parse_canonical(&pdu.json)?;
        let signatures = object.get_mut("signatures").ok_or_else(bad)?;
        let CanonicalJsonValue::Object(signatures) = signatures else { return Err(bad()) };
        let by_key = signatures
            .entry(self.server.to_string())
            .or_insert_with(|| CanonicalJsonObject::new().into());
        let CanonicalJsonValue::Object(by_key) = by_key else { return Err(bad()) };
        by_key.insert(KEY_ID.to_owned(), signature.into());
        let json = serde_json::to_string(&object).map_err(event::EventError::from)?;
        Ok(Pdu::from_stored(pdu.event_id.clone(), json.into(), &room.rules)?)
    }
}

/// Whether policy servers have no say: it is the room that chooses its policy server.
fn is_exempt(kind: &TimelineEventType, key: Option<&str>) -> bool {
    *kind == TimelineEventType::from(POLICY) && key == Some("")
}
