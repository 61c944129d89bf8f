//! What clients may do here.

use axum::{Router, extract::State};
use rooms::Rooms;
use ruma::api::client::discovery::get_capabilities::v3::{
    Capabilities, ChangePasswordCapability, GetLoginTokenCapability, ProfileFieldsCapability,
    Request, Response, RoomVersionStability, RoomVersionsCapability, ThirdPartyIdChangesCapability,
};

use crate::{
    auth::ActiveSession,
    extract::{Ruma, route},
    state::ApiState,
};

pub(crate) fn routes() -> Router<ApiState> {
    route::<Request, _, _>(Router::new(), get_capabilities)
}

/// Says what clients may do here.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3capabilities)
async fn get_capabilities(
    State(rooms): State<Rooms>,
    _: ActiveSession,
    Ruma(_): Ruma<Request>,
) -> Ruma<Response> {
    let mut capabilities = Capabilities::default();
    let available = rooms::SUPPORTED_VERSIONS
        .into_iter()
        .map(|version| (version, RoomVersionStability::Stable))
        .collect();
    capabilities.room_versions =
        RoomVersionsCapability::new(rooms.default_version().clone(), available);
    capabilities.change_password = ChangePasswordCapability::new(true);
    capabilities.thirdparty_id_changes = ThirdPartyIdChangesCapability::new(false);
    capabilities.get_login_token = GetLoginTokenCapability::new(true);
    capabilities.profile_fields = Some(ProfileFieldsCapability::new(true));
    Ruma(Response::new(capabilities))
}
