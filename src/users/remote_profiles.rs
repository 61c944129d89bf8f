//! Profiles of other servers' users: asked for when somebody wants to see one, and remembered for a
//! short while.

use std::{collections::BTreeMap, sync::Arc};

use quick_cache::sync::Cache;
use ruma::{OwnedUserId, UserId};
use serde_json::Value as JsonValue;

use crate::{
    Users,
    account_data::json_text,
    error::{Result, UsersError},
    profiles::PROFILE_BYTES_MAX,
    remote::RemoteError,
};

/// How long a profile is remembered, in milliseconds.
const REMEMBERED_MS: u64 = 60_000;

/// Profiles remembered at most.
const PROFILES_MAX: usize = 2_000;

/// The status of an answer that there is no such user.
const NOT_FOUND: u16 = 404;

type Fields = BTreeMap<String, JsonValue>;

/// A profile as it was; `None` where there was no such user.
#[derive(Clone, Debug)]
struct Known {
    asked_ms: u64,
    fields: Option<Arc<Fields>>,
}

/// Profiles that are remembered.
#[derive(Debug)]
pub(crate) struct RemoteProfiles {
    known: Cache<OwnedUserId, Known>,
}

impl Default for RemoteProfiles {
    fn default() -> Self {
        Self { known: Cache::new(PROFILES_MAX) }
    }
}

impl Users {
    /// All profile fields of a user of this server or another; `None` where there is no such user.
    ///
    /// # Errors
    /// [`UsersError::Remote`] where the user's server does not help; when the store fails.
    pub async fn profile_of(
        &self,
        user_id: &UserId,
    ) -> Result<Option<BTreeMap<String, JsonValue>>> {
        if !self.is_local(user_id) {
            let fields = self.remote_profile(user_id).await?;
            return Ok(fields.map(Arc::unwrap_or_clone));
        }
        match self.account(user_id).await? {
            Some(_) => self.profile(user_id).await.map(Some),
            None => Ok(None),
        }
    }

    async fn remote_profile(&self, user_id: &UserId) -> Result<Option<Arc<Fields>>> {
        let cache = &self.inner.remote_profiles.known;
        let asked_ms = self.now_ms();
        let is_old = |known: &Known| asked_ms.saturating_sub(known.asked_ms) >= REMEMBERED_MS;
        cache.remove_if(user_id, is_old);
        // Whoever wants the same meanwhile waits for the same answer.
        let guard = match cache.get_value_or_guard_async(user_id).await {
            Ok(known) => return Ok(known.fields),
            Err(guard) => guard,
        };
        let fields = match self.inner.config.remote.profile(user_id, None).await {
            Ok(fields) if json_text(&fields)?.len() <= PROFILE_BYTES_MAX => Some(Arc::new(fields)),
            Ok(_) => {
                let why = "the profile is larger than 64 KiB".to_owned();
                let server = user_id.server_name().to_owned();
                return Err(RemoteError::Unavailable { server, why }.into());
            }
            Err(RemoteError::Refused { status: NOT_FOUND, .. }) => None,
            Err(error) => return Err(UsersError::Remote(error)),
        };
        // Fails where the entry was removed meanwhile, which does no harm.
        let _ = guard.insert(Known { asked_ms, fields: fields.clone() });
        Ok(fields)
    }
}
