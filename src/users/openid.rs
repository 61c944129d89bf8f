//! Tokens with which a user proves to somebody else who they are.
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#openid)

use ruma::{OwnedUserId, UserId};
use store::{Batch, Page};

use crate::{
    Users,
    error::{Result, UsersError},
    tables::OPENID_TOKENS,
    tokens::{NewToken, parse},
};

/// How long such a token works, in milliseconds.
pub const OPENID_TOKEN_LIFETIME_MS: u64 = 60 * 60 * 1_000;

/// Tokens of one user that work at the same time, at most.
const OPENID_TOKENS_MAX: usize = 200;

impl Users {
    /// Makes a token that proves for [`OPENID_TOKEN_LIFETIME_MS`] who a user is, and nothing else.
    ///
    /// # Errors
    /// [`UsersError::Busy`] where the user has too many already.
    pub async fn create_openid_token(&self, user_id: &UserId) -> Result<String> {
        let now_ms = self.now_ms();
        let range = OPENID_TOKENS.prefix(&user_id.to_string());
        let page = Page::first(2 * OPENID_TOKENS_MAX);
        let mut batch = Batch::new();
        let mut usable = 0;
        for (key, expires_ms) in self.store().scan(&OPENID_TOKENS, range, page).await? {
            if expires_ms <= now_ms {
                batch.delete(&OPENID_TOKENS, &key);
            } else {
                usable += 1;
            }
        }
        if usable >= OPENID_TOKENS_MAX {
            return Err(UsersError::Busy);
        }
        let token = NewToken::for_user(user_id)?;
        let key = (user_id.to_string(), token.hash.0);
        batch.put(&OPENID_TOKENS, &key, &(now_ms + OPENID_TOKEN_LIFETIME_MS));
        self.store().commit(batch).await?;
        Ok(token.text)
    }

    /// Whom a token proves somebody to be; `None` for one that is too old, or none at all.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn openid_userinfo(&self, token: &str) -> Result<Option<OwnedUserId>> {
        let Some((user_id, hash)) = parse(token, self.server_name()) else { return Ok(None) };
        let expires_ms = self.store().get(&OPENID_TOKENS, &(user_id.to_string(), hash.0)).await?;
        if expires_ms.is_none_or(|expires_ms| expires_ms <= self.now_ms()) {
            return Ok(None);
        }
        let account = self.account(&user_id).await?;
        Ok(account.filter(|account| !account.deactivated).map(|account| account.user_id))
    }
}
