//! What is told to everybody: versions, and where things are.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::get};
use ruma::api::client::discovery::{
    discover_homeserver, discover_support,
    discover_support::{Contact, ContactRole},
    get_supported_versions,
};
use serde_json::{Value as JsonValue, json};

use crate::{
    error::ApiError,
    extract::{Ruma, route},
    settings::ApiSettings,
    state::ApiState,
};

/// The versions of the specification that clients may count on.
const VERSIONS: [&str; 20] = [
    "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10",
    "v1.11", "v1.12", "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
];

/// Proposals that work here under their unstable or early names.
const FEATURES: [&str; 4] =
    ["org.matrix.msc3814", "org.matrix.msc3882", "uk.tcpip.msc4133", "uk.tcpip.msc4133.stable"];

pub(crate) fn routes() -> Router<ApiState> {
    let router = route::<get_supported_versions::Request, _, _>(Router::new(), get_versions);
    let router = route::<discover_homeserver::Request, _, _>(router, well_known_client);
    let router = route::<discover_support::Request, _, _>(router, well_known_support);
    router.route("/.well-known/matrix/server", get(well_known_server))
}

/// Says which versions of the specification are spoken here.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientversions)
async fn get_versions(
    Ruma(_): Ruma<get_supported_versions::Request>,
) -> Ruma<get_supported_versions::Response> {
    let versions = VERSIONS.map(str::to_owned).to_vec();
    let mut response = get_supported_versions::Response::new(versions);
    response.unstable_features =
        FEATURES.into_iter().map(|feature| (feature.to_owned(), true)).collect();
    Ruma(response)
}

/// Says where clients find the server.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#getwell-knownmatrixclient)
async fn well_known_client(
    State(settings): State<Arc<ApiSettings>>,
    Ruma(_): Ruma<discover_homeserver::Request>,
) -> Result<Ruma<discover_homeserver::Response>, ApiError> {
    let base_url = settings.public_base_url.clone().ok_or_else(nothing_set)?;
    let homeserver = discover_homeserver::HomeserverInfo::new(base_url);
    Ok(Ruma(discover_homeserver::Response::new(homeserver)))
}

/// Says where other servers find the server.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver)
async fn well_known_server(
    State(settings): State<Arc<ApiSettings>>,
) -> Result<Json<JsonValue>, ApiError> {
    let address = settings.federation_address.clone();
    let address = address.or_else(|| host_and_port(settings.public_base_url.as_deref()?));
    Ok(Json(json!({ "m.server": address.ok_or_else(nothing_set)? })))
}

/// Says whom to turn to.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#getwell-knownmatrixsupport)
async fn well_known_support(
    State(settings): State<Arc<ApiSettings>>,
    Ruma(_): Ruma<discover_support::Request>,
) -> Result<Ruma<discover_support::Response>, ApiError> {
    let support = &settings.support;
    let mut contacts = Vec::new();
    if let Some(email) = &support.admin_email {
        contacts.push(Contact::with_email_address(ContactRole::Admin, email.clone()));
    }
    if let Some(user_id) = &support.admin_matrix_id {
        contacts.push(Contact::with_matrix_id(ContactRole::Admin, user_id.clone()));
    }
    if contacts.is_empty() && support.support_page.is_none() {
        return Err(nothing_set());
    }
    let mut response = discover_support::Response::with_contacts(contacts);
    response.support_page.clone_from(&support.support_page);
    Ok(Ruma(response))
}

/// The host and port of a base URL.
fn host_and_port(base_url: &str) -> Option<String> {
    let uri: http::Uri = base_url.parse().ok()?;
    let port = match uri.scheme_str() {
        Some("http") => 80,
        _ => 443,
    };
    Some(format!("{}:{}", uri.host()?, uri.port_u16().unwrap_or(port)))
}

fn nothing_set() -> ApiError {
    ApiError::not_found("this server has not set anything here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_where_clients_are_unless_said_otherwise() {
        let address = |url| host_and_port(url).unwrap_or_default();
        assert_eq!(address("https://matrix.example.org"), "matrix.example.org:443");
        assert_eq!(address("https://matrix.example.org:8448/x"), "matrix.example.org:8448");
        assert_eq!(address("http://[::1]:8008"), "[::1]:8008");
    }
}
