//! Filters: what a client wants of its syncs, kept under a short name.

use std::ops::Bound;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{UserId, api::client::filter::FilterDefinition};
use sha2::{Digest, Sha256};
use store::{Batch, Page};

use crate::{
    Users,
    account_data::json_text,
    error::{Result, UsersError},
    tables::FILTERS,
};

/// Largest filter, in bytes.
const FILTER_BYTES_MAX: usize = 64 * 1024;

/// Filters that a user has at most, about: those added at the same moment do not see each other.
pub(crate) const FILTERS_MAX: usize = 1_000;

/// Filters read at once while they are counted.
const PAGE_ROWS: usize = 50;

impl Users {
    /// Keeps a filter. The same filter has the same ID.
    ///
    /// # Errors
    /// [`UsersError::TooLarge`] for too large a filter, or too many.
    pub async fn put_filter(&self, user_id: &UserId, filter: &FilterDefinition) -> Result<String> {
        let json = json_text(filter)?;
        if json.len() > FILTER_BYTES_MAX {
            return Err(UsersError::TooLarge { what: "the filter" });
        }
        let hash: [u8; 32] = Sha256::digest(json.as_bytes()).into();
        let mut filter_id = URL_SAFE_NO_PAD.encode(hash);
        filter_id.truncate(22);
        let key = (user_id.to_string(), filter_id.clone());
        if self.store().get(&FILTERS, &key).await?.is_none() {
            self.check_room_for_filter(user_id).await?;
            let mut batch = Batch::new();
            batch.put(&FILTERS, &key, &json);
            self.store().commit(batch).await?;
        }
        Ok(filter_id)
    }

    /// Refuses a filter more than a user may have.
    async fn check_room_for_filter(&self, user_id: &UserId) -> Result<()> {
        let user = user_id.to_string();
        let mut range = FILTERS.prefix(&user);
        let mut count = 0;
        loop {
            let page = self.store().scan(&FILTERS, range, Page::first(PAGE_ROWS)).await?;
            count += page.len();
            if count >= FILTERS_MAX {
                return Err(UsersError::TooLarge { what: "the number of filters" });
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE_ROWS => {
                    range = FILTERS.between(Bound::Excluded(last), Bound::Included(&user));
                }
                _ => return Ok(()),
            }
        }
    }

    /// A filter that was kept.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn filter(
        &self,
        user_id: &UserId,
        filter_id: &str,
    ) -> Result<Option<FilterDefinition>> {
        let key = (user_id.to_string(), filter_id.to_owned());
        match self.store().get(&FILTERS, &key).await? {
            Some(json) => serde_json::from_str(&json).map(Some).map_err(UsersError::bad_row),
            None => Ok(None),
        }
    }
}
