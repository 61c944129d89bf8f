//! `GET /rooms/{roomId}/timestamp_to_event`.

use axum::{Router, extract::State};
use rooms::Rooms;
use ruma::{
    MilliSecondsSinceUnixEpoch, UInt,
    api::client::room::get_event_by_timestamp::v1::{Request, Response},
};

use crate::{
    ApiState,
    auth::Session,
    error::ApiError,
    extract::{Ruma, route},
};

pub(crate) fn routes() -> Router<ApiState> {
    route::<Request, _, _>(Router::new(), nearest)
}

/// Gives the event closest to a time.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event)
async fn nearest(
    State(rooms): State<Rooms>,
    session: Session,
    Ruma(request): Ruma<Request>,
) -> Result<Ruma<Response>, ApiError> {
    let wanted_ms = u64::from(request.ts.0);
    let found =
        rooms.event_near(&session.user_id, &request.room_id, wanted_ms, request.dir).await?;
    let (event_id, timestamp_ms) = found;
    let timestamp = MilliSecondsSinceUnixEpoch(UInt::new_saturating(timestamp_ms));
    Ok(Ruma(Response::new(event_id, timestamp)))
}
