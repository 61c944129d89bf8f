//! Messages from device to device.

use axum::{Router, extract::State};
use ruma::api::client::to_device::send_event_to_device;
use users::{ToDevice, Users};

use crate::{
    auth::ActiveSession,
    error::ApiError,
    extract::{Ruma, route},
    state::ApiState,
};

pub(crate) fn routes() -> Router<ApiState> {
    route::<send_event_to_device::v3::Request, _, _>(Router::new(), send)
}

/// Sends messages to devices, here and on other servers.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3sendtodeviceeventtypetxnid)
async fn send(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<send_event_to_device::v3::Request>,
) -> Result<Ruma<send_event_to_device::v3::Response>, ApiError> {
    let message = ToDevice {
        kind: request.event_type,
        txn_id: request.txn_id.to_string(),
        messages: request.messages,
    };
    users.send_to_device(&session.user_id, &session.device_id, &message).await?;
    Ok(Ruma(send_event_to_device::v3::Response::new()))
}
