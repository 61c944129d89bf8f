//! Keys for end-to-end encryption: those of devices, one-time keys, and cross-signing.

use std::{collections::BTreeMap, time::Duration};

use axum::{Router, extract::State, routing::post};
use rooms::Rooms;
use ruma::{
    OwnedServerName, OwnedUserId, UserId,
    api::client::{
        keys::{
            claim_keys, get_key_changes, get_keys, upload_keys, upload_signatures,
            upload_signing_keys,
        },
        uiaa::AuthData,
    },
};
use serde_json::{Map, Value as JsonValue, json};
use syncing::Syncing;
use users::{KeyClaims, KeyCounts, KeysQuery, NewDeviceKeys, NewSigningKeys, SignedKeys, Users};

use crate::{
    auth::ActiveSession,
    error::ApiError,
    extract::{JsonBody, Ruma, route},
    rate_limit::ClientAddress,
    state::ApiState,
    uia::{Challenge, Checkers},
};

/// How long it is waited for other servers where the client does not say.
const REMOTE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it is waited for other servers at most.
const REMOTE_TIMEOUT_MAX: Duration = Duration::from_secs(60);

pub(crate) fn routes() -> Router<ApiState> {
    let router = route::<upload_keys::v3::Request, _, _>(Router::new(), upload);
    let router = route::<get_keys::v3::Request, _, _>(router, query);
    let router = route::<claim_keys::v3::Request, _, _>(router, claim);
    let router = route::<get_key_changes::v3::Request, _, _>(router, changes);
    let router = route::<upload_signatures::v3::Request, _, _>(router, signatures);
    let router = route::<upload_signing_keys::v3::Request, _, _>(router, signing_keys);
    // Old clients name their device, which is no longer in the specification.
    router.route("/_matrix/client/r0/keys/upload/{device_id}", post(upload))
}

/// Publishes keys of the device.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysupload)
async fn upload(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<upload_keys::v3::Request>,
) -> Result<axum::Json<JsonValue>, ApiError> {
    let keys = NewDeviceKeys {
        device_keys: request.device_keys,
        one_time_keys: request.one_time_keys,
        fallback_keys: request.fallback_keys,
    };
    let counts = users.upload_keys(&session.user_id, &session.device_id, &keys).await?;
    Ok(axum::Json(json!({ "one_time_key_counts": counts_json(&counts) })))
}

fn counts_json(counts: &KeyCounts) -> JsonValue {
    let mut json = Map::new();
    json.insert("signed_curve25519".to_owned(), 0.into());
    for (algorithm, count) in &counts.one_time {
        json.insert(algorithm.to_string(), (*count).into());
    }
    JsonValue::Object(json)
}

/// Shows the keys of users and their devices.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysquery)
async fn query(
    State(users): State<Users>,
    State(rooms): State<Rooms>,
    session: ActiveSession,
    Ruma(request): Ruma<get_keys::v3::Request>,
) -> Result<axum::Json<JsonValue>, ApiError> {
    let mut query = KeysQuery {
        users: request.device_keys,
        timeout: timeout(request.timeout),
        ..KeysQuery::default()
    };
    let own = rooms.memberships(&session.user_id).await?;
    for user_id in query.users.keys().filter(|user_id| !users.is_local(user_id)) {
        let theirs = rooms.rooms_of(user_id).await?;
        if theirs.into_iter().any(|room| own.is_joined(room)) {
            query.shared.insert(user_id.clone());
        }
    }
    let answer = users.query_keys(&session.user_id, query).await?;
    Ok(axum::Json(json!({
        "device_keys": answer.device_keys,
        "master_keys": answer.master_keys,
        "self_signing_keys": answer.self_signing_keys,
        "user_signing_keys": answer.user_signing_keys,
        "failures": failures_json(answer.failures),
    })))
}

/// Hands out one-time keys.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysclaim)
async fn claim(
    State(users): State<Users>,
    _: ActiveSession,
    Ruma(request): Ruma<claim_keys::v3::Request>,
) -> Result<axum::Json<JsonValue>, ApiError> {
    let wanted: KeyClaims = request.one_time_keys;
    let (claimed, failures) = users.claim_keys(&wanted, timeout(request.timeout)).await?;
    let failures = failures_json(failures);
    Ok(axum::Json(json!({ "one_time_keys": claimed, "failures": failures })))
}

fn timeout(wanted: Option<Duration>) -> Duration {
    wanted.unwrap_or(REMOTE_TIMEOUT).min(REMOTE_TIMEOUT_MAX)
}

fn failures_json(failures: BTreeMap<OwnedServerName, String>) -> JsonValue {
    let failure = |why: String| json!({ "errcode": "M_UNAVAILABLE", "error": why });
    let failures = failures.into_iter().map(|(server, why)| (server.to_string(), failure(why)));
    JsonValue::Object(failures.collect())
}

/// Says whose devices changed between two syncs.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3keyschanges)
async fn changes(
    State(syncing): State<Syncing>,
    session: ActiveSession,
    Ruma(request): Ruma<get_key_changes::v3::Request>,
) -> Result<Ruma<get_key_changes::v3::Response>, ApiError> {
    let (from, to) = (request.from.parse()?, request.to.parse()?);
    let lists = syncing.key_changes(&session.user_id, from, to).await?;
    Ok(Ruma(get_key_changes::v3::Response::new(lists.changed, lists.left)))
}

/// Publishes what the user has signed.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keyssignaturesupload)
async fn signatures(
    State(users): State<Users>,
    session: ActiveSession,
    JsonBody(signed): JsonBody<SignedKeys>,
) -> Result<axum::Json<JsonValue>, ApiError> {
    let failures = users.upload_signatures(&session.user_id, &signed).await?;
    let mut json = Map::new();
    for (user_id, errors) in failures {
        let errors = errors.into_iter().map(|(key, error)| {
            let message = error.to_string();
            let errcode = ApiError::from(error).errcode();
            (key, json!({ "errcode": errcode, "error": message }))
        });
        json.insert(user_id.to_string(), JsonValue::Object(errors.collect()));
    }
    Ok(axum::Json(json!({ "failures": json })))
}

/// Publishes cross-signing keys. The first set needs no proof of who the user is.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysdevice_signingupload)
async fn signing_keys(
    State(state): State<ApiState>,
    ClientAddress(address): ClientAddress,
    session: ActiveSession,
    Ruma(request): Ruma<upload_signing_keys::v3::Request>,
) -> Result<Ruma<upload_signing_keys::v3::Response>, ApiError> {
    let keys = NewSigningKeys {
        master: request.master_key,
        self_signing: request.self_signing_key,
        user_signing: request.user_signing_key,
    };
    if state.users.signing_keys_need_proof(&session.user_id, &keys).await? {
        prove(&state, &session.user_id, request.auth.as_ref(), address).await?;
    }
    state.users.upload_signing_keys(&session.user_id, &keys).await?;
    Ok(Ruma(upload_signing_keys::v3::Response::new()))
}

/// Makes sure by their password who calls.
async fn prove(
    state: &ApiState,
    user_id: &UserId,
    auth: Option<&AuthData>,
    address: Option<std::net::IpAddr>,
) -> Result<Option<OwnedUserId>, ApiError> {
    let challenge = Challenge::password("cross-signing", Some(user_id));
    let checkers = Checkers {
        users: &state.users,
        settings: &state.settings,
        rate_limits: &state.rate_limits,
        address,
    };
    Ok(state.uia.step(&challenge, auth, checkers).await?.user_id)
}
