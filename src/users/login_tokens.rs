//! Login tokens: with one, another device of the same user logs in once, and soon.

use ruma::UserId;
use store::{Batch, Page, StoreError};

use crate::{
    Users,
    accounts::Account,
    error::{Result, TokenError, UsersError},
    tables::LOGIN_TOKENS,
    tokens::{NewToken, parse},
};

/// How long a login token works, in milliseconds.
pub const LOGIN_TOKEN_LIFETIME_MS: u64 = 2 * 60 * 1_000;

/// Unused login tokens of one user at most.
const LOGIN_TOKENS_MAX: usize = 20;

impl Users {
    /// Makes a token for one login, within [`LOGIN_TOKEN_LIFETIME_MS`].
    ///
    /// # Errors
    /// [`UsersError::Busy`] where the user has too many already.
    pub async fn create_login_token(&self, user_id: &UserId) -> Result<String> {
        let now_ms = self.now_ms();
        let range = LOGIN_TOKENS.prefix(&user_id.to_string());
        let page = Page::first(2 * LOGIN_TOKENS_MAX);
        let old = self.store().scan(&LOGIN_TOKENS, range, page).await?;
        let mut batch = Batch::new();
        let mut usable = 0;
        for (key, expires_ms) in old {
            if expires_ms <= now_ms {
                batch.delete(&LOGIN_TOKENS, &key);
            } else {
                usable += 1;
            }
        }
        if usable >= LOGIN_TOKENS_MAX {
            return Err(UsersError::Busy);
        }
        let token = NewToken::for_user(user_id)?;
        let key = (user_id.to_string(), token.hash.0);
        batch.put(&LOGIN_TOKENS, &key, &(now_ms + LOGIN_TOKEN_LIFETIME_MS));
        self.store().commit(batch).await?;
        Ok(token.text)
    }

    /// Uses a login token up. The account is whose login it is good for.
    ///
    /// # Errors
    /// [`TokenError::Unknown`] for one that is used, too old, or none at all.
    pub async fn redeem_login_token(&self, token: &str) -> Result<Account, TokenError> {
        let (user_id, hash) = parse(token, self.server_name()).ok_or(TokenError::Unknown)?;
        let key = (user_id.to_string(), hash.0);
        let expires_ms = self.store().get(&LOGIN_TOKENS, &key).await?;
        let expires_ms = expires_ms.ok_or(TokenError::Unknown)?;
        // Read before the token is used up, so that a change of the account meanwhile stops the
        // login.
        let account = self.account(&user_id).await?.ok_or(TokenError::Unknown)?;
        let mut batch = Batch::new();
        batch.expect(&LOGIN_TOKENS, &key, Some(&expires_ms));
        batch.delete(&LOGIN_TOKENS, &key);
        match self.store().commit(batch).await {
            Ok(_) if expires_ms > self.now_ms() => Ok(account),
            Ok(_) | Err(StoreError::Conflict { .. }) => Err(TokenError::Unknown),
            Err(error) => Err(error.into()),
        }
    }
}
