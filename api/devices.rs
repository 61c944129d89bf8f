//! One's devices.

use axum::{Router, extract::State};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedDeviceId, UInt,
    api::client::{
        device::{Device, delete_device, delete_devices, get_device, get_devices, update_device},
        uiaa::AuthData,
    },
};
use users::Users;

use crate::{
    auth::ActiveSession,
    error::ApiError,
    extract::{Ruma, route},
    rate_limit::ClientAddress,
    state::ApiState,
    uia::{Challenge, Checkers},
};

/// Devices removed by one request at most.
const DELETED_DEVICES_MAX: usize = 1_000;

/// Longest ID of a device, in bytes.
const DEVICE_ID_BYTES_MAX: usize = 512;

pub(crate) fn routes() -> Router<ApiState> {
    let router = route::<get_devices::v3::Request, _, _>(Router::new(), list);
    let router = route::<get_device::v3::Request, _, _>(router, get);
    let router = route::<update_device::v3::Request, _, _>(router, update);
    let router = route::<delete_device::v3::Request, _, _>(router, delete_one);
    route::<delete_devices::v3::Request, _, _>(router, delete_many)
}

/// Lists one's devices.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3devices)
async fn list(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(_): Ruma<get_devices::v3::Request>,
) -> Result<Ruma<get_devices::v3::Response>, ApiError> {
    let devices = users.list_devices(&session.user_id).await?;
    let devices = devices.into_iter().map(device_json).collect();
    Ok(Ruma(get_devices::v3::Response::new(devices)))
}

/// Shows one of one's devices.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3devicesdeviceid)
async fn get(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<get_device::v3::Request>,
) -> Result<Ruma<get_device::v3::Response>, ApiError> {
    let device = users.device(&session.user_id, &request.device_id).await?;
    let device = device.ok_or_else(|| ApiError::not_found("device not found"))?;
    Ok(Ruma(get_device::v3::Response::new(device_json(device))))
}

/// Renames one of one's devices.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3devicesdeviceid)
async fn update(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<update_device::v3::Request>,
) -> Result<Ruma<update_device::v3::Response>, ApiError> {
    if request.display_name.is_some() {
        let update_device::v3::Request { device_id, display_name, .. } = request;
        users.rename_device(&session.user_id, &device_id, display_name).await?;
    } else if users.device(&session.user_id, &request.device_id).await?.is_none() {
        return Err(ApiError::not_found("device not found"));
    }
    Ok(Ruma(update_device::v3::Response::new()))
}

/// Removes one of one's devices.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3devicesdeviceid)
async fn delete_one(
    State(state): State<ApiState>,
    ClientAddress(address): ClientAddress,
    session: ActiveSession,
    Ruma(request): Ruma<delete_device::v3::Request>,
) -> Result<Ruma<delete_device::v3::Response>, ApiError> {
    let devices = [request.device_id];
    delete(&state, &session, &devices, request.auth.as_ref(), address).await?;
    Ok(Ruma(delete_device::v3::Response::new()))
}

/// Removes several of one's devices.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3delete_devices)
async fn delete_many(
    State(state): State<ApiState>,
    ClientAddress(address): ClientAddress,
    session: ActiveSession,
    Ruma(request): Ruma<delete_devices::v3::Request>,
) -> Result<Ruma<delete_devices::v3::Response>, ApiError> {
    if request.devices.len() > DELETED_DEVICES_MAX {
        return Err(ApiError::invalid_param("at most 1,000 devices are removed at once"));
    }
    delete(&state, &session, &request.devices, request.auth.as_ref(), address).await?;
    Ok(Ruma(delete_devices::v3::Response::new()))
}

async fn delete(
    state: &ApiState,
    session: &ActiveSession,
    devices: &[OwnedDeviceId],
    auth: Option<&AuthData>,
    address: Option<std::net::IpAddr>,
) -> Result<(), ApiError> {
    if devices.iter().any(|device_id| device_id.as_str().len() > DEVICE_ID_BYTES_MAX) {
        return Err(ApiError::invalid_param("a device ID has at most 512 bytes"));
    }
    let mut names: Vec<&str> = devices.iter().map(|device_id| device_id.as_str()).collect();
    names.sort_unstable();
    let purpose = format!("delete devices {names:?}");
    let challenge = Challenge::password(&purpose, Some(&session.user_id));
    let checkers = Checkers {
        users: &state.users,
        settings: &state.settings,
        rate_limits: &state.rate_limits,
        address,
    };
    state.uia.step(&challenge, auth, checkers).await?;
    state.users.delete_devices(&session.user_id, devices).await?;
    Ok(())
}

fn device_json(device: users::Device) -> Device {
    let mut json = Device::new(device.device_id);
    json.display_name = device.display_name;
    json.last_seen_ip = device.last_seen_ip;
    let last_seen_ms = device.last_seen_ms.and_then(|ms| UInt::try_from(ms).ok());
    json.last_seen_ts = last_seen_ms.map(MilliSecondsSinceUnixEpoch);
    json
}
