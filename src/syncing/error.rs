//! What can go wrong when a client asks for news.

use rooms::RoomsError;
use store::StoreError;
use users::UsersError;

/// The result of whatever a sync needs.
pub type Result<T, E = SyncError> = std::result::Result<T, E>;

/// Why a client does not get its news.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The token is not one that we gave out.
    #[error("the token {token:?} is not one of ours")]
    BadToken {
        /// What the client sent.
        token: String,
    },
    /// Something that we sent could not be written as JSON.
    #[error("an event cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    /// The rooms could not be read.
    #[error(transparent)]
    Rooms(#[from] RoomsError),
    /// The users could not be read.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
