//! Why federation can't start.

use std::path::PathBuf;

use event::EventError;
use store::StoreError;

/// Why the part that talks with other servers can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum FederationError {
    /// A file with root certificates is of no use.
    #[error("the root certificates in {} can't be used: {why}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS can't be set up.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// A key can't sign.
    #[error("the signing key: {0}")]
    Key(#[from] EventError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
