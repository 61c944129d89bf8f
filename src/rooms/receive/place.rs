//! The checks 4 to 6, inside the lane, and what follows from them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use event::{Pdu, VerifiedPdu};
use ruma::{
    EventId, OwnedEventId, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use store::Batch;

use crate::{
    Received, Rooms,
    append::{Assembly, accept::Place},
    cache::StateKey,
    error::Result,
    outliers::{Entry, check_by_auth_events, deciding},
    receive::fetch::Lack,
    room::Room,
    tables::StateRoot,
};

/// What was fetched for an event to be judged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Supply {
    /// Events to be stored as outliers: auth chains, and states at holes.
    pub(crate) outliers: Vec<VerifiedPdu>,
    /// The states after previous events whose place is not known.
    pub(crate) states: BTreeMap<OwnedEventId, Arc<FetchedState>>,
    /// Why the room's policy server does not want the event.
    pub(crate) unwanted: Option<String>,
}

/// The state after an event that we do not have the place of.
#[derive(Clone, Debug)]
pub(crate) struct FetchedState {
    /// The state before it.
    pub(crate) before: Vec<Entry>,
    /// What the event itself sets.
    pub(crate) sets: Option<Entry>,
}

/// What came of trying to place an event.
pub(super) enum Outcome {
    /// It has been judged.
    Done(Received),
    /// It cannot be judged without these.
    Lacks(Lack),
}

/// What the checks said.
enum Verdict {
    Allowed,
    SoftFailed(String),
    Rejected(String),
}

impl Rooms {
    /// Judges an event, places it and commits it together with what was fetched for it.
    pub(super) async fn place_received(
        &self,
        room: &Arc<Room>,
        event: VerifiedPdu,
        supply: &Supply,
    ) -> Result<Outcome> {
        let mut lane = self.enter(&room.room_id).await?;
        let pdu = event.into_pdu();
        let mut assembly = Assembly::new(self, Arc::clone(room), Arc::clone(&lane.head));
        if assembly.placed(&pdu.event_id).await?.is_some() {
            return Ok(Outcome::Done(Received::Known));
        }
        assembly.import_outliers(supply.outliers.iter().cloned()).await?;
        // 4. By its auth events.
        let auth: Vec<OwnedEventId> = deciding(&pdu, room).collect();
        let known = assembly.known(&auth).await?;
        let missing: Vec<OwnedEventId> =
            auth.into_iter().filter(|id| !known.contains_key(id)).collect();
        if !missing.is_empty() {
            return Ok(Outcome::Lacks(Lack { auth_events: missing, prev_events: Vec::new() }));
        }
        let decides = |id: &EventId| known.get(id).map(|event| Arc::clone(&event.pdu));
        let by_auth_events = check_by_auth_events(&pdu, room, decides);
        let before = match assembly.state_before(&pdu, &supply.states).await? {
            Ok(before) => before,
            Err(missing) => {
                let Err(why) = by_auth_events else {
                    return Ok(Outcome::Lacks(Lack { auth_events: vec![], prev_events: missing }));
                };
                // What is refused needs no place.
                let why = why.to_string();
                assembly.add_rejected(pdu).await?;
                self.commit(&mut lane, assembly, Batch::new()).await?;
                return Ok(Outcome::Done(Received::Rejected { why }));
            }
        };
        let verdict = match by_auth_events {
            Err(why) => Verdict::Rejected(why.to_string()),
            Ok(()) => match (assembly.judge(&pdu, before).await?, &supply.unwanted) {
                (Verdict::Allowed, Some(why)) => Verdict::SoftFailed(why.clone()),
                (verdict, _) => verdict,
            },
        };
        let member = pdu.state_key.as_deref().and_then(|key| <&UserId>::try_from(key).ok());
        let gone = member.map(ToOwned::to_owned).filter(|_| {
            pdu.kind == TimelineEventType::RoomMember
                && pdu.membership() != Some(MembershipState::Join)
        });
        let place = Place {
            rejected: matches!(verdict, Verdict::Rejected(_)),
            soft_failed: matches!(verdict, Verdict::SoftFailed(_)),
            ..Place::at(before)
        };
        let event_id = pdu.event_id.clone();
        assembly.accept(pdu, place).await?;
        self.commit(&mut lane, assembly, Batch::new()).await?;
        let received = match verdict {
            Verdict::Allowed => {
                if let Some(user) = gone {
                    self.inner.typing.stop(&room.room_id, &user);
                }
                self.tie_up(&mut lane).await;
                Received::Accepted
            }
            Verdict::SoftFailed(why) => Received::SoftFailed { why },
            Verdict::Rejected(why) => Received::Rejected { why },
        };
        tracing::debug!(room.id = %room.room_id, event.id = %event_id, ?received, "received");
        Ok(Outcome::Done(received))
    }
}

