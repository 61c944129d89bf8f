//! What handlers are given to work with.

use std::sync::Arc;

use axum::extract::FromRef;
use clock::Clock;
use media::Media;
use rooms::Rooms;
use syncing::Syncing;
use users::Users;

use crate::{
    admin_register::Nonces, rate_limit::RateLimits, settings::ApiSettings, uia::UiaSessions,
};

/// The handles that handlers take out of their `State`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiState {
    pub(crate) users: Users,
    pub(crate) rooms: Rooms,
    pub(crate) media: Media,
    pub(crate) syncing: Syncing,
    pub(crate) settings: Arc<ApiSettings>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) uia: Arc<UiaSessions>,
    pub(crate) nonces: Arc<Nonces>,
    pub(crate) rate_limits: Arc<RateLimits>,
}

impl ApiState {
    /// Gathers the handles. Interactive authentications and rate limits start empty.
    #[must_use]
    pub fn new(
        users: Users,
        rooms: Rooms,
        media: Media,
        syncing: Syncing,
        settings: ApiSettings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let rate_limits = RateLimits::new(settings.rate_limits_enabled);
        Self {
            users,
            rooms,
            media,
            syncing,
            settings: Arc::new(settings),
            uia: Arc::new(UiaSessions::new(Arc::clone(&clock))),
            nonces: Arc::new(Nonces::new(Arc::clone(&clock))),
            rate_limits: Arc::new(rate_limits),
            clock,
        }
    }
}

impl FromRef<ApiState> for Users {
    fn from_ref(state: &ApiState) -> Self {
        state.users.clone()
    }
}

impl FromRef<ApiState> for Rooms {
    fn from_ref(state: &ApiState) -> Self {
        state.rooms.clone()
    }
}

impl FromRef<ApiState> for Media {
    fn from_ref(state: &ApiState) -> Self {
        state.media.clone()
    }
}

impl FromRef<ApiState> for Syncing {
    fn from_ref(state: &ApiState) -> Self {
        state.syncing.clone()
    }
}

impl FromRef<ApiState> for Arc<ApiSettings> {
    fn from_ref(state: &ApiState) -> Self {
        Arc::clone(&state.settings)
    }
}

impl FromRef<ApiState> for Arc<dyn Clock> {
    fn from_ref(state: &ApiState) -> Self {
        Arc::clone(&state.clock)
    }
}

impl FromRef<ApiState> for Arc<UiaSessions> {
    fn from_ref(state: &ApiState) -> Self {
        Arc::clone(&state.uia)
    }
}

impl FromRef<ApiState> for Arc<Nonces> {
    fn from_ref(state: &ApiState) -> Self {
        Arc::clone(&state.nonces)
    }
}

impl FromRef<ApiState> for Arc<RateLimits> {
    fn from_ref(state: &ApiState) -> Self {
        Arc::clone(&state.rate_limits)
    }
}
