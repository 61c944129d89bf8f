//! State that counts where a room has none of it.

use std::sync::{Arc, OnceLock};

use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
    state_res::Event,
};
use serde_json::value::RawValue as RawJsonValue;

use crate::{EventError, Pdu};

/// An event ID that no event has: hashes have no dots.
const JOIN_RULES_ID: &str = "$no.join.rules";

const JOIN_RULES: &str = r#"{"auth_events":[],"content":{"join_rule":"invite"},"depth":1,
    "origin_server_ts":0,"prev_events":[],"room_id":"!none:invalid","sender":"@none:invalid",
    "state_key":"","type":"m.room.join_rules"}"#;

/// The join rules of a room without any: members may stay, others need an invite.
///
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#mroomjoin_rules)
pub(crate) fn join_rules(rules: &RoomVersionRules) -> Result<Arc<Pdu>, EventError> {
    // The event reads alike in every room version.
    static READ: OnceLock<Arc<Pdu>> = OnceLock::new();
    if let Some(pdu) = READ.get() {
        return Ok(Arc::clone(pdu));
    }
    let event_id =
        EventId::parse(JOIN_RULES_ID).map_err(|error| EventError::BadJson(error.to_string()))?;
    let pdu = Arc::new(Pdu::from_stored(event_id, JOIN_RULES.into(), rules)?);
    Ok(Arc::clone(READ.get_or_init(|| pdu)))
}

/// What a state holds, or what counts where it holds nothing.
pub(crate) fn or_default(
    found: Option<Arc<Pdu>>,
    kind: &StateEventType,
    join_rules: &Arc<Pdu>,
) -> Option<Arc<Pdu>> {
    found.or_else(|| (*kind == StateEventType::RoomJoinRules).then(|| Arc::clone(join_rules)))
}

/// An event as state resolution sees it: the default join rules allow every member event, unless
/// its auth events or the state have others, and the create event is among them.
#[derive(Clone)]
pub(crate) struct WithDefaults<'a> {
    pub(crate) pdu: Arc<Pdu>,
    pub(crate) join_rules: &'a Pdu,
    /// Where the create event is listed at all.
    pub(crate) create: Option<&'a Pdu>,
}

impl Event for WithDefaults<'_> {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.pdu.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        self.pdu.room_id()
    }

    fn sender(&self) -> &UserId {
        &self.pdu.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.pdu.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.pdu.kind
    }

    fn content(&self) -> &RawJsonValue {
        Event::content(&*self.pdu)
    }

    fn state_key(&self) -> Option<&str> {
        self.pdu.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.pdu.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        let member = self.pdu.kind == TimelineEventType::RoomMember;
        // First, so that others of its type replace it. The create event comes before the rest:
        // ruma
        // takes the last power levels up to where it has found a creator.
        let default = member.then_some(&self.join_rules.event_id);
        let create = self.create.filter(|create| create.event_id != self.pdu.event_id);
        let create = create.map(|create| &create.event_id);
        Box::new(default.into_iter().chain(create).chain(&self.pdu.auth_events))
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.pdu.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.pdu.rejected
    }
}