impl Assembly<'_> {
    /// The state before an event: that after those that it follows, resolved. Names those whose
    /// states are missing.
    async fn state_before(
        &mut self,
        pdu: &Pdu,
        fetched: &BTreeMap<OwnedEventId, Arc<FetchedState>>,
    ) -> Result<Result<StateRoot, Vec<OwnedEventId>>> {
        let mut roots = Vec::with_capacity(pdu.prev_events.len());
        let mut missing = Vec::new();
        for id in &pdu.prev_events {
            match (self.placed(id).await?, fetched.get(id)) {
                (Some(prev), _) => roots.push(prev.state_after),
                (None, Some(state)) => roots.push(self.fetched_state(state).await?),
                (None, None) => missing.push(id.clone()),
            }
        }
        if missing.is_empty() { self.resolve(&roots).await.map(Ok) } else { Ok(Err(missing)) }
    }

    /// The root of a state that was fetched.
    pub(crate) async fn fetched_state(&mut self, state: &FetchedState) -> Result<StateRoot> {
        let mut entries = state.before.clone();
        if let Some((key, id)) = &state.sets {
            let event = self.event_by_id(id).await?;
            if event.is_some_and(|event| !event.rejected) {
                entries.retain(|(other, _)| other != key);
                entries.push((key.clone(), id.clone()));
            }
        }
        self.state_of(entries).await
    }

    /// The checks by the state before an event, and by the current one.
    async fn judge(&self, pdu: &Pdu, before: StateRoot) -> Result<Verdict> {
        // 5. By the state before it.
        if let Err(why) = self.allows(pdu, before).await? {
            return Ok(Verdict::Rejected(why));
        }
        // 6. By the current state.
        if before == self.head.state {
            return Ok(Verdict::Allowed);
        }
        match self.allows(pdu, self.head.state).await? {
            Ok(()) => Ok(Verdict::Allowed),
            Err(why) => Ok(Verdict::SoftFailed(why)),
        }
    }

    /// Whether a state allows an event; the rule that it breaks if it does not.
    pub(crate) async fn allows(&self, pdu: &Pdu, root: StateRoot) -> Result<Result<(), String>> {
        let rules = &self.room.rules;
        let kind = &pdu.kind;
        let key = pdu.state_key.as_deref();
        let keys = match event::auth_types(kind, &pdu.sender, key, &pdu.content, rules) {
            Ok(keys) => keys,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut state: HashMap<_, _> = self.auth_state(root, keys.clone()).await?;
        if !self.whole && self.rooms.is_partial(self.room.number) {
            self.add_claimed_members(pdu, keys, &mut state).await?;
        }
        let by_key =
            |kind: &StateEventType, key: &str| state.get(&(kind.clone(), key.to_owned())).cloned();
        Ok(event::authorise_by_state(pdu, rules, by_key).map_err(|error| error.to_string()))
    }

    /// While members are missing from the room's states, takes those that an event's auth events
    /// name for them.
    async fn add_claimed_members(
        &self,
        pdu: &Pdu,
        keys: Vec<StateKey>,
        state: &mut HashMap<StateKey, Arc<Pdu>>,
    ) -> Result<()> {
        let missing: Vec<StateKey> = keys
            .into_iter()
            .filter(|key| key.0 == StateEventType::RoomMember && !state.contains_key(key))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        for event in self.known(&pdu.auth_events).await?.into_values() {
            let Some((kind, key)) = event.pdu.state_entry() else { continue };
            let key = (kind, key.to_owned());
            if !event.rejected && missing.contains(&key) {
                state.insert(key, Arc::clone(&event.pdu));
            }
        }
        Ok(())
    }

    /// Keeps an event that is refused whatever its place is.
    async fn add_rejected(&mut self, mut pdu: Pdu) -> Result<()> {
        if self.event_by_id(&pdu.event_id).await?.is_none() {
            pdu.rejected = true;
            self.add_outlier(Arc::new(pdu));
        }
        Ok(())
    }
}
