//! Account data and tags.

use axum::{Router, extract::State};
use http::StatusCode;
use ruma::{
    RoomId, UserId,
    api::client::{
        config::{
            get_global_account_data, get_room_account_data, set_global_account_data,
            set_room_account_data,
        },
        tag::{create_tag, delete_tag, get_tags},
    },
    serde::Raw,
};
use serde_json::value::{RawValue as RawJsonValue, to_raw_value};
use users::Users;

use crate::{
    auth::ActiveSession,
    error::ApiError,
    extract::{Ruma, route},
    state::ApiState,
};

/// Types that clients may not set here: each has an endpoint of its own.
const SERVER_CONTROLLED: [&str; 2] = ["m.fully_read", "m.push_rules"];

pub(crate) fn routes() -> Router<ApiState> {
    let router = route::<get_global_account_data::v3::Request, _, _>(Router::new(), get_global);
    let router = route::<set_global_account_data::v3::Request, _, _>(router, set_global);
    let router = route::<get_room_account_data::v3::Request, _, _>(router, get_for_room);
    let router = route::<set_room_account_data::v3::Request, _, _>(router, set_for_room);
    let router = route::<get_tags::v3::Request, _, _>(router, list_tags);
    let router = route::<create_tag::v3::Request, _, _>(router, set_tag);
    route::<delete_tag::v3::Request, _, _>(router, remove_tag)
}

/// Shows a piece of one's account data.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridaccount_datatype)
async fn get_global(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<get_global_account_data::v3::Request>,
) -> Result<Ruma<get_global_account_data::v3::Response>, ApiError> {
    check_own(&session, &request.user_id)?;
    let kind = request.event_type.to_string();
    let content = load(&users, &session, None, &kind).await?;
    Ok(Ruma(get_global_account_data::v3::Response::new(Raw::from_json(content))))
}

/// Sets a piece of one's account data.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3useruseridaccount_datatype)
async fn set_global(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<set_global_account_data::v3::Request>,
) -> Result<Ruma<set_global_account_data::v3::Response>, ApiError> {
    check_own(&session, &request.user_id)?;
    let kind = request.event_type.to_string();
    check_settable(&kind)?;
    users.set_account_data(&session.user_id, None, &kind, request.data.json()).await?;
    Ok(Ruma(set_global_account_data::v3::Response::new()))
}

/// Shows a piece of one's account data for a room.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridroomsroomidaccount_datatype)
async fn get_for_room(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<get_room_account_data::v3::Request>,
) -> Result<Ruma<get_room_account_data::v3::Response>, ApiError> {
    check_own(&session, &request.user_id)?;
    let kind = request.event_type.to_string();
    let content = load(&users, &session, Some(&request.room_id), &kind).await?;
    Ok(Ruma(get_room_account_data::v3::Response::new(Raw::from_json(content))))
}

/// Sets a piece of one's account data for a room.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3useruseridroomsroomidaccount_datatype)
async fn set_for_room(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<set_room_account_data::v3::Request>,
) -> Result<Ruma<set_room_account_data::v3::Response>, ApiError> {
    check_own(&session, &request.user_id)?;
    let kind = request.event_type.to_string();
    check_settable(&kind)?;
    let room = Some(&*request.room_id);
    users.set_account_data(&session.user_id, room, &kind, request.data.json()).await?;
    Ok(Ruma(set_room_account_data::v3::Response::new()))
}

/// Lists the tags that one gave a room.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridroomsroomidtags)
async fn list_tags(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<get_tags::v3::Request>,
) -> Result<Ruma<get_tags::v3::Response>, ApiError> {
    check_own(&session, &request.user_id)?;
    let tags = users.tags(&session.user_id, &request.room_id).await?;
    let tags = tags
        .into_iter()
        .map(|(tag, info)| (tag.into(), serde_json::from_value(info).unwrap_or_default()))
        .collect();
    Ok(Ruma(get_tags::v3::Response::new(tags)))
}

/// Gives a room a tag.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3useruseridroomsroomidtagstag)
async fn set_tag(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<create_tag::v3::Request>,
) -> Result<Ruma<create_tag::v3::Response>, ApiError> {
    check_own(&session, &request.user_id)?;
    let info = to_raw_value(&request.tag_info).map_err(|error| ApiError::internal(&error))?;
    users.set_tag(&session.user_id, &request.room_id, &request.tag, &info).await?;
    Ok(Ruma(create_tag::v3::Response::new()))
}

/// Takes a tag from a room.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3useruseridroomsroomidtagstag)
async fn remove_tag(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<delete_tag::v3::Request>,
) -> Result<Ruma<delete_tag::v3::Response>, ApiError> {
    check_own(&session, &request.user_id)?;
    users.delete_tag(&session.user_id, &request.room_id, &request.tag).await?;
    Ok(Ruma(delete_tag::v3::Response::new()))
}

async fn load(
    users: &Users,
    session: &ActiveSession,
    room: Option<&RoomId>,
    kind: &str,
) -> Result<Box<RawJsonValue>, ApiError> {
    let content = users.account_data(&session.user_id, room, kind).await?;
    content.ok_or_else(|| ApiError::not_found("there is no account data of this type"))
}

fn check_own(session: &ActiveSession, user_id: &UserId) -> Result<(), ApiError> {
    if session.user_id == *user_id {
        return Ok(());
    }
    Err(ApiError::forbidden("account data of others is not yours to see or change"))
}

fn check_settable(kind: &str) -> Result<(), ApiError> {
    if !SERVER_CONTROLLED.contains(&kind) {
        return Ok(());
    }
    let message = format!("{kind} cannot be set through this endpoint");
    Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "M_BAD_JSON", message))
}
