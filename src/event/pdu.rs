//! A persistent data unit: an event as servers exchange, sign and store it.

use std::sync::{Arc, OnceLock};

use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedUserId, RoomId, UInt, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
    state_res::Event,
};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Value as JsonValue, value::RawValue as RawJsonValue};

use crate::{
    EventError, client_format, format::write_canonical, lax, object::EventObject, parse_canonical,
    verify::reference_event_id,
};

/// A persistent data unit with its fields at hand.
///
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#pdus)
#[derive(Clone, Debug)]
pub struct Pdu {
    /// The reference hash of the event, or what the event itself says in room versions 1 and 2.
    pub event_id: OwnedEventId,
    /// The room; for a create event of room version 12 and later it is derived from the event ID.
    pub room_id: OwnedRoomId,
    /// Who sent the event.
    pub sender: OwnedUserId,
    /// The event's type.
    pub kind: TimelineEventType,
    /// The state key; only state events have one.
    pub state_key: Option<String>,
    /// The content, a JSON object.
    pub content: Box<RawJsonValue>,
    /// The events that this one follows in the room's graph.
    pub prev_events: Vec<OwnedEventId>,
    /// The state events that allow this one.
    pub auth_events: Vec<OwnedEventId>,
    /// One more than the greatest depth of the previous events. In room versions 1 to 5 it may be
    /// greater than this type holds, and is cut to it.
    pub depth: UInt,
    /// When the event was made, by the clock of its server.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// What a redaction redacts, wherever the room version puts it.
    pub redacts: Option<OwnedEventId>,
    /// The whole event, hashed and signed, as canonical JSON.
    pub json: Arc<str>,
    /// Whether the checks on receipt rejected the event. Not part of the JSON.
    pub rejected: bool,
    /// The JSON has no `room_id`, since the event is what names the room.
    names_room: bool,
    /// Power levels with numbers that are no integers, made integers.
    levels: Option<Box<RawJsonValue>>,
    client_json: OnceLock<Arc<str>>,
    sync_json: OnceLock<Arc<str>>,
}

impl Pdu {
    /// Reads an event and computes its ID.
    ///
    /// # Errors
    /// [`EventError::BadJson`] when it is not shaped like an event. Limits, hash and signatures are
    /// not checked: that is what [`crate::verify()`] is for.
    pub fn from_json(json: Arc<str>, rules: &RoomVersionRules) -> Result<Self, EventError> {
        let event_id = EventObject::parse(&json, rules)?.event_id(rules)?;
        Self::from_stored(event_id, json, rules)
    }

    /// Reads an event from its canonical object and computes its ID.
    ///
    /// # Errors
    /// As [`Pdu::from_json`].
    pub fn from_object(
        object: &CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<Self, EventError> {
        let event_id = reference_event_id(object, rules)?;
        Self::from_stored(event_id, write_canonical(object)?.into(), rules)
    }

    /// Reads an event whose ID is known, because it was checked before: nothing is hashed.
    ///
    /// # Errors
    /// [`EventError::BadJson`] when it is not shaped like an event.
    pub fn from_stored(
        event_id: OwnedEventId,
        json: Arc<str>,
        rules: &RoomVersionRules,
    ) -> Result<Self, EventError> {
        let fields: Fields<'_> = serde_json::from_str(&json)?;
        if !fields.content.get().starts_with('{') {
            return Err(EventError::BadJson("`content` is not an object".to_owned()));
        }
        let names_room = fields.kind == TimelineEventType::RoomCreate
            && rules.authorization.room_create_event_id_as_room_id
            && fields.room_id.is_none();
        let room_id = match fields.room_id {
            Some(room_id) => room_id,
            None if names_room => room_named_by(&event_id)?,
            None => return Err(EventError::BadJson("missing `room_id`".to_owned())),
        };
        let redacts = if fields.kind != TimelineEventType::RoomRedaction {
            None
        } else if rules.redaction.content_field_redacts {
            serde_json::from_str::<Redacts>(fields.content.get()).ok().and_then(|c| c.redacts)
        } else {
            fields.redacts
        };
        let levels = lax_levels(&fields.kind, fields.content, rules);
        Ok(Self {
            event_id,
            room_id,
            sender: fields.sender,
            kind: fields.kind,
            state_key: fields.state_key,
            content: fields.content.to_owned(),
            prev_events: fields.prev_events.into_iter().map(Reference::into_id).collect(),
            auth_events: fields.auth_events.into_iter().map(Reference::into_id).collect(),
            depth: UInt::new_saturating(fields.depth),
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(
                fields.origin_server_ts,
            )),
            redacts: redacts.and_then(|id| id.as_str().and_then(|id| EventId::parse(id).ok())),
            rejected: false,
            levels,
            names_room,
            client_json: OnceLock::new(),
            sync_json: OnceLock::new(),
            json,
        })
    }

