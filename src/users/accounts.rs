//! Accounts: who exists, with which rights and which password.

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use store::{Batch, Json, Page, StoreError};

use crate::{
    Users,
    account_data::stage_account_data,
    error::{Result, UsersError},
    log_row::{LOG_TOPIC, UsersLogRow},
    profiles::{DISPLAYNAME, first_profile},
    push_rules,
    sessions::{Login, NewDevice},
    tables::{ACCOUNTS, PROFILES},
    user_ids,
};

/// Most accounts in one page of a list.
const ACCOUNTS_PAGE_MAX: usize = 1_000;

/// How often a change is tried again when others changed the same row meanwhile.
pub(crate) const TRIES: usize = 16;

/// An account as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// Whose.
    pub user_id: OwnedUserId,
    /// Whether the user administrates this server.
    pub admin: bool,
    /// Whether it is a guest.
    pub guest: bool,
    /// Whether the account is closed for ever.
    pub deactivated: bool,
    /// Whether what the user wrote is hidden from those who have not seen it.
    pub erased: bool,
    /// Whether the user may only read and leave.
    pub suspended: bool,
    /// Whether the user may do nothing until unlocked.
    pub locked: bool,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Whether it can log in with a password.
    pub has_password: bool,
    pub(crate) row: AccountRow,
}

/// An account as it is stored.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AccountRow {
    pub(crate) created_ms: u64,
    pub(crate) admin: bool,
    pub(crate) guest: bool,
    pub(crate) deactivated: bool,
    pub(crate) erased: bool,
    pub(crate) suspended: bool,
    pub(crate) locked: bool,
    /// Grows with each login, so that a change of the account notices a login that it has not seen.
    pub(crate) logins: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password_hash: Option<String>,
}

impl std::fmt::Debug for AccountRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountRow").field("created_ms", &self.created_ms).finish_non_exhaustive()
    }
}

impl Account {
    pub(crate) fn new(user_id: OwnedUserId, row: AccountRow) -> Self {
        Self {
            user_id,
            admin: row.admin,
            guest: row.guest,
            deactivated: row.deactivated,
            erased: row.erased,
            suspended: row.suspended,
            locked: row.locked,
            created_ms: row.created_ms,
            has_password: row.password_hash.is_some(),
            row,
        }
    }
}

/// Whether an account belongs to somebody who signed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccountKind {
    /// Somebody with a name and, mostly, a password.
    #[default]
    User,
    /// A passer-by.
    Guest,
}

/// An account to be created.
#[derive(Clone, Default)]
pub struct NewAccount {
    /// The part of the ID before the colon. `None`: a random one.
    pub localpart: Option<String>,
    /// The password. `None`: nobody can log in with one.
    pub password: Option<String>,
    /// Whether it is a guest.
    pub kind: AccountKind,
    /// Whether the user administrates this server.
    pub admin: bool,
    /// The name that the user shows at first.
    pub displayname: Option<String>,
}

impl std::fmt::Debug for NewAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewAccount").field("localpart", &self.localpart).finish_non_exhaustive()
    }
}

impl Users {
    /// Creates an account. Upper case in the name becomes lower case.
    ///
    /// # Errors
    /// [`UsersError::InvalidUsername`], [`UsersError::Taken`], [`UsersError::Busy`],
    /// [`UsersError::Invalid`] for an impossible password or name to show.
    pub async fn create_account(&self, account: NewAccount) -> Result<OwnedUserId> {
        let (user_id, _) = self.sign_up(account, None).await?;
        Ok(user_id)
    }

    /// Creates an account and logs a device in, both or neither.
    ///
    /// # Errors
    /// As [`Users::create_account`].
    pub async fn sign_up(
        &self,
        account: NewAccount,
        device: Option<NewDevice>,
    ) -> Result<(OwnedUserId, Option<Login>)> {
        let user_id = match &account.localpart {
            Some(localpart) => user_ids::new_user_id(localpart, self.server_name())?,
            None => user_ids::random_user_id(self.server_name())?,
        };
        if self.account(&user_id).await?.is_some() {
            return Err(UsersError::Taken { user_id });
        }
        let profile = account.displayname.map(first_profile).transpose()?;
        let password_hash = match account.password {
            Some(password) => Some(self.inner.passwords.hash(password).await?),
            None => None,
        };
        let row = AccountRow {
            created_ms: self.now_ms(),
            logins: u64::from(device.is_some()),
            admin: account.admin,
            guest: account.kind == AccountKind::Guest,
            password_hash,
            ..AccountRow::default()
        };
        let mut batch = Batch::new();
        batch.expect(&ACCOUNTS, &user_id.to_string(), None);
        batch.put(&ACCOUNTS, &user_id.to_string(), &Json(row));
        batch.log(LOG_TOPIC, UsersLogRow::Account { user_id: user_id.clone() }.encode()?);
        let rules = push_rules::default_content(&user_id)?;
        stage_account_data(&mut batch, &user_id, None, push_rules::PUSH_RULES, None, rules)?;
        if let Some(profile) = profile {
            batch.put(&PROFILES, &user_id.to_string(), &Json(profile));
            let field = DISPLAYNAME.to_owned();
            batch
                .log(LOG_TOPIC, UsersLogRow::Profile { user_id: user_id.clone(), field }.encode()?);
        }
        let login = match device {
            Some(device) => Some(self.stage_login(&mut batch, &user_id, None, &device).await?),
            None => None,
        };
        match self.store().commit(batch).await {
            Ok(_) => Ok((user_id, login)),
            Err(StoreError::Conflict { .. }) => Err(UsersError::Taken { user_id }),
            Err(error) => Err(error.into()),
        }
    }

