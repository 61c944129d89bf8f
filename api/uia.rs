//! User-interactive authentication: a request is done only after its stages are passed.
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api)

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clock::Clock;
use rand::{TryRngCore, rngs::OsRng};
use ruma::{
    OwnedUserId, UserId,
    api::client::uiaa::{AuthData, AuthFlow, AuthType, UiaaInfo, UserIdentifier},
    api::error::{ErrorKind, StandardErrorBody},
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use users::{Users, UsersError};

use crate::{error::ApiError, rate_limit::RateLimits, settings::ApiSettings};

/// How long a client may take for all stages, in milliseconds.
const SESSION_MS: u64 = 30 * 60 * 1_000;

/// Authentications that may be under way at the same time. Beyond it the oldest are given up.
const SESSIONS_MAX: usize = 10_000;

/// Authentications under way.
#[derive(Debug)]
pub(crate) struct UiaSessions {
    sessions: Mutex<HashMap<String, Progress>>,
    clock: Arc<dyn Clock>,
}

/// How far an authentication has come.
#[derive(Clone, Debug)]
struct Progress {
    /// SHA-256 of what it is for: it counts for nothing else.
    purpose: [u8; 32],
    completed: Vec<AuthType>,
    /// Who proved to be who.
    user_id: Option<OwnedUserId>,
    began_ms: u64,
}

/// What must be passed, and for what.
#[derive(Debug)]
pub(crate) struct Challenge<'a> {
    /// What is to be done, and to whom or what.
    pub(crate) purpose: String,
    /// Whose proof it must be; `None`: anybody's.
    pub(crate) user_id: Option<&'a UserId>,
    /// The stages, of which one list must be passed in order.
    pub(crate) flows: Vec<Vec<AuthType>>,
}

impl<'a> Challenge<'a> {
    /// Asks for the password of a user.
    pub(crate) fn password(purpose: &str, user_id: Option<&'a UserId>) -> Self {
        let whose = user_id.map_or("", UserId::as_str);
        let purpose = format!("{purpose} {whose}");
        Self { purpose, user_id, flows: vec![vec![AuthType::Password]] }
    }
}

/// What checks the stages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checkers<'a> {
    pub(crate) users: &'a Users,
    pub(crate) settings: &'a ApiSettings,
    pub(crate) rate_limits: &'a RateLimits,
    pub(crate) address: Option<IpAddr>,
}

/// Everything was passed.
#[derive(Debug)]
pub(crate) struct Passed {
    /// Who proved to be who, where a stage asked for that.
    pub(crate) user_id: Option<OwnedUserId>,
}

