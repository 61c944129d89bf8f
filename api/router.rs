//! Which path leads to which handler, and what holds for all of them.

use axum::{Router, extract::Request, middleware, response::Response};
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::{catch_panic::CatchPanicLayer, cors::CorsLayer};

use crate::{
    account, account_data, admin_register, capabilities, dehydrated, devices, directory, discovery,
    error::ApiError, filters, key_backup, keys, login, media, openid, presence, profile,
    push_rules, rate_limit::limit_addresses, register, rooms, state::ApiState, sync, to_device,
};

/// The whole client-server API. Unknown paths and wrong methods are answered here, too.
pub fn router(state: ApiState) -> Router {
    Router::new()
        .merge(account::routes())
        .merge(account_data::routes())
        .merge(admin_register::routes())
        .merge(capabilities::routes())
        .merge(dehydrated::routes())
        .merge(devices::routes())
        .merge(directory::routes())
        .merge(discovery::routes())
        .merge(filters::routes())
        .merge(key_backup::routes())
        .merge(keys::routes())
        .merge(login::routes())
        .merge(openid::routes())
        .merge(media::routes())
        .merge(presence::routes())
        .merge(profile::routes())
        .merge(push_rules::routes())
        .merge(register::routes())
        .merge(rooms::routes())
        .merge(sync::routes())
        .merge(to_device::routes())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(state.clone(), limit_addresses))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(cors())
        .with_state(state)
}

/// Answers a request for a path that nobody knows: 404 `M_UNRECOGNIZED`.
async fn unknown_path(_request: Request) -> ApiError {
    ApiError::unrecognized()
}

/// Answers a request with a method that the path does not have: 405 `M_UNRECOGNIZED`.
async fn wrong_method(_request: Request) -> ApiError {
    ApiError::method_not_allowed()
}

/// Answers a request whose handler gave up: 500, like any failure inside.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    use axum::response::IntoResponse;
    ApiError::internal(&std::io::Error::other("a handler panicked")).into_response()
}

/// The headers that let web clients in.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#web-browser-clients)
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(HeaderValue::from_static("*"))
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::OPTIONS,
        ])
        .allow_headers([
            HeaderName::from_static("x-requested-with"),
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            header::DATE,
        ])
        .expose_headers([header::RETRY_AFTER])
        .max_age(std::time::Duration::from_secs(86_400))
}
