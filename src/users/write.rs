//! Writing what changes sessions: one batch, then the cache.

use store::{Batch, Position, StoreError};

use crate::{
    Users,
    error::{Result, UsersError},
    session_cache::SessionCache,
};

impl Users {
    /// Commits a batch and then tells the cache of sessions, even if nobody waits for that any
    /// more: a client that hangs up keeps no revoked token alive. Says whether it was written;
    /// where others were quicker it was not.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn write(
        &self,
        batch: Batch,
        settle: impl FnOnce(&SessionCache) + Send + 'static,
    ) -> Result<bool> {
        let users = self.clone();
        // Nobody needs to await it when the server stops: the cache ends with the process.
        let task = tokio::spawn(async move {
            let result = users.store().commit(batch).await;
            if !matches!(result, Err(StoreError::Conflict { .. })) {
                settle(&users.inner.sessions);
            }
            result
        });
        match task.await.map_err(|_| UsersError::Stopping)? {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Commits a batch and then does something, even if nobody waits for that any more.
    ///
    /// # Errors
    /// When the store fails, or others were quicker.
    pub(crate) async fn commit_then(
        &self,
        batch: Batch,
        settle: impl FnOnce() + Send + 'static,
    ) -> Result<Position> {
        let store = self.store().clone();
        let task = tokio::spawn(async move {
            let result = store.commit(batch).await;
            settle();
            result
        });
        Ok(task.await.map_err(|_| UsersError::Stopping)??)
    }
}