    /// The reference hash in unpadded base64. Room versions 1 and 2 put it beside the event's ID in
    /// the events that follow.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#calculating-the-reference-hash-for-an-event)
    ///
    /// # Errors
    /// [`EventError::BadJson`] when the stored JSON is no event.
    pub fn reference_hash(&self, rules: &RoomVersionRules) -> Result<String, EventError> {
        EventObject::parse(&self.json, rules)?.reference_hash(rules)
    }

    /// The content, read as the given type.
    ///
    /// # Errors
    /// [`EventError::BadJson`] when it is shaped differently.
    pub fn content_as<T: DeserializeOwned>(&self) -> Result<T, EventError> {
        Ok(serde_json::from_str(self.content.get())?)
    }

    /// The membership that an `m.room.member` event sets.
    #[must_use]
    pub fn membership(&self) -> Option<MembershipState> {
        #[derive(Deserialize)]
        struct Content {
            membership: MembershipState,
        }
        if self.kind != TimelineEventType::RoomMember {
            return None;
        }
        self.content_as::<Content>().ok().map(|content| content.membership)
    }

    /// Whether the event is a state event.
    #[must_use]
    pub fn is_state(&self) -> bool {
        self.state_key.is_some()
    }

    /// Type and key of the state that the event sets; `None` for other events.
    #[must_use]
    pub fn state_entry(&self) -> Option<(StateEventType, &str)> {
        let key = self.state_key.as_deref()?;
        Some((self.kind.to_string().into(), key))
    }

    /// The event in client format, without `unsigned`, as one JSON object. Encoded once.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#room-event-format)
    #[must_use]
    pub fn client_json(&self) -> Arc<str> {
        self.client_json
            .get_or_init(|| client_format::encode(self, client_format::Place::Anywhere).into())
            .clone()
    }

    /// The event as [`Pdu::client_json`], without `room_id`, as `/sync` shows it. Encoded once.
    #[must_use]
    pub fn sync_json(&self) -> Arc<str> {
        self.sync_json
            .get_or_init(|| client_format::encode(self, client_format::Place::UnderItsRoom).into())
            .clone()
    }
}

impl Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        (!self.names_room).then_some(&*self.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.kind
    }

    fn content(&self) -> &RawJsonValue {
        self.levels.as_deref().unwrap_or(&self.content)
    }

    fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.auth_events.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}

/// The content of a power levels event of a room version that allows floats, if there are some.
///
/// [Spec](https://spec.matrix.org/v1.19/rooms/v1/#deprecated-event-content-schemas)
fn lax_levels(
    kind: &TimelineEventType,
    content: &RawJsonValue,
    rules: &RoomVersionRules,
) -> Option<Box<RawJsonValue>> {
    if rules.authorization.strict_canonical_json || *kind != TimelineEventType::RoomPowerLevels {
        return None;
    }
    if parse_canonical(content.get()).is_ok() {
        return None;
    }
    let levels = lax::with_integers(&lax::parse(content.get()).ok()?);
    RawJsonValue::from_string(write_canonical(&levels).ok()?).ok()
}

/// The ID of the room that a create event of room version 12 and later names.
fn room_named_by(create: &EventId) -> Result<OwnedRoomId, EventError> {
    let hash = create.as_str().strip_prefix('$').unwrap_or(create.as_str());
    RoomId::parse(format!("!{hash}")).map_err(|error| EventError::BadJson(error.to_string()))
}

#[derive(Deserialize)]
struct Fields<'a> {
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    #[serde(rename = "type")]
    kind: TimelineEventType,
    state_key: Option<String>,
    #[serde(borrow)]
    content: &'a RawJsonValue,
    prev_events: Vec<Reference>,
    auth_events: Vec<Reference>,
    depth: u64,
    origin_server_ts: u64,
    /// Anything may stand here in an event that is no redaction.
    redacts: Option<JsonValue>,
}

#[derive(Deserialize)]
struct Redacts {
    redacts: Option<JsonValue>,
}

/// One entry of `prev_events` or `auth_events`; a pair with hashes in room versions 1 and 2.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reference {
    Id(OwnedEventId),
    WithHash(OwnedEventId, IgnoredAny),
}

impl Reference {
    fn into_id(self) -> OwnedEventId {
        match self {
            Self::Id(id) | Self::WithHash(id, _) => id,
        }
    }
}
