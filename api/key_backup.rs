//! Key backups.

use std::collections::BTreeMap;

use axum::{Router, extract::State};
use ruma::{
    OwnedRoomId, UInt,
    api::client::backup::{
        KeyBackupData, RoomKeyBackup, add_backup_keys, add_backup_keys_for_room,
        add_backup_keys_for_session, create_backup_version, delete_backup_keys,
        delete_backup_keys_for_room, delete_backup_keys_for_session, delete_backup_version,
        get_backup_info, get_backup_keys, get_backup_keys_for_room, get_backup_keys_for_session,
        get_latest_backup_info, update_backup_version,
    },
    serde::Raw,
};
use serde::Deserialize;
use serde_json::{Map, Value as JsonValue, json};
use users::{Backup, BackupPart, BackupSelect, Users, UsersError};

use crate::{
    auth::ActiveSession,
    error::ApiError,
    extract::{JsonBody, PathArgs, Ruma, route},
    state::ApiState,
};

pub(crate) fn routes() -> Router<ApiState> {
    let router = route::<create_backup_version::v3::Request, _, _>(Router::new(), create);
    let router = route::<get_latest_backup_info::v3::Request, _, _>(router, latest);
    let router = route::<get_backup_info::v3::Request, _, _>(router, info);
    let router = route::<update_backup_version::v3::Request, _, _>(router, update);
    let router = route::<delete_backup_version::v3::Request, _, _>(router, delete);
    let router = route::<add_backup_keys::v3::Request, _, _>(router, put_all);
    let router = route::<add_backup_keys_for_room::v3::Request, _, _>(router, put_room);
    let router = route::<add_backup_keys_for_session::v3::Request, _, _>(router, put_session);
    let router = route::<get_backup_keys::v3::Request, _, _>(router, get_all);
    let router = route::<get_backup_keys_for_room::v3::Request, _, _>(router, get_room);
    let router = route::<get_backup_keys_for_session::v3::Request, _, _>(router, get_session);
    let router = route::<delete_backup_keys::v3::Request, _, _>(router, delete_all);
    let router = route::<delete_backup_keys_for_room::v3::Request, _, _>(router, delete_room);
    route::<delete_backup_keys_for_session::v3::Request, _, _>(router, delete_session)
}

/// What a client says of a backup.
#[derive(Deserialize)]
struct BackupBody {
    algorithm: String,
    auth_data: Map<String, JsonValue>,
    #[serde(default)]
    version: Option<String>,
}

/// Begins a backup.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3room_keysversion)
async fn create(
    State(users): State<Users>,
    session: ActiveSession,
    JsonBody(body): JsonBody<BackupBody>,
) -> Result<axum::Json<JsonValue>, ApiError> {
    let version = users.create_backup(&session.user_id, &body.algorithm, body.auth_data).await?;
    Ok(axum::Json(json!({ "version": version.to_string() })))
}

/// Describes the newest backup.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3room_keysversion)
async fn latest(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(_): Ruma<get_latest_backup_info::v3::Request>,
) -> Result<axum::Json<JsonValue>, ApiError> {
    Ok(axum::Json(backup_json(users.backup(&session.user_id, None).await?)))
}

/// Describes a backup.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3room_keysversionversion)
async fn info(
    State(users): State<Users>,
    session: ActiveSession,
    PathArgs([version]): PathArgs<1>,
) -> Result<axum::Json<JsonValue>, ApiError> {
    let version = read_version(&version)?;
    Ok(axum::Json(backup_json(users.backup(&session.user_id, Some(version)).await?)))
}

fn backup_json(backup: Backup) -> JsonValue {
    json!({
        "algorithm": backup.algorithm,
        "auth_data": backup.auth_data,
        "count": backup.count,
        "etag": backup.etag.to_string(),
        "version": backup.version.to_string(),
    })
}

/// Changes the description of a backup.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3room_keysversionversion)
async fn update(
    State(users): State<Users>,
    session: ActiveSession,
    PathArgs([version]): PathArgs<1>,
    JsonBody(body): JsonBody<BackupBody>,
) -> Result<axum::Json<JsonValue>, ApiError> {
    if body.version.is_some_and(|named| named != version) {
        return Err(ApiError::invalid_param("the versions in the path and the body differ"));
    }
    let version = read_version(&version)?;
    let BackupBody { algorithm, auth_data, .. } = body;
    users.update_backup(&session.user_id, version, &algorithm, auth_data).await?;
    Ok(axum::Json(json!({})))
}

/// Deletes a backup.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3room_keysversionversion)
async fn delete(
    State(users): State<Users>,
    session: ActiveSession,
    PathArgs([version]): PathArgs<1>,
) -> Result<axum::Json<JsonValue>, ApiError> {
    users.delete_backup(&session.user_id, read_version(&version)?).await?;
    Ok(axum::Json(json!({})))
}

/// Puts keys of many rooms into the newest backup.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3room_keyskeys)
async fn put_all(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<add_backup_keys::v3::Request>,
) -> Result<Ruma<add_backup_keys::v3::Response>, ApiError> {
    let keys = request.rooms.into_iter().map(|(room, backup)| (room, backup.sessions));
    let (etag, count) = put(&users, &session, &request.version, keys.collect()).await?;
    Ok(Ruma(add_backup_keys::v3::Response::new(etag, count)))
}

