//! What can go wrong with a file, in words of the domain.

use store::StoreError;

use crate::remote::RemoteError;

/// The result of whatever is done to files.
pub type Result<T, E = MediaError> = std::result::Result<T, E>;

/// Why something could not be done to a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// There is no such file.
    #[error("there is no such file")]
    NotFound,
    /// The file was announced, but has not come yet.
    #[error("the file has not been uploaded yet")]
    NotYetUploaded,
    /// The file is there already.
    #[error("the file has been uploaded already")]
    Taken,
    /// The file was announced by somebody else, or too long ago.
    #[error("{why}")]
    Forbidden {
        /// The reason, as a sentence for people.
        why: &'static str,
    },
    /// Too many files are announced.
    #[error("too many files are announced and not uploaded")]
    TooManyPromises,
    /// The request makes no sense.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it, as a sentence for people.
        what: &'static str,
    },
    /// The file is larger than this server keeps.
    #[error("the file is larger than {bytes_max} bytes")]
    TooLarge {
        /// The largest that is kept.
        bytes_max: u64,
    },
    /// Another server's file is larger than this server fetches.
    #[error("the other server's file is larger than {bytes_max} bytes")]
    RemoteTooLarge {
        /// The largest that is fetched.
        bytes_max: u64,
    },
    /// No smaller picture can be made of it.
    #[error("no thumbnail can be made: {why}")]
    NoPicture {
        /// The reason.
        why: String,
    },
    /// The sender stopped before the end.
    #[error("the upload ended too early: {why}")]
    Interrupted {
        /// What happened.
        why: String,
    },
    /// Another server could not give the file.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The disk failed or is full.
    #[error("the file could not be kept: {0}")]
    Io(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
