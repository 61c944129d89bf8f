//! Authorisation: whether the rules of the room version allow an event.

use std::sync::Arc;

use ruma::{
    EventId, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
    state_res::{
        auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules,
    },
};
use serde_json::value::RawValue as RawJsonValue;

use crate::{EventError, Pdu, defaults};

/// The state that decides over an event, which its `auth_events` have to list where it exists.
///
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection)
///
/// # Errors
/// [`EventError::BadJson`] when an `m.room.member` event's content or state key is malformed.
pub fn auth_types(
    kind: &TimelineEventType,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawJsonValue,
    rules: &RoomVersionRules,
) -> Result<Vec<(StateEventType, String)>, EventError> {
    auth_types_for_event(kind, sender, state_key, content, &rules.authorization)
        .map_err(EventError::BadJson)
}

/// Checks an event by every authorisation rule, against its auth events and against a state.
///
/// For a room of version 12 and later, `fetch_event` is asked for the create event as well.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#authorisation-rules)
///
/// # Errors
/// [`EventError::Forbidden`] with the rule that the event breaks.
pub fn authorise(
    pdu: &Pdu,
    rules: &RoomVersionRules,
    fetch_event: impl Fn(&EventId) -> Option<Arc<Pdu>>,
    fetch_state: impl Fn(&StateEventType, &str) -> Option<Arc<Pdu>>,
) -> Result<(), EventError> {
    authorise_by_events(pdu, rules, fetch_event)?;
    authorise_by_state(pdu, rules, fetch_state)
}

/// Checks only the rules about the event itself and the choice of its auth events.
///
/// # Errors
/// [`EventError::Forbidden`] with the rule that the event breaks.
pub fn authorise_by_events(
    pdu: &Pdu,
    rules: &RoomVersionRules,
    fetch_event: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<(), EventError> {
    check_state_independent_auth_rules(&rules.authorization, pdu, fetch_event)
        .map_err(EventError::Forbidden)
}

/// Checks only the rules that depend on a state: that of the auth events, the state before the
/// event, or the room's current one. Without join rules an invite is needed to join.
///
/// # Errors
/// [`EventError::Forbidden`] with the rule that the event breaks.
pub fn authorise_by_state(
    pdu: &Pdu,
    rules: &RoomVersionRules,
    fetch_state: impl Fn(&StateEventType, &str) -> Option<Arc<Pdu>>,
) -> Result<(), EventError> {
    let join_rules = defaults::join_rules(rules)?;
    let fetch = |kind: &StateEventType, key: &str| {
        defaults::or_default(fetch_state(kind, key), kind, &join_rules)
    };
    check_state_dependent_auth_rules(&rules.authorization, pdu, fetch)
        .map_err(EventError::Forbidden)
}
