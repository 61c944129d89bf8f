//! Sending message events and redactions.

use axum::{Router, extract::State};
use rooms::{NewEvent, Rooms};
use ruma::{
    api::client::{message::send_message_event, redact::redact_event},
    events::TimelineEventType,
};

use crate::{
    ApiState,
    auth::ActiveSession,
    error::ApiError,
    extract::{Ruma, route},
};

pub(crate) fn routes() -> Router<ApiState> {
    let router = Router::new();
    let router = route::<send_message_event::v3::Request, _, _>(router, send_message);
    route::<redact_event::v3::Request, _, _>(router, redact)
}

/// Sends a message event into a room.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid)
async fn send_message(
    State(rooms): State<Rooms>,
    session: ActiveSession,
    Ruma(request): Ruma<send_message_event::v3::Request>,
) -> Result<Ruma<send_message_event::v3::Response>, ApiError> {
    let kind = TimelineEventType::from(request.event_type);
    let event = NewEvent::message(kind, request.body.into_json()).txn(session.txn(&request.txn_id));
    let event_id = rooms.send(&session.user_id, &request.room_id, event).await?;
    Ok(Ruma(send_message_event::v3::Response::new(event_id)))
}

/// Strips an event of its content for everybody.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidredacteventidtxnid)
async fn redact(
    State(rooms): State<Rooms>,
    session: ActiveSession,
    Ruma(request): Ruma<redact_event::v3::Request>,
) -> Result<Ruma<redact_event::v3::Response>, ApiError> {
    let event = NewEvent::redaction(request.event_id, request.reason.as_deref())
        .txn(session.txn(&request.txn_id));
    let event_id = rooms.send(&session.user_id, &request.room_id, event).await?;
    Ok(Ruma(redact_event::v3::Response::new(event_id)))
}