    /// The account of a user, open or closed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn account(&self, user_id: &UserId) -> Result<Option<Account>> {
        if !self.is_local(user_id) {
            return Ok(None);
        }
        let row = self.store().get(&ACCOUNTS, &user_id.to_string()).await?;
        Ok(row.map(|Json(row)| Account::new(user_id.to_owned(), row)))
    }

    /// The account that somebody means who writes `user` in a login: a user ID or its first part,
    /// in any case.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find_account(&self, user: &str) -> Result<Option<Account>> {
        let Some(user_id) = user_ids::existing_user_id(user, self.server_name()) else {
            return Ok(None);
        };
        if let Some(account) = self.account(&user_id).await? {
            return Ok(Some(account));
        }
        let localpart = user_id.localpart().to_lowercase();
        match UserId::parse(format!("@{localpart}:{}", self.server_name())) {
            Ok(user_id) => self.account(&user_id).await,
            Err(_) => Ok(None),
        }
    }

    /// Whether a new account could have this name.
    ///
    /// # Errors
    /// [`UsersError::InvalidUsername`] and [`UsersError::Taken`] say why not.
    pub async fn check_available(&self, localpart: &str) -> Result<()> {
        let user_id = user_ids::new_user_id(localpart, self.server_name())?;
        match self.account(&user_id).await? {
            None => Ok(()),
            Some(_) => Err(UsersError::Taken { user_id }),
        }
    }

    /// Gives or takes the right to administrate this server.
    ///
    /// # Errors
    /// [`UsersError::NotFound`], [`UsersError::Deactivated`].
    pub async fn set_admin(&self, user_id: &UserId, right: AdminRight) -> Result<()> {
        self.change_account(user_id, |row| row.admin = right == AdminRight::Granted).await
    }

    /// A page of all accounts in the order of their IDs: those after `after`, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_accounts(
        &self,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Account>> {
        use std::ops::Bound;
        let after = after.map(|user_id| user_id.to_string());
        let lower = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let range = ACCOUNTS.between(lower, Bound::<&String>::Unbounded);
        let page = Page::first(limit.min(ACCOUNTS_PAGE_MAX));
        let rows = self.store().scan(&ACCOUNTS, range, page).await?;
        rows.into_iter()
            .map(|(user_id, Json(row))| {
                let user_id = UserId::parse(user_id).map_err(UsersError::bad_row)?;
                Ok(Account::new(user_id, row))
            })
            .collect()
    }

    /// Changes the row of an open account, and forgets what is cached of it.
    pub(crate) async fn change_account(
        &self,
        user_id: &UserId,
        change: impl Fn(&mut AccountRow),
    ) -> Result<()> {
        for _ in 0..TRIES {
            let account = self.load_open_account(user_id).await?;
            let mut row = account.row.clone();
            change(&mut row);
            let mut batch = Batch::new();
            batch.expect(&ACCOUNTS, &user_id.to_string(), Some(&Json(account.row)));
            batch.put(&ACCOUNTS, &user_id.to_string(), &Json(row));
            let log = UsersLogRow::Account { user_id: user_id.to_owned() };
            batch.log(LOG_TOPIC, log.encode()?);
            let whose = user_id.to_owned();
            if self.write(batch, move |sessions| sessions.forget_user(&whose)).await? {
                return Ok(());
            }
        }
        Err(UsersError::Contended)
    }

    /// The account of a user, which must exist and be open.
    pub(crate) async fn load_open_account(&self, user_id: &UserId) -> Result<Account> {
        let account = self.account(user_id).await?.ok_or(UsersError::NotFound { what: "user" })?;
        if account.deactivated {
            return Err(UsersError::Deactivated);
        }
        Ok(account)
    }
}

/// Whether somebody may administrate the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminRight {
    /// They may.
    Granted,
    /// They may not.
    Withdrawn,
}
