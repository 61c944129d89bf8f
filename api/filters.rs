//! Filters that clients keep with us.

use axum::{Router, extract::State};
use ruma::api::client::filter::{create_filter, get_filter};
use users::Users;

use crate::{
    auth::ActiveSession,
    error::ApiError,
    extract::{Ruma, route},
    state::ApiState,
};

pub(crate) fn routes() -> Router<ApiState> {
    let router = route::<create_filter::v3::Request, _, _>(Router::new(), define_filter);
    route::<get_filter::v3::Request, _, _>(router, get)
}

/// Keeps a filter.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3useruseridfilter)
async fn define_filter(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<create_filter::v3::Request>,
) -> Result<Ruma<create_filter::v3::Response>, ApiError> {
    if session.user_id != request.user_id {
        return Err(ApiError::forbidden("you may keep filters for yourself only"));
    }
    let filter_id = users.put_filter(&session.user_id, &request.filter).await?;
    Ok(Ruma(create_filter::v3::Response::new(filter_id)))
}

/// Shows a filter.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridfilterfilterid)
async fn get(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<get_filter::v3::Request>,
) -> Result<Ruma<get_filter::v3::Response>, ApiError> {
    if session.user_id != request.user_id {
        return Err(ApiError::forbidden("filters of others are not yours to see"));
    }
    let filter = users.filter(&session.user_id, &request.filter_id).await?;
    let filter = filter.ok_or_else(|| ApiError::not_found("filter not found"))?;
    Ok(Ruma(get_filter::v3::Response::new(filter)))
}