impl UiaSessions {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { sessions: Mutex::default(), clock }
    }

    /// Takes a client's next step. An error asks for more, or says what was wrong.
    pub(crate) async fn step(
        &self,
        challenge: &Challenge<'_>,
        auth: Option<&AuthData>,
        checkers: Checkers<'_>,
    ) -> Result<Passed, ApiError> {
        let (session_id, mut progress) = self.find(challenge, auth)?;
        let mut failure = None;
        if let Some(auth) = auth {
            match auth.auth_type() {
                // Only asks how far it is.
                None => {}
                Some(stage) if progress.completed.contains(&stage) => {}
                Some(stage) if !is_next(challenge, &progress.completed, &stage) => {
                    failure = Some("this stage is not the next of any flow".to_owned());
                }
                Some(stage) => match check(challenge, auth, checkers).await? {
                    Ok(user_id) => {
                        progress.completed.push(stage);
                        progress.user_id = user_id.or(progress.user_id);
                    }
                    Err(why) => failure = Some(why),
                },
            }
        }
        // Nobody gets anything without a word of authentication.
        if auth.is_some() && challenge.flows.contains(&progress.completed) {
            self.lock().remove(&session_id);
            return Ok(Passed { user_id: progress.user_id });
        }
        let mut info = UiaaInfo::new(challenge.flows.iter().cloned().map(AuthFlow::new).collect());
        info.completed.clone_from(&progress.completed);
        info.params = serde_json::value::RawValue::from_string("{}".to_owned()).ok();
        info.session = Some(session_id.clone());
        info.auth_error =
            failure.map(|why| Box::new(StandardErrorBody::new(ErrorKind::Forbidden, why)));
        self.keep(session_id, progress);
        Err(ApiError::uia(info))
    }

    /// The progress that a client continues, or a new one.
    fn find(
        &self,
        challenge: &Challenge<'_>,
        auth: Option<&AuthData>,
    ) -> Result<(String, Progress), ApiError> {
        let now_ms = self.clock.now_ms();
        let purpose = Sha256::digest(challenge.purpose.as_bytes()).into();
        if let Some(session_id) = auth.and_then(AuthData::session) {
            let sessions = self.lock();
            if let Some(progress) = sessions.get(session_id)
                && progress.purpose == purpose
                && now_ms < progress.began_ms + SESSION_MS
            {
                return Ok((session_id.to_owned(), progress.clone()));
            }
        }
        let progress = Progress { purpose, completed: Vec::new(), user_id: None, began_ms: now_ms };
        Ok((random_id()?, progress))
    }

    fn keep(&self, session_id: String, progress: Progress) {
        let now_ms = self.clock.now_ms();
        let mut sessions = self.lock();
        if sessions.len() >= SESSIONS_MAX && !sessions.contains_key(&session_id) {
            sessions.retain(|_, progress| now_ms < progress.began_ms + SESSION_MS);
        }
        if sessions.len() >= SESSIONS_MAX && !sessions.contains_key(&session_id) {
            let mut began: Vec<u64> = sessions.values().map(|progress| progress.began_ms).collect();
            let (_, median, _) = began.select_nth_unstable(SESSIONS_MAX / 2);
            let median = *median;
            sessions.retain(|_, progress| progress.began_ms > median);
        }
        sessions.insert(session_id, progress);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Progress>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An ID that nobody guesses.
pub(crate) fn random_id() -> Result<String, ApiError> {
    let mut bytes = [0; 24];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| ApiError::internal(&error))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Whether a stage comes next in one of the flows.
fn is_next(challenge: &Challenge<'_>, completed: &[AuthType], stage: &AuthType) -> bool {
    challenge.flows.iter().any(|flow| {
        flow.strip_prefix(completed).and_then(<[AuthType]>::first).is_some_and(|next| next == stage)
    })
}

/// Checks a stage: who proved to be who, or why it was not passed.
async fn check(
    challenge: &Challenge<'_>,
    auth: &AuthData,
    checkers: Checkers<'_>,
) -> Result<Result<Option<OwnedUserId>, String>, ApiError> {
    match auth {
        AuthData::Dummy(_) => Ok(Ok(None)),
        AuthData::RegistrationToken(auth) => {
            checkers.rate_limits.check_sign_up(checkers.address)?;
            if is_registration_token(checkers.settings, &auth.token) {
                return Ok(Ok(None));
            }
            Ok(Err("the registration token is not valid".to_owned()))
        }
        AuthData::Password(auth) => {
            let UserIdentifier::Matrix(identifier) = &auth.identifier else {
                return Ok(Err("this server knows users by their Matrix ID only".to_owned()));
            };
            let name = &identifier.user;
            checkers.rate_limits.check_log_in(name, checkers.address)?;
            match checkers.users.authenticate(name, &auth.password).await {
                Ok(account)
                    if challenge.user_id.is_some_and(|wanted| wanted != account.user_id) =>
                {
                    Err(ApiError::forbidden("this is not your account"))
                }
                Ok(account) => Ok(Ok(Some(account.user_id))),
                Err(UsersError::WrongPassword | UsersError::Deactivated) => {
                    Ok(Err("invalid username or password".to_owned()))
                }
                Err(error) => Err(error.into()),
            }
        }
        _ => Ok(Err("this kind of authentication is not available".to_owned())),
    }
}

/// Whether a token lets its bearer sign up. Takes as long for every wrong token of a length.
pub(crate) fn is_registration_token(settings: &ApiSettings, token: &str) -> bool {
    let tokens = &settings.registration.tokens;
    tokens
        .iter()
        .fold(false, |valid, known| valid | bool::from(known.as_bytes().ct_eq(token.as_bytes())))
}
