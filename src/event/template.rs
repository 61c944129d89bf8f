//! Member events that one server prepares and another completes: `make_join` and its like.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, RoomId,
    ServerName, UserId, events::room::member::MembershipState,
    room_version_rules::RoomVersionRules,
};

use crate::{
    Draft, EventError, Pdu, ServerKey,
    build::{seal, to_object},
    format::write_canonical,
    parse_canonical,
};

/// The key of a join that names the user whose power to invite allows it.
const AUTHORISED_VIA: &str = "join_authorised_via_users_server";

/// The ID under which an event is authorised that has none yet.
const UNSIGNED_ID: &str = "$unsigned";

/// What the server of a user adds to a member event that another server prepared.
#[derive(Clone, Debug)]
pub struct Completion<'a> {
    /// The room that the event must be of.
    pub room_id: &'a RoomId,
    /// Whose membership it must be about, and who signs.
    pub user: &'a UserId,
    /// What it must make of them.
    pub membership: MembershipState,
    /// The content: an object, to which the membership is added.
    pub content: CanonicalJsonObject,
    /// When the event is made.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
}

/// Writes an event for another server to complete: without hash and signature. It can be read as a
/// [`Pdu`] with an ID of no meaning, to be authorised.
///
/// # Errors
/// As [`crate::build()`].
pub fn template(draft: Draft, rules: &RoomVersionRules) -> Result<Pdu, EventError> {
    let object = to_object(draft, rules)?;
    let event_id =
        EventId::parse(UNSIGNED_ID).map_err(|error| EventError::BadJson(error.to_string()))?;
    Pdu::from_stored(event_id, write_canonical(&object)?.into(), rules)
}

/// Completes, hashes and signs a member event that another server prepared.
///
/// Its place in the room is taken from the template, everything else from us.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#joining-rooms)
///
/// # Errors
/// - [`EventError::BadJson`] when the template is malformed or about something else.
/// - [`EventError::WrongServer`] when the user is another server's.
/// - [`EventError::TooLarge`] when the event or one of its fields is too long.
pub fn complete(
    template: &str,
    completion: Completion<'_>,
    server_name: &ServerName,
    key: &ServerKey,
    rules: &RoomVersionRules,
) -> Result<Pdu, EventError> {
    let Completion { room_id, user, membership, mut content, origin_server_ts } = completion;
    if user.server_name() != server_name {
        return Err(EventError::WrongServer(server_name.to_string()));
    }
    let mut given = parse_canonical(template)?;
    for (field, wanted) in [
        ("type", "m.room.member"),
        ("room_id", room_id.as_str()),
        ("sender", user.as_str()),
        ("state_key", user.as_str()),
    ] {
        if text(&given, field) != Some(wanted) {
            return Err(bad(field));
        }
    }
    let Some(CanonicalJsonValue::Object(given_content)) = given.get("content") else {
        return Err(bad("content"));
    };
    if text(given_content, "membership") != Some(membership.as_str()) {
        return Err(bad("membership"));
    }
    if membership == MembershipState::Join
        && let Some(via) = text(given_content, AUTHORISED_VIA)
        && rules.authorization.restricted_join_rule
    {
        content.insert(AUTHORISED_VIA.to_owned(), via.into());
    }
    content.insert("membership".to_owned(), membership.as_str().into());
    let mut object = CanonicalJsonObject::new();
    for field in ["prev_events", "auth_events", "depth"] {
        object.insert(field.to_owned(), given.remove(field).ok_or_else(|| bad(field))?);
    }
    let mut put = |field: &str, value: CanonicalJsonValue| object.insert(field.to_owned(), value);
    put("type", "m.room.member".into());
    put("room_id", room_id.as_str().into());
    put("sender", user.as_str().into());
    put("state_key", user.as_str().into());
    put("content", content.into());
    put("origin_server_ts", origin_server_ts.0.into());
    seal(object, server_name, key, rules)
}

fn text<'a>(object: &'a CanonicalJsonObject, field: &str) -> Option<&'a str> {
    object.get(field).and_then(CanonicalJsonValue::as_str)
}

fn bad(field: &str) -> EventError {
    EventError::BadJson(format!("the prepared event has another `{field}` than was asked for"))
}
