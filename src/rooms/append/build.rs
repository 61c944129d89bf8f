//! Making an event of a local user: what it follows, what allows it, its hash and signature.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use event::{Draft, Pdu};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, UInt, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
    room_version_rules::EventsReferenceFormatVersion,
    state_res::events::RoomPowerLevelsIntField,
};

use crate::{
    append::{Assembly, accept::Place, late::Known},
    cache::StateKey,
    error::{Result, RoomsError},
    head::PREV_EVENTS_MAX,
    new_event::NewEvent,
    power::Powers,
    stored_event::{StoredEvent, Txn},
    tables::StateRoot,
};

/// The state events that decide over an event, and the create event.
pub(crate) type AuthState = HashMap<StateKey, Arc<Pdu>>;

/// An event that is not signed yet.
struct Drafted {
    draft: Draft,
    /// The state events that decide over it.
    auth: AuthState,
    /// The state before it.
    before: StateRoot,
}

impl Assembly<'_> {
    /// Builds, authorises and places an event of a local user. Gives the ID of the old event where
    /// a state event changes nothing.
    pub(crate) async fn add(&mut self, sender: &UserId, new: NewEvent) -> Result<OwnedEventId> {
        let txn = new.txn.clone();
        let Drafted { draft, auth, before } = self.draft(sender, new).await?;
        let redacts = draft.redacts.clone();
        let pdu = self.build(draft)?;
        self.check_reach(&pdu)?;
        authorise(&pdu, &auth, &self.room.rules)?;
        if let Some(old) = self.unchanged(&pdu, before).await? {
            return Ok(old);
        }
        if pdu.kind == TimelineEventType::RoomRedaction {
            self.check_redaction(&pdu, &auth).await?;
        }
        let txn = txn.map(|txn| Txn {
            user_id: sender.to_owned(),
            device_id: txn.device_id,
            txn_id: txn.txn_id,
            target: redacts,
        });
        let event_id = pdu.event_id.clone();
        // It is new, and follows what we have.
        let place = Place { txn, ..Place::at(before) };
        self.place(pdu, place, Known::default()).await?;
        Ok(event_id)
    }

    /// An event of a user in its place, before it is signed, and what decides over it.
    async fn draft(&mut self, sender: &UserId, new: NewEvent) -> Result<Drafted> {
        let redacts = new.target();
        let content = new.content.into_raw()?;
        let (follows, before) = self.follows().await?;
        let rules = &self.room.rules;
        let keys = event::auth_types(&new.kind, sender, new.state_key.as_deref(), &content, rules)?;
        let auth = self.auth_state(before, keys.clone()).await?;
        let timestamp_ms = new.timestamp_ms.unwrap_or_else(|| self.rooms.now_ms());
        let prev_events: Vec<_> = follows.iter().map(|event| event.pdu.event_id.clone()).collect();
        let auth_events: Vec<_> =
            keys.iter().filter_map(|key| Some(auth.get(key)?.event_id.clone())).collect();
        let reference_hashes =
            self.reference_hashes(prev_events.iter().chain(&auth_events)).await?;
        let draft = Draft {
            room_id: Some(self.room.room_id.clone()),
            sender: sender.to_owned(),
            kind: new.kind,
            state_key: new.state_key,
            content,
            redacts,
            prev_events,
            auth_events,
            reference_hashes,
            depth: UInt::new_saturating(self.head.depth.saturating_add(1)),
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(timestamp_ms)),
        };
        Ok(Drafted { draft, auth, before })
    }

    /// An event of another server's user, authorised, for their server to sign.
    pub(crate) async fn unsigned(&mut self, sender: &UserId, new: NewEvent) -> Result<Pdu> {
        let Drafted { draft, auth, .. } = self.draft(sender, new).await?;
        let pdu = event::template(draft, &self.room.rules)?;
        authorise(&pdu, &auth, &self.room.rules)?;
        Ok(pdu)
    }

    /// An invite of another server's user, signed and authorised, for their server to sign too
    /// before it is placed. The ID of the old one where it says the same.
    pub(crate) async fn invite(
        &mut self,
        sender: &UserId,
        new: NewEvent,
    ) -> Result<Result<Pdu, OwnedEventId>> {
        let Drafted { draft, auth, before } = self.draft(sender, new).await?;
        let pdu = self.build(draft)?;
        authorise(&pdu, &auth, &self.room.rules)?;
        Ok(match self.unchanged(&pdu, before).await? {
            Some(old) => Err(old),
            None => Ok(pdu),
        })
    }

    /// The reference hashes of events, in room versions 1 and 2, whose events carry them.
    pub(crate) async fn reference_hashes<'a>(
        &self,
        event_ids: impl Iterator<Item = &'a OwnedEventId>,
    ) -> Result<BTreeMap<OwnedEventId, String>> {
        let mut hashes = BTreeMap::new();
        if self.room.rules.events_reference_format != EventsReferenceFormatVersion::V1 {
            return Ok(hashes);
        }
        for event_id in event_ids {
            let event = self.event_by_id(event_id).await?;
            let missing = || RoomsError::MissingEvent { event: event_id.clone() };
            let hash = event.ok_or_else(missing)?.pdu.reference_hash(&self.room.rules)?;
            hashes.insert(event_id.clone(), hash);
        }
        Ok(hashes)
    }

    /// Another server's user has to be invited through their server.
    fn check_reach(&self, pdu: &Pdu) -> Result<()> {
        if pdu.membership() != Some(MembershipState::Invite) {
            return Ok(());
        }
        let target = pdu.state_key.as_deref().and_then(|user| UserId::parse(user).ok());
        match target {
            Some(user) if !self.rooms.is_local(&user) => Err(RoomsError::Remote { user }),
            _ => Ok(()),
        }
    }

    /// Hashes and signs an event.
    pub(crate) fn build(&self, draft: Draft) -> Result<Pdu> {
        if !self.rooms.is_local(&draft.sender) {
            return Err(RoomsError::Remote { user: draft.sender });
        }
        let config = &self.rooms.inner.config;
        Ok(event::build(draft, &config.server_name, &config.key, &self.room.rules)?)
    }

    /// The events that a new one follows, and the state before it.
    async fn follows(&mut self) -> Result<(Vec<Arc<StoredEvent>>, StateRoot)> {
        let extremities = self.head.extremities.clone();
        let surplus = extremities.len().saturating_sub(PREV_EVENTS_MAX);
        let newest = extremities.get(surplus..).unwrap_or_default();
        let events = self.events(newest).await?;
        if surplus == 0 {
            return Ok((events, self.head.state));
        }
        let roots: Vec<_> = events.iter().map(|event| event.state_after).collect();
        let state = self.resolve(&roots).await?;
        Ok((events, state))
    }

    /// The state event that says the same already, by the same sender.
    async fn unchanged(&self, pdu: &Pdu, before: StateRoot) -> Result<Option<OwnedEventId>> {
        let Some((kind, key)) = pdu.state_entry() else { return Ok(None) };
        let Some(old) = self.state_event(before, kind, key).await? else { return Ok(None) };
        let same = old.redacted_by.is_none()
            && old.pdu.sender == pdu.sender
            && old.pdu.content.get() == pdu.content.get();
        Ok(same.then(|| old.pdu.event_id.clone()))
    }

    /// Whether a local user may redact what they want to: their own events, or all with the power
    /// to.
    async fn check_redaction(&self, pdu: &Pdu, auth: &AuthState) -> Result<()> {
        let missing = || RoomsError::invalid_param("a redaction must name the event it redacts");
        let target = pdu.redacts.as_ref().ok_or_else(missing)?;
        let target = self.event_by_id(target).await?;
        let target = target.ok_or(RoomsError::NotFound { what: "event to redact" })?;
        if matches!(
            target.pdu.kind,
            TimelineEventType::RoomCreate | TimelineEventType::RoomServerAcl
        ) {
            let why = format!("an {} event cannot be redacted: the room needs it", target.pdu.kind);
            return Err(RoomsError::Forbidden { why });
        }
        if target.pdu.sender == pdu.sender {
            return Ok(());
        }
        if powers(auth, &self.room)?.may(&pdu.sender, RoomPowerLevelsIntField::Redact) {
            return Ok(());
        }
        Err(RoomsError::forbidden("you may not redact other people's events in this room"))
    }
}

/// The powers in the state that decides over an event.
pub(crate) fn powers(auth: &AuthState, room: &crate::Room) -> Result<Powers> {
    let entry = |kind: StateEventType| auth.get(&(kind, String::new()));
    let create = entry(StateEventType::RoomCreate).ok_or_else(|| RoomsError::Damaged {
        room: room.room_id.clone(),
        why: "no create event in the state".to_owned(),
    })?;
    let levels = entry(StateEventType::RoomPowerLevels).cloned();
    Powers::new(create, levels, &room.rules.authorization)
}

/// Checks an event against the state before it, from which its auth events were taken.
fn authorise(
    pdu: &Pdu,
    auth: &AuthState,
    rules: &ruma::room_version_rules::RoomVersionRules,
) -> Result<()> {
    let by_id = |id: &ruma::EventId| auth.values().find(|pdu| pdu.event_id == id).cloned();
    let by_key =
        |kind: &StateEventType, key: &str| auth.get(&(kind.clone(), key.to_owned())).cloned();
    Ok(event::authorise(pdu, rules, by_id, by_key)?)
}
