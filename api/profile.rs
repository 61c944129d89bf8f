//! Profiles: names, pictures and whatever else users tell of themselves.

use std::collections::BTreeMap;

use axum::{Router, extract::State};
use rooms::Rooms;
use ruma::{
    UserId,
    api::client::profile::{
        delete_profile_field, get_profile, get_profile_field, set_profile_field,
    },
};
use serde_json::{Map, Value as JsonValue};
use users::Users;

use crate::{
    auth::{ActiveSession, Session, guests_may_not, missing_token},
    error::ApiError,
    extract::{JsonBody, PathArgs, Ruma, route},
    rooms::member_profile,
    state::ApiState,
};

pub(crate) fn routes() -> Router<ApiState> {
    let router = route::<get_profile::v3::Request, _, _>(Router::new(), get_user_profile);
    let router = route::<get_profile_field::v3::Request, _, _>(router, get_field);
    let router = route::<set_profile_field::v3::Request, _, _>(router, set_field);
    route::<delete_profile_field::v3::Request, _, _>(router, delete_field)
}

/// Shows a whole profile.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3profileuserid)
async fn get_user_profile(
    State(users): State<Users>,
    session: Option<Session>,
    Ruma(request): Ruma<get_profile::v3::Request>,
) -> Result<Ruma<get_profile::v3::Response>, ApiError> {
    let profile = load(&users, session.as_ref(), &request.user_id).await?;
    Ok(Ruma(profile.into_iter().collect()))
}

/// Shows a field of a profile.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3profileuseridkeyname)
async fn get_field(
    State(users): State<Users>,
    session: Option<Session>,
    PathArgs(args): PathArgs<2>,
) -> Result<axum::Json<JsonValue>, ApiError> {
    let [user_id, field] = args;
    let user_id = parse_user_id(&user_id)?;
    let value = load(&users, session.as_ref(), &user_id).await?.remove(&field);
    match value {
        Some(value) => Ok(axum::Json(JsonValue::Object(Map::from_iter([(field, value)])))),
        // Those two were always there; clients do not expect an error for a user without a name.
        None if is_shown_in_rooms(&field) => Ok(axum::Json(JsonValue::Object(Map::new()))),
        None => Err(ApiError::not_found("the profile has no such field")),
    }
}

/// Sets a field of one's profile. An empty picture, or a name that is `null`, is none.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3profileuseridkeyname)
async fn set_field(
    State(users): State<Users>,
    State(rooms): State<Rooms>,
    session: ActiveSession,
    PathArgs([user_id, field]): PathArgs<2>,
    JsonBody(mut body): JsonBody<Map<String, JsonValue>>,
) -> Result<axum::Json<JsonValue>, ApiError> {
    check_own(&session, &user_id, &field)?;
    let Some(value) = body.remove(&field) else {
        return Err(ApiError::missing_param("the body has no property of the field's name"));
    };
    let is_none = value.is_null() || (field == "avatar_url" && value == "");
    if is_shown_in_rooms(&field) && is_none {
        users.delete_profile_field(&session.user_id, &field).await?;
    } else {
        users.set_profile_field(&session.user_id, &field, value).await?;
    }
    tell_rooms(&users, &rooms, &session.user_id, &field).await?;
    Ok(axum::Json(JsonValue::Object(Map::new())))
}

/// Removes a field of one's profile.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3profileuseridkeyname)
async fn delete_field(
    State(users): State<Users>,
    State(rooms): State<Rooms>,
    session: ActiveSession,
    PathArgs([user_id, field]): PathArgs<2>,
) -> Result<axum::Json<JsonValue>, ApiError> {
    check_own(&session, &user_id, &field)?;
    users.delete_profile_field(&session.user_id, &field).await?;
    tell_rooms(&users, &rooms, &session.user_id, &field).await?;
    Ok(axum::Json(JsonValue::Object(Map::new())))
}

/// Brings a new name or picture into the rooms. Goes on when the caller goes away.
async fn tell_rooms(
    users: &Users,
    rooms: &Rooms,
    user_id: &UserId,
    field: &str,
) -> Result<(), ApiError> {
    if !is_shown_in_rooms(field) {
        return Ok(());
    }
    let (users, rooms, user_id) = (users.clone(), rooms.clone(), user_id.to_owned());
    let told = tokio::spawn(async move {
        let profile = member_profile(&users, &user_id).await?;
        rooms.set_profile(&user_id, &profile).await?;
        Ok(())
    });
    told.await.map_err(|error| ApiError::internal(&error))?
}

fn is_shown_in_rooms(field: &str) -> bool {
    matches!(field, "displayname" | "avatar_url")
}

fn parse_user_id(user_id: &str) -> Result<ruma::OwnedUserId, ApiError> {
    UserId::parse(user_id).map_err(|_| ApiError::invalid_param("this is not a user ID"))
}

/// Refuses changes of other users' profiles, and changes that guests may not make.
fn check_own(session: &ActiveSession, user_id: &str, field: &str) -> Result<(), ApiError> {
    if session.user_id != parse_user_id(user_id)? {
        return Err(ApiError::forbidden("you may change your own profile only"));
    }
    if session.guest && field != "displayname" {
        return Err(guests_may_not());
    }
    Ok(())
}

/// The profile of a user here or elsewhere. Only for users of ours another server is asked.
async fn load(
    users: &Users,
    session: Option<&Session>,
    user_id: &UserId,
) -> Result<BTreeMap<String, JsonValue>, ApiError> {
    if session.is_none() && !users.is_local(user_id) {
        return Err(missing_token());
    }
    let profile = users.profile_of(user_id).await?;
    profile.ok_or_else(|| ApiError::not_found("user not found"))
}
