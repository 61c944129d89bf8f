//! Reading events: one, its surroundings, and pages of the timeline.

use axum::{Router, extract::State};
use rooms::{MessagesQuery, PageToken, ServedEvent};
use ruma::{
    UInt,
    api::client::{context::get_context, message::get_message_events, room::get_room_event},
};

use crate::{
    ApiState,
    auth::Session,
    error::ApiError,
    extract::{Ruma, route},
};

/// Most events that a page of `/messages` or the surroundings of an event hold.
const PAGE_EVENTS_MAX: usize = 1000;

pub(crate) fn routes() -> Router<ApiState> {
    let router = Router::new();
    let router = route::<get_room_event::v3::Request, _, _>(router, event);
    let router = route::<get_context::v3::Request, _, _>(router, context);
    route::<get_message_events::v3::Request, _, _>(router, messages)
}

/// Gives one event.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomideventeventid)
async fn event(
    State(state): State<ApiState>,
    session: Session,
    Ruma(request): Ruma<get_room_event::v3::Request>,
) -> Result<Ruma<get_room_event::v3::Response>, ApiError> {
    let served = state.rooms.event(&session.user_id, &request.room_id, &request.event_id).await?;
    let event = served.timeline_json(super::viewer(&session), state.clock.now_ms());
    Ok(Ruma(get_room_event::v3::Response::new(event)))
}

/// Gives an event with those just before and after it.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidcontexteventid)
async fn context(
    State(state): State<ApiState>,
    session: Session,
    Ruma(request): Ruma<get_context::v3::Request>,
) -> Result<Ruma<get_context::v3::Response>, ApiError> {
    let limit = page_limit(request.limit);
    let context = state
        .rooms
        .context(&session.user_id, &request.room_id, &request.event_id, limit, request.filter)
        .await?;
    let (viewer, now_ms) = (super::viewer(&session), state.clock.now_ms());
    let mut response = get_context::v3::Response::new();
    response.start = Some(context.start.to_string());
    response.end = Some(context.end.to_string());
    response.event = Some(context.event.timeline_json(viewer, now_ms));
    let timeline = |event: &ServedEvent| event.timeline_json(viewer, now_ms);
    response.events_before = context.before.iter().map(timeline).collect();
    response.events_after = context.after.iter().map(timeline).collect();
    response.state = context.state.iter().map(|event| event.state_json(viewer, now_ms)).collect();
    Ok(Ruma(response))
}

/// Gives a page of a room's timeline.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages)
async fn messages(
    State(state): State<ApiState>,
    session: Session,
    Ruma(request): Ruma<get_message_events::v3::Request>,
) -> Result<Ruma<get_message_events::v3::Response>, ApiError> {
    let query = MessagesQuery {
        from: request.from.as_deref().map(|text| page_token("from", text)).transpose()?,
        to: request.to.as_deref().map(|text| page_token("to", text)).transpose()?,
        direction: request.dir,
        limit: page_limit(request.limit),
        filter: request.filter,
    };
    let page = state.rooms.messages(&session.user_id, &request.room_id, query).await?;
    let (viewer, now_ms) = (super::viewer(&session), state.clock.now_ms());
    let mut response = get_message_events::v3::Response::new();
    // What the client gave comes back as it was.
    response.start = request.from.unwrap_or_else(|| page.start.to_string());
    response.end = page.end.map(|token| token.to_string());
    response.chunk = page.chunk.iter().map(|event| event.timeline_json(viewer, now_ms)).collect();
    response.state = page.state.iter().map(|event| event.state_json(viewer, now_ms)).collect();
    Ok(Ruma(response))
}

/// A place in a timeline from a query parameter.
pub(super) fn page_token(name: &str, text: &str) -> Result<PageToken, ApiError> {
    text.parse().map_err(|_| ApiError::invalid_param(format!("{name} is no token of ours")))
}

fn page_limit(limit: UInt) -> usize {
    usize::try_from(u64::from(limit)).unwrap_or(usize::MAX).min(PAGE_EVENTS_MAX)
}
