//! Registration by those who know the shared secret, as Synapse does it and tools use it.
//! [Documentation](https://element-hq.github.io/synapse/latest/admin_api/register_api.html)

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Json, Router, extract::State, routing::get};
use clock::Clock;
use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};
use sha1::Sha1;
use users::{AccountKind, NewAccount, Users};

use crate::{
    error::ApiError,
    extract::JsonBody,
    rate_limit::{ClientAddress, RateLimits},
    register::new_device,
    settings::ApiSettings,
    state::ApiState,
    uia::random_id,
};

/// How long a nonce may be used, in milliseconds.
const NONCE_MS: u64 = 60_000;

/// Nonces given out at the same time.
const NONCES_MAX: usize = 10_000;

/// Nonces that were given out and not used yet, with the end of their time.
#[derive(Debug)]
pub(crate) struct Nonces {
    until_ms: Mutex<HashMap<String, u64>>,
    clock: Arc<dyn Clock>,
}

impl Nonces {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { until_ms: Mutex::default(), clock }
    }

    fn give_out(&self) -> Result<String, ApiError> {
        let nonce = random_id()?;
        let now_ms = self.clock.now_ms();
        let mut until_ms = self.until_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if until_ms.len() >= NONCES_MAX {
            until_ms.retain(|_, until_ms| now_ms < *until_ms);
        }
        if until_ms.len() >= NONCES_MAX {
            return Err(ApiError::limit_exceeded(NONCE_MS));
        }
        until_ms.insert(nonce.clone(), now_ms + NONCE_MS);
        Ok(nonce)
    }

    fn use_up(&self, nonce: &str) -> bool {
        let mut until_ms = self.until_ms.lock().unwrap_or_else(PoisonError::into_inner);
        until_ms.remove(nonce).is_some_and(|until_ms| self.clock.now_ms() < until_ms)
    }
}

pub(crate) fn routes() -> Router<ApiState> {
    Router::new().route("/_synapse/admin/v1/register", get(give_nonce).post(register))
}

/// Gives out a nonce for one registration.
async fn give_nonce(
    State(settings): State<Arc<ApiSettings>>,
    State(nonces): State<Arc<Nonces>>,
) -> Result<Json<JsonValue>, ApiError> {
    check_enabled(&settings)?;
    Ok(Json(json!({ "nonce": nonces.give_out()? })))
}

/// What a tool sends to register a user.
#[derive(Deserialize)]
struct Body {
    nonce: String,
    username: String,
    password: String,
    #[serde(default)]
    admin: bool,
    user_type: Option<String>,
    displayname: Option<String>,
    mac: String,
    #[serde(default)]
    inhibit_login: bool,
}

/// Creates an account for whoever knows the secret.
async fn register(
    State(users): State<Users>,
    State(settings): State<Arc<ApiSettings>>,
    State(nonces): State<Arc<Nonces>>,
    State(rate_limits): State<Arc<RateLimits>>,
    ClientAddress(address): ClientAddress,
    JsonBody(body): JsonBody<Body>,
) -> Result<Json<JsonValue>, ApiError> {
    check_enabled(&settings)?;
    rate_limits.check_sign_up(address)?;
    if body.username.contains('\0') || body.password.contains('\0') {
        return Err(ApiError::invalid_param("neither name nor password holds a zero byte"));
    }
    if !nonces.use_up(&body.nonce) {
        return Err(ApiError::unknown("unrecognised nonce"));
    }
    if !is_authentic(&settings.registration.shared_secret, &body) {
        return Err(ApiError::forbidden("HMAC incorrect"));
    }
    let account = NewAccount {
        localpart: Some(body.username),
        password: Some(body.password),
        kind: AccountKind::User,
        admin: body.admin,
        displayname: body.displayname,
    };
    let device = (!body.inhibit_login).then(|| new_device(None, None, false));
    let (user_id, login) = users.sign_up(account, device).await?;
    let mut answer = json!({ "user_id": user_id, "home_server": settings.server_name });
    if let (Some(login), Some(answer)) = (login, answer.as_object_mut()) {
        answer.insert("access_token".to_owned(), login.access_token.into());
        answer.insert("device_id".to_owned(), login.device_id.to_string().into());
    }
    Ok(Json(answer))
}

fn check_enabled(settings: &ApiSettings) -> Result<(), ApiError> {
    if settings.registration.shared_secret.is_empty() {
        return Err(ApiError::unknown("shared secret registration is not enabled"));
    }
    Ok(())
}

/// Whether the MAC over nonce, user, password and rights was made with the secret.
fn is_authentic(secret: &str, body: &Body) -> bool {
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret.as_bytes()) else {
        return false;
    };
    let admin = if body.admin { "admin" } else { "notadmin" };
    let mut parts = vec![&*body.nonce, &*body.username, &*body.password, admin];
    parts.extend(body.user_type.as_deref());
    mac.update(parts.join("\0").as_bytes());
    let Some(claimed) = decode_hex(&body.mac) else {
        return false;
    };
    mac.verify_slice(&claimed).is_ok()
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    digits?
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(mac: &str, user_type: Option<&str>) -> Body {
        Body {
            nonce: "thisisanonce".to_owned(),
            username: "pepper_roni".to_owned(),
            password: "pizza".to_owned(),
            admin: true,
            user_type: user_type.map(str::to_owned),
            displayname: None,
            mac: mac.to_owned(),
            inhibit_login: false,
        }
    }

    #[test]
    fn the_mac_covers_everything() {
        // printf 'thisisanonce\0pepper_roni\0pizza\0admin' | openssl sha1 -hmac shared_secret
        let mac = "48715842ad67d5dc9a9ee938a3bda4fcfae8d7c7";
        assert!(is_authentic("shared_secret", &body(mac, None)));
        assert!(!is_authentic("other", &body(mac, None)));
        assert!(!is_authentic("shared_secret", &body(mac, Some("bot"))));
        assert!(!is_authentic("shared_secret", &body("zz", None)));
        let mac = "2ab701ea6618f3a4ffffc98f2116ea6ff5157182";
        assert!(is_authentic("shared_secret", &body(mac, Some("bot"))));
    }
}
