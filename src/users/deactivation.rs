//! The end of an account.

use ruma::{OwnedUserId, UserId, presence::PresenceState};
use store::{Batch, Json, Page};

use crate::{
    Users,
    accounts::TRIES,
    error::{Result, UsersError},
    log_row::{LOG_TOPIC, UsersLogRow},
    passwords::LogOut,
    tables::{ACCOUNTS, DEPARTURES, FILTERS, PRESENCE_STATUS, PROFILES},
};

/// Filters removed with an account at most; what is left is out of anybody's reach.
const FILTERS_MAX: usize = 10_000;

/// Users listed at once who have not left their rooms yet.
const DEPARTURES_PAGE: usize = 1_000;

/// Whether what an account leaves behind goes, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erasure {
    /// Nothing but the account ends.
    Keep,
    /// The profile, status message, account data and filters go, and what the user wrote is hidden
    /// from those who have not seen it.
    Erase,
}

impl Users {
    /// Closes an account for ever: no password, no device, no token and no key remain. The ID is
    /// never given out again.
    ///
    /// Memberships are for the caller to end; until [`Users::end_departure`] the user is among
    /// [`Users::list_departures`]. Closing a closed account again may still erase it.
    ///
    /// # Errors
    /// [`UsersError::NotFound`].
    pub async fn deactivate(&self, user_id: &UserId, erasure: Erasure) -> Result<()> {
        let key = user_id.to_string();
        for _ in 0..TRIES {
            let account =
                self.account(user_id).await?.ok_or(UsersError::NotFound { what: "user" })?;
            let mut row = account.row.clone();
            row.deactivated = true;
            row.admin = false;
            row.password_hash = None;
            row.erased |= erasure == Erasure::Erase;
            let mut batch = Batch::new();
            batch.expect(&ACCOUNTS, &key, Some(&Json(account.row)));
            batch.put(&ACCOUNTS, &key, &Json(row));
            batch.put(&DEPARTURES, &key, &());
            let log = UsersLogRow::Account { user_id: user_id.to_owned() };
            batch.log(LOG_TOPIC, log.encode()?);
            self.stage_log_out(&mut batch, user_id, LogOut::Everybody).await?;
            self.stage_signing_keys_removal(&mut batch, user_id).await?;
            self.stage_signed_removal(&mut batch, user_id).await?;
            self.stage_backups_removal(&mut batch, user_id).await?;
            if erasure == Erasure::Erase {
                // What is in memory goes first; the row that this may leave goes with the batch.
                self.set_presence(user_id, PresenceState::Offline, None).await?;
                batch.delete(&PRESENCE_STATUS, &key);
                batch.delete(&PROFILES, &key);
                self.stage_account_data_removal(&mut batch, user_id).await?;
                let page = Page::first(FILTERS_MAX);
                for (key, _) in self.store().scan(&FILTERS, FILTERS.prefix(&key), page).await? {
                    batch.delete(&FILTERS, &key);
                }
            }
            let whose = user_id.to_owned();
            if self.write(batch, move |sessions| sessions.forget_user(&whose)).await? {
                return Ok(());
            }
        }
        Err(UsersError::Contended)
    }

    /// Users whose accounts were closed, and who have not left their rooms yet: at most a thousand.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_departures(&self) -> Result<Vec<OwnedUserId>> {
        let page = Page::first(DEPARTURES_PAGE);
        let rows = self.store().scan(&DEPARTURES, DEPARTURES.all(), page).await?;
        rows.into_iter()
            .map(|(user_id, ())| UserId::parse(user_id).map_err(UsersError::bad_row))
            .collect()
    }

    /// Notes that a user whose account was closed has left all rooms.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_departure(&self, user_id: &UserId) -> Result<()> {
        let mut batch = Batch::new();
        batch.delete(&DEPARTURES, &user_id.to_string());
        self.store().commit(batch).await?;
        Ok(())
    }
}