/// Puts keys of a room into the newest backup.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3room_keyskeysroomid)
async fn put_room(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<add_backup_keys_for_room::v3::Request>,
) -> Result<Ruma<add_backup_keys_for_room::v3::Response>, ApiError> {
    let keys = BackupPart::from([(request.room_id, request.sessions)]);
    let (etag, count) = put(&users, &session, &request.version, keys).await?;
    Ok(Ruma(add_backup_keys_for_room::v3::Response::new(etag, count)))
}

/// Puts the key of a session into the newest backup.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3room_keyskeysroomidsessionid)
async fn put_session(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<add_backup_keys_for_session::v3::Request>,
) -> Result<Ruma<add_backup_keys_for_session::v3::Response>, ApiError> {
    let sessions: BTreeMap<String, Raw<KeyBackupData>> =
        BTreeMap::from([(request.session_id, request.session_data)]);
    let keys = BackupPart::from([(request.room_id, sessions)]);
    let (etag, count) = put(&users, &session, &request.version, keys).await?;
    Ok(Ruma(add_backup_keys_for_session::v3::Response::new(etag, count)))
}

async fn put(
    users: &Users,
    session: &ActiveSession,
    version: &str,
    keys: BackupPart,
) -> Result<(String, UInt), ApiError> {
    let version = read_version(version)?;
    Ok(changed(&users.put_backup_keys(&session.user_id, version, &keys).await?))
}

/// Shows all keys of a backup.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3room_keyskeys)
async fn get_all(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<get_backup_keys::v3::Request>,
) -> Result<Ruma<get_backup_keys::v3::Response>, ApiError> {
    let version = read_version(&request.version)?;
    let keys = users.backup_keys(&session.user_id, version, BackupSelect::All).await?;
    let rooms: BTreeMap<OwnedRoomId, RoomKeyBackup> =
        keys.into_iter().map(|(room, sessions)| (room, RoomKeyBackup::new(sessions))).collect();
    Ok(Ruma(get_backup_keys::v3::Response::new(rooms)))
}

/// Shows the keys of a room in a backup.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3room_keyskeysroomid)
async fn get_room(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<get_backup_keys_for_room::v3::Request>,
) -> Result<Ruma<get_backup_keys_for_room::v3::Response>, ApiError> {
    let version = read_version(&request.version)?;
    let select = BackupSelect::Room(&request.room_id);
    let mut keys = users.backup_keys(&session.user_id, version, select).await?;
    let sessions = keys.remove(&request.room_id).unwrap_or_default();
    Ok(Ruma(get_backup_keys_for_room::v3::Response::new(sessions)))
}

/// Shows the key of a session in a backup.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3room_keyskeysroomidsessionid)
async fn get_session(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<get_backup_keys_for_session::v3::Request>,
) -> Result<Ruma<get_backup_keys_for_session::v3::Response>, ApiError> {
    let version = read_version(&request.version)?;
    let select = BackupSelect::Session(&request.room_id, &request.session_id);
    let mut keys = users.backup_keys(&session.user_id, version, select).await?;
    let key = keys.remove(&request.room_id).unwrap_or_default().remove(&request.session_id);
    let key = key.ok_or_else(|| ApiError::not_found("no key of this session is there"))?;
    Ok(Ruma(get_backup_keys_for_session::v3::Response::new(key)))
}

/// Deletes all keys of a backup.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3room_keyskeys)
async fn delete_all(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<delete_backup_keys::v3::Request>,
) -> Result<Ruma<delete_backup_keys::v3::Response>, ApiError> {
    let (etag, count) = remove(&users, &session, &request.version, BackupSelect::All).await?;
    Ok(Ruma(delete_backup_keys::v3::Response::new(etag, count)))
}

/// Deletes the keys of a room from a backup.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3room_keyskeysroomid)
async fn delete_room(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<delete_backup_keys_for_room::v3::Request>,
) -> Result<Ruma<delete_backup_keys_for_room::v3::Response>, ApiError> {
    let select = BackupSelect::Room(&request.room_id);
    let (etag, count) = remove(&users, &session, &request.version, select).await?;
    Ok(Ruma(delete_backup_keys_for_room::v3::Response::new(etag, count)))
}

/// Deletes the key of a session from a backup.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3room_keyskeysroomidsessionid)
async fn delete_session(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<delete_backup_keys_for_session::v3::Request>,
) -> Result<Ruma<delete_backup_keys_for_session::v3::Response>, ApiError> {
    let select = BackupSelect::Session(&request.room_id, &request.session_id);
    let (etag, count) = remove(&users, &session, &request.version, select).await?;
    Ok(Ruma(delete_backup_keys_for_session::v3::Response::new(etag, count)))
}

async fn remove(
    users: &Users,
    session: &ActiveSession,
    version: &str,
    select: BackupSelect<'_>,
) -> Result<(String, UInt), ApiError> {
    let version = read_version(version)?;
    Ok(changed(&users.delete_backup_keys(&session.user_id, version, select).await?))
}

/// What a client is told of a backup that it changed.
fn changed(backup: &Backup) -> (String, UInt) {
    (backup.etag.to_string(), UInt::new(backup.count).unwrap_or(UInt::MAX))
}

/// Versions are opaque to clients: one that is no number is one that is not there.
fn read_version(version: &str) -> Result<u64, ApiError> {
    version.parse().map_err(|_| UsersError::NotFound { what: "key backup" }.into())
}
