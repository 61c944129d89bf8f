//! The first error after which nothing may be believed any more.

use std::sync::OnceLock;

use tokio::sync::watch;

use crate::StoreError;

/// Remembers why an engine must not be used any more.
///
/// After a failed write or fsync nobody knows what is on the disk. To go on would be to lie.
#[derive(Debug)]
pub struct Poison {
    error: OnceLock<StoreError>,
    reason: watch::Sender<Option<String>>,
    ended: watch::Sender<bool>,
}

impl Default for Poison {
    fn default() -> Self {
        Self {
            error: OnceLock::new(),
            reason: watch::Sender::new(None),
            ended: watch::Sender::new(false),
        }
    }
}

impl Poison {
    /// Lets every later [`Poison::check`] fail, and returns with what. Only the first reason
    /// counts.
    pub fn fail(&self, reason: impl Into<String>) -> StoreError {
        let mut first = None;
        let error = self.error.get_or_init(|| {
            let reason = reason.into();
            first = Some(reason.clone());
            StoreError::Failed { reason }
        });
        if let Some(reason) = first {
            tracing::error!(%reason, "the store has failed and answers nothing any more");
            self.reason.send_replace(Some(reason));
            self.ended.send_replace(true);
        }
        error.clone()
    }

    /// Lets every later [`Poison::check`] say that the store is closed, which is no failure.
    pub fn close(&self) {
        self.error.get_or_init(|| StoreError::Closed);
        self.ended.send_replace(true);
    }

    /// Checks that the engine may still be used.
    ///
    /// # Errors
    /// [`StoreError::Failed`] after a failure, [`StoreError::Closed`] after closing.
    pub fn check(&self) -> Result<(), StoreError> {
        self.error.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Returns a channel that holds the reason of the failure once there is one.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<String>> {
        self.reason.subscribe()
    }

    /// Returns a channel that changes once the engine has failed or is closed.
    #[must_use]
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }
}
