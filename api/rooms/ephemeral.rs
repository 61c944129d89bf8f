//! Typing, receipts and read markers.

use axum::{Router, extract::State};
use rooms::Rooms;
use ruma::{
    EventId, RoomId, UserId,
    api::client::{
        read_marker::set_read_marker,
        receipt::{create_receipt, create_receipt::v3::ReceiptType},
        typing::{create_typing_event, create_typing_event::v3::Typing},
    },
    events::receipt::{ReceiptThread, ReceiptType as KeptReceiptType},
};
use users::Users;

use crate::{
    ApiState,
    auth::{ActiveSession, Session},
    error::ApiError,
    extract::{Ruma, route},
};

pub(crate) fn routes() -> Router<ApiState> {
    let router = Router::new();
    let router = route::<create_typing_event::v3::Request, _, _>(router, set_typing);
    let router = route::<create_receipt::v3::Request, _, _>(router, send_receipt);
    route::<set_read_marker::v3::Request, _, _>(router, set_read_markers)
}

/// Says that one types, or no longer does.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidtypinguserid)
async fn set_typing(
    State(rooms): State<Rooms>,
    session: ActiveSession,
    Ruma(request): Ruma<create_typing_event::v3::Request>,
) -> Result<Ruma<create_typing_event::v3::Response>, ApiError> {
    if request.user_id != session.user_id {
        return Err(ApiError::forbidden("one cannot type for another"));
    }
    let timeout_ms = match request.state {
        Typing::No => None,
        Typing::Yes(info) => Some(u64::try_from(info.timeout.as_millis()).unwrap_or(u64::MAX)),
    };
    rooms.set_typing(&session.user_id, &request.room_id, timeout_ms).await?;
    Ok(Ruma(create_typing_event::v3::Response::new()))
}

/// Says how far one has read.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidreceiptreceipttypeeventid)
async fn send_receipt(
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    session: Session,
    Ruma(request): Ruma<create_receipt::v3::Request>,
) -> Result<Ruma<create_receipt::v3::Response>, ApiError> {
    let (user, room, event) = (&session.user_id, &request.room_id, &request.event_id);
    match request.receipt_type {
        ReceiptType::Read => {
            rooms.send_receipt(user, room, KeptReceiptType::Read, event, request.thread).await?;
        }
        ReceiptType::ReadPrivate => {
            let kind = KeptReceiptType::ReadPrivate;
            rooms.send_receipt(user, room, kind, event, request.thread).await?;
        }
        ReceiptType::FullyRead if request.thread == ReceiptThread::Unthreaded => {
            set_fully_read(&rooms, &users, user, room, event).await?;
        }
        ReceiptType::FullyRead => {
            return Err(ApiError::invalid_param("m.fully_read takes no thread_id"));
        }
        other => {
            let kind = other.as_str();
            return Err(ApiError::invalid_param(format!("unknown receipt type {kind:?}")));
        }
    }
    Ok(Ruma(create_receipt::v3::Response::new()))
}

/// Sets the fully-read marker and receipts at once.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidread_markers)
async fn set_read_markers(
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    session: Session,
    Ruma(request): Ruma<set_read_marker::v3::Request>,
) -> Result<Ruma<set_read_marker::v3::Response>, ApiError> {
    let (user, room) = (&session.user_id, &request.room_id);
    if let Some(event) = &request.fully_read {
        set_fully_read(&rooms, &users, user, room, event).await?;
    }
    let receipts = [
        (KeptReceiptType::Read, &request.read_receipt),
        (KeptReceiptType::ReadPrivate, &request.private_read_receipt),
    ];
    for (kind, event) in receipts {
        if let Some(event) = event {
            rooms.send_receipt(user, room, kind, event, ReceiptThread::Unthreaded).await?;
        }
    }
    Ok(Ruma(set_read_marker::v3::Response::new()))
}

/// Keeps the fully-read marker, which is account data of the room.
async fn set_fully_read(
    rooms: &Rooms,
    users: &Users,
    user: &UserId,
    room: &RoomId,
    event: &EventId,
) -> Result<(), ApiError> {
    rooms.event(user, room, event).await?;
    let content = serde_json::value::to_raw_value(&serde_json::json!({ "event_id": event }))
        .map_err(|error| ApiError::bad_json(error.to_string()))?;
    users.set_account_data(user, Some(room), "m.fully_read", &content).await?;
    Ok(())
}
