//! Whom a user wants to hear nothing of.

use std::collections::BTreeMap;

use rooms::StoredEvent;
use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, de::IgnoredAny};
use users::Users;

use crate::error::Result;

/// The type of account data that names the ignored users.
const IGNORED_USER_LIST: &str = "m.ignored_user_list";

/// The users that one user ignores.
///
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#ignoring-users)
#[derive(Clone, Debug, Default)]
pub(crate) struct IgnoredUsers {
    users: BTreeMap<OwnedUserId, IgnoredAny>,
}

impl IgnoredUsers {
    pub(crate) async fn load(users: &Users, user_id: &UserId) -> Result<Self> {
        #[derive(Deserialize)]
        struct Content {
            ignored_users: BTreeMap<OwnedUserId, IgnoredAny>,
        }
        let content = users.account_data(user_id, None, IGNORED_USER_LIST).await?;
        let users = content
            .and_then(|content| serde_json::from_str::<Content>(content.get()).ok())
            .map(|content| content.ignored_users)
            .unwrap_or_default();
        Ok(Self { users })
    }

    pub(crate) fn contains(&self, user_id: &UserId) -> bool {
        self.users.contains_key(user_id)
    }

    /// Whether an event is to be left out. State is shown, whoever set it.
    pub(crate) fn hides(&self, event: &StoredEvent) -> bool {
        !event.pdu.is_state() && self.contains(&event.pdu.sender)
    }
}
