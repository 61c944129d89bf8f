//! What can go wrong with a user, in words of the domain.

use ruma::OwnedUserId;
use store::StoreError;

use crate::remote::RemoteError;

/// The result of whatever is done to users.
pub type Result<T, E = UsersError> = std::result::Result<T, E>;

/// Why something could not be done to a user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// The name cannot be the first part of a new user's ID.
    #[error("{why}")]
    InvalidUsername {
        /// The reason, as a sentence for people.
        why: &'static str,
    },
    /// Somebody has, or had, this ID.
    #[error("{user_id} is taken")]
    Taken {
        /// The ID.
        user_id: OwnedUserId,
    },
    /// The thing named is not there.
    #[error("{what} not found")]
    NotFound {
        /// What was looked for, as in "user" or "device".
        what: &'static str,
    },
    /// User or password is wrong.
    #[error("invalid username or password")]
    WrongPassword,
    /// The account is closed for ever.
    #[error("this account has been deactivated")]
    Deactivated,
    /// The request makes no sense.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it, as a sentence for people.
        what: String,
    },
    /// The value is not of the shape it must have.
    #[error("{what}")]
    BadJson {
        /// What is wrong with it, as a sentence for people.
        what: String,
    },
    /// What is to be stored is too large.
    #[error("{what} is too large")]
    TooLarge {
        /// What is too large.
        what: &'static str,
    },
    /// The name of a profile field is too long.
    #[error("the name of a profile field has at most 255 bytes")]
    KeyTooLarge,
    /// The profile as a whole would be too large.
    #[error("a profile has at most 64 KiB")]
    ProfileTooLarge,
    /// A key is not signed as it must be.
    #[error("{what}")]
    InvalidSignature {
        /// What is wrong, as a sentence for people.
        what: String,
    },
    /// Something that is needed was not given, here or before.
    #[error("{what}")]
    Missing {
        /// What is missing, as a sentence for people.
        what: &'static str,
    },
    /// The user may not do this.
    #[error("{what}")]
    Forbidden {
        /// What, as a sentence for people.
        what: String,
    },
    /// Keys go into the newest key backup only.
    #[error("the newest backup has the version {current}")]
    WrongBackup {
        /// The newest version.
        current: u64,
    },
    /// Too many passwords are being checked at the moment.
    #[error("the server is busy checking passwords")]
    Busy,
    /// The server stops.
    #[error("the server is stopping")]
    Stopping,
    /// Others kept changing the same thing; nothing was done.
    #[error("others are changing the same thing")]
    Contended,
    /// The password parameters are impossible.
    #[error("argon2 cannot work with these parameters: {why}")]
    BadConfig {
        /// The reason.
        why: String,
    },
    /// A row could not be read.
    #[error("a stored row is damaged: {why}")]
    BadRow {
        /// What is wrong.
        why: String,
    },
    /// A password could not be hashed.
    #[error("hashing a password failed: {why}")]
    Hashing {
        /// The reason.
        why: String,
    },
    /// The operating system gives no random numbers.
    #[error("no random numbers: {why}")]
    NoRandomness {
        /// The reason.
        why: String,
    },
    /// Another server does not help.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl UsersError {
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    pub(crate) fn bad_row(why: impl ToString) -> Self {
        Self::BadRow { why: why.to_string() }
    }
}

/// Why a token does not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// There is no such token, or no longer.
    #[error("unknown token")]
    Unknown,
    /// The token's time is over, but its device is still logged in: a refresh token helps.
    #[error("the token has expired")]
    Expired,
    /// Looking it up failed.
    #[error(transparent)]
    Users(#[from] UsersError),
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::Users(error.into())
    }
}
