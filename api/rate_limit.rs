//! Limits on how much one user or one address may ask. Ordinary clients never meet them.

use std::{
    fmt::Debug,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
};

use axum::{
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    state::keyed::DashMapStateStore,
};
use http::request::Parts;
use ruma::{OwnedUserId, UserId};

use crate::{error::ApiError, state::ApiState};

/// Keys that one limiter remembers at most.
const KEYS_MAX: usize = 50_000;

/// The address that a request comes from, put into its extensions by whoever accepts connections
/// and knows which proxies to believe. `None` where it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub Option<IpAddr>);

/// The address that a request comes from, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAddress(pub(crate) Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(client_address(parts)))
    }
}

/// What is counted, and how much of it is too much.
#[derive(Debug)]
pub(crate) struct RateLimits {
    limits: Option<Limits>,
}

#[derive(Debug)]
struct Limits {
    by_user: Limiter<OwnedUserId>,
    by_address: Limiter<IpAddr>,
    log_in_by_account: Limiter<String>,
    log_in_by_address: Limiter<IpAddr>,
    sign_up_by_address: Limiter<IpAddr>,
}

impl RateLimits {
    pub(crate) fn new(enabled: bool) -> Self {
        let limits = enabled.then(|| Limits {
            by_user: Limiter::new(200, 2_000),
            by_address: Limiter::new(1_000, 10_000),
            log_in_by_account: Limiter::per_minute(12, 30),
            log_in_by_address: Limiter::per_minute(60, 120),
            sign_up_by_address: Limiter::per_minute(60, 120),
        });
        Self { limits }
    }

    /// Counts a request of a user.
    pub(crate) fn check_user(&self, user_id: &UserId) -> Result<(), ApiError> {
        self.limits.as_ref().map_or(Ok(()), |limits| limits.by_user.check(&user_id.to_owned()))
    }

    /// Counts an attempt to prove who one is, for the account and for the address.
    pub(crate) fn check_log_in(&self, user: &str, address: Option<IpAddr>) -> Result<(), ApiError> {
        self.check_log_in_address(address)?;
        let Some(limits) = &self.limits else {
            return Ok(());
        };
        // One account, however it is written; and as many letters as an ID has, so that long names
        // take no memory.
        let name = user.trim_start_matches('@').split(':').next().unwrap_or_default();
        let name = name.chars().take(255).collect::<String>().to_lowercase();
        limits.log_in_by_account.check(&name)
    }

    /// Counts an attempt to log in where the account is not known beforehand.
    pub(crate) fn check_log_in_address(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        match (&self.limits, address) {
            (Some(limits), Some(address)) => limits.log_in_by_address.check(&network(address)),
            _ => Ok(()),
        }
    }

    /// Counts an attempt to sign up.
    pub(crate) fn check_sign_up(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        match (&self.limits, address) {
            (Some(limits), Some(address)) => limits.sign_up_by_address.check(&network(address)),
            _ => Ok(()),
        }
    }

    fn check_address(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        match (&self.limits, address) {
            (Some(limits), Some(address)) => limits.by_address.check(&network(address)),
            _ => Ok(()),
        }
    }
}

/// One limit, counted per key.
struct Limiter<K: Clone + Hash + Eq> {
    keyed: RateLimiter<K, DashMapStateStore<K>, DefaultClock>,
    clock: DefaultClock,
}

impl<K: Clone + Hash + Eq> Limiter<K> {
    /// `per_second` go on for ever, `burst` at once.
    fn new(per_second: u32, burst: u32) -> Self {
        Self::with(Quota::per_second(positive(per_second)), burst)
    }

    /// `per_minute` go on for ever, `burst` at once.
    fn per_minute(per_minute: u32, burst: u32) -> Self {
        Self::with(Quota::per_minute(positive(per_minute)), burst)
    }

    fn with(quota: Quota, burst: u32) -> Self {
        let keyed = RateLimiter::dashmap(quota.allow_burst(positive(burst)));
        Self { keyed, clock: DefaultClock::default() }
    }

    fn check(&self, key: &K) -> Result<(), ApiError> {
        if self.keyed.len() >= KEYS_MAX {
            // Forgets those who have asked for nothing lately. Where that does not help, somebody
            // asks with very many keys at once, and whoever is new must wait.
            self.keyed.retain_recent();
            self.keyed.shrink_to_fit();
            if self.keyed.len() >= 2 * KEYS_MAX {
                return Err(ApiError::limit_exceeded(1_000));
            }
        }
        self.keyed.check_key(key).map_err(|refusal| {
            let wait = refusal.wait_time_from(self.clock.now());
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            ApiError::limit_exceeded(wait_ms.saturating_add(1))
        })
    }
}

impl<K: Clone + Hash + Eq> Debug for Limiter<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}

/// Refuses addresses that ask too much, before anything else is done for them.
pub(crate) async fn limit_addresses(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(error) = state.rate_limits.check_address(client_address(&parts)) {
        return error.into_response();
    }
    next.run(Request::from_parts(parts, body)).await
}

/// The address of the client, as far as it is known.
pub(crate) fn client_address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<PeerAddress>().and_then(|peer| peer.0)
}

/// What is counted together: an IPv4 address, or a /64 network of IPv6, which is what one household
/// has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

fn positive(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_throttled_per_account_and_address() {
        let limits = RateLimits::new(true);
        let address = Some("9.9.9.9".parse().unwrap());
        let refused = (0..200).find(|_| limits.check_log_in("alice", address).is_err());
        assert_eq!(refused, Some(30));
        assert!(limits.check_log_in("bob", address).is_ok());
        assert!((0..1_000).all(|_| RateLimits::new(false).check_log_in("alice", address).is_ok()));
        let again = limits.check_log_in("@ALICE:localhost", None).map_err(|error| error.errcode());
        assert_eq!(again, Err("M_LIMIT_EXCEEDED"));
    }
}
