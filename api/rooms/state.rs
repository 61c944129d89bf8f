//! Reading and setting the state of a room.

use axum::{Router, extract::State};
use rooms::{NewEvent, Rooms};
use ruma::{
    api::client::state::{
        get_state_event_for_key, get_state_event_for_key::v3::StateEventFormat, get_state_events,
        send_state_event,
    },
    events::{StateEventType, room::member::MembershipState},
};
use users::Users;

use super::guests;
use crate::{
    ApiState,
    auth::{ActiveSession, Session},
    error::ApiError,
    extract::{Ruma, route},
};

/// The paths of an empty state key, which ruma does not list.
const NO_KEY_PATHS: [&str; 4] = [
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}/",
];

pub(crate) fn routes() -> Router<ApiState> {
    let router = Router::new();
    let router = route::<get_state_events::v3::Request, _, _>(router, room_state);
    let router = route::<get_state_event_for_key::v3::Request, _, _>(router, state_event);
    let router = route::<send_state_event::v3::Request, _, _>(router, set_state);
    NO_KEY_PATHS.iter().fold(router, |router, path| {
        router.route(path, axum::routing::get(state_event).put(set_state))
    })
}

/// Lists the state of a room, for those who left as it was when they did.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstate)
async fn room_state(
    State(state): State<ApiState>,
    session: Session,
    Ruma(request): Ruma<get_state_events::v3::Request>,
) -> Result<Ruma<get_state_events::v3::Response>, ApiError> {
    let events = state.rooms.state(&session.user_id, &request.room_id).await?;
    let (viewer, now_ms) = (super::viewer(&session), state.clock.now_ms());
    let events = events.iter().map(|event| event.state_json(viewer, now_ms)).collect();
    Ok(Ruma(get_state_events::v3::Response::new(events)))
}

/// Gives one event of the state of a room, or its content.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstateeventtypestatekey)
async fn state_event(
    State(state): State<ApiState>,
    session: Session,
    Ruma(request): Ruma<get_state_event_for_key::v3::Request>,
) -> Result<Ruma<get_state_event_for_key::v3::Response>, ApiError> {
    let (room_id, key) = (&request.room_id, &request.state_key);
    let (kind, user_id) = (&request.event_type, &session.user_id);
    let with_event = match request.format {
        StateEventFormat::Content => false,
        StateEventFormat::Event => true,
        other => {
            let format = other.as_str();
            return Err(ApiError::invalid_param(format!("unknown format {format:?}")));
        }
    };
    let event = state.rooms.state_event_for(user_id, room_id, kind, key).await?;
    Ok(Ruma(if with_event {
        event.state_json(super::viewer(&session), state.clock.now_ms()).into()
    } else {
        get_state_event_for_key::v3::Response::new(event.event.pdu.content.clone())
    }))
}

/// Sets one event of the state of a room.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey)
async fn set_state(
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<send_state_event::v3::Request>,
) -> Result<Ruma<send_state_event::v3::Response>, ApiError> {
    let (kind, room_id) = (request.event_type, request.room_id);
    let membership = request.body.get_field::<MembershipState>("membership");
    if kind == StateEventType::RoomMember && matches!(membership, Ok(Some(MembershipState::Join))) {
        guests::check_join(&rooms, &session, &room_id).await?;
    }
    let event = NewEvent::state(kind.clone(), request.state_key, request.body.into_json());
    let event_id = rooms.send(&session.user_id, &room_id, event).await?;
    if kind == StateEventType::RoomGuestAccess {
        guests::see_out(&rooms, &users, &room_id);
    }
    Ok(Ruma(send_state_event::v3::Response::new(event_id)))
}
