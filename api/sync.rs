//! Long-polling for news.

mod answer;

use axum::{Router, extract::State};
use ruma::{
    api::client::{
        filter::FilterDefinition,
        sync::sync_events::v3::{Filter, Request},
    },
    presence::PresenceState,
};
use syncing::{SYNC_TIMEOUT_MS_MAX, SyncRequest, Syncing};
use users::Users;

use crate::{
    ApiState,
    auth::Session,
    error::ApiError,
    extract::{Ruma, route},
    sync::answer::SyncAnswer,
};

pub(crate) fn routes() -> Router<ApiState> {
    route::<Request, _, _>(Router::new(), sync_events)
}

/// Tells all that is new since a point, or waits for it.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync)
async fn sync_events(
    State(syncing): State<Syncing>,
    State(users): State<Users>,
    session: Session,
    Ruma(request): Ruma<Request>,
) -> Result<SyncAnswer, ApiError> {
    if matches!(request.set_presence, PresenceState::_Custom(_)) {
        return Err(ApiError::invalid_param("set_presence is online, unavailable or offline"));
    }
    let filter = filter(&users, &session, request.filter).await?;
    let since = request.since.filter(|since| !since.is_empty());
    let timeout_ms = request.timeout.map_or(0, |timeout| {
        u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).min(SYNC_TIMEOUT_MS_MAX)
    });
    let request = SyncRequest {
        since: since.map(|since| since.parse()).transpose()?,
        filter,
        full_state: request.full_state,
        use_state_after: request.use_state_after,
        timeout_ms,
        set_presence: request.set_presence,
        ..SyncRequest::new(session.user_id.clone(), session.device_id.clone())
    };
    Ok(SyncAnswer(syncing.sync(request).await?))
}

/// The filter itself, where the client names one that we keep.
async fn filter(
    users: &Users,
    session: &Session,
    filter: Option<Filter>,
) -> Result<FilterDefinition, ApiError> {
    match filter {
        None => Ok(FilterDefinition::default()),
        Some(Filter::FilterDefinition(filter)) => Ok(filter),
        Some(Filter::FilterId(text)) if text.trim_start().starts_with('{') => {
            let error = serde_json::from_str::<FilterDefinition>(&text).err();
            let why = error.map(|error| error.to_string()).unwrap_or_default();
            Err(ApiError::bad_json(format!("the filter has the wrong shape: {why}")))
        }
        Some(Filter::FilterId(id)) => {
            let filter = users.filter(&session.user_id, &id).await?;
            filter.ok_or_else(|| ApiError::invalid_param("no such filter"))
        }
        Some(_) => Err(ApiError::invalid_param("no such kind of filter")),
    }
}
