//! What administrators do to users and to the signing key: over the admin socket of a running
//! server, or on the store of a
//! stopped one.
//!
//! The socket is `<data_dir>/admin.sock`, for its owner only. A request is one line of JSON, and so
//! is the reply.

use std::{io, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use rooms::Rooms;
use ruma::{OwnedServerSigningKeyId, OwnedUserId};
use serde::{Deserialize, Serialize};
use store::Store;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use users::{AdminRight, Erasure, LogOut, NewAccount, Users, UsersError};

use crate::{
    identity::{self, IdentityError},
    serve_socket::{SocketFile, bind_unix},
};

/// Name of the socket in the data directory.
pub(crate) const SOCKET_NAME: &str = "admin.sock";

/// Largest request, in bytes.
const REQUEST_BYTES_MAX: u64 = 64 * 1024;

/// Most requests at once.
const REQUESTS_MAX: usize = 8;

/// Longest that a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest that a request may go on once the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Accounts in one page of a list.
const PAGE: usize = 500;

/// What an administrator wants.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub(crate) enum AdminRequest {
    /// A new account.
    CreateUser { localpart: String, password: String, admin: bool },
    /// A page of the accounts.
    ListUsers { after: Option<OwnedUserId> },
    /// Another password; all devices are logged out.
    ResetPassword { user: String, password: String },
    /// The end of an account.
    Deactivate { user: String, erase: bool },
    /// The right to administrate, given or taken.
    SetAdmin { user: String, admin: bool },
    /// A new signing key, from the next start on.
    RotateKey,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(crate) enum AdminReply {
    /// It was done to this user.
    Done { user_id: OwnedUserId },
    /// A page of accounts. An empty one is the end.
    Users { users: Vec<UserLine> },
    /// A signing key was made.
    Key { key_id: OwnedServerSigningKeyId },
    /// It was not done.
    Refused { why: String },
}

/// An account in a list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UserLine {
    pub(crate) user_id: OwnedUserId,
    pub(crate) admin: bool,
    pub(crate) guest: bool,
    pub(crate) deactivated: bool,
    pub(crate) created_ms: u64,
}

/// Why a request could not be carried out.
#[derive(Debug, thiserror::Error)]
enum AdminError {
    #[error("there is no user {user}")]
    NoUser { user: String },
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Api(#[from] api::ApiError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// The handles that requests need.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) store: Store,
    pub(crate) users: Users,
    pub(crate) rooms: Rooms,
}

impl Admin {
    /// Carries a request out.
    pub(crate) async fn perform(&self, request: AdminRequest) -> AdminReply {
        match self.attempt(request).await {
            Ok(reply) => reply,
            Err(error) => AdminReply::Refused { why: error.to_string() },
        }
    }

    async fn attempt(&self, request: AdminRequest) -> Result<AdminReply, AdminError> {
        let user_id = match request {
            AdminRequest::CreateUser { localpart, password, admin } => {
                let account = NewAccount {
                    localpart: Some(localpart),
                    password: Some(password),
                    admin,
                    ..NewAccount::default()
                };
                self.users.create_account(account).await?
            }
            AdminRequest::ListUsers { after } => {
                let page = self.users.list_accounts(after.as_deref(), PAGE).await?;
                let users = page.into_iter().map(UserLine::from).collect();
                return Ok(AdminReply::Users { users });
            }
            AdminRequest::RotateKey => {
                let key_id = identity::rotate(&self.store).await?;
                tracing::info!(%key_id, "a new signing key will be used from the next start on");
                return Ok(AdminReply::Key { key_id });
            }
            AdminRequest::ResetPassword { user, password } => {
                let user_id = self.user(&user).await?;
                self.users.set_password(&user_id, &password, LogOut::Everybody).await?;
                user_id
            }
            AdminRequest::Deactivate { user, erase } => {
                let user_id = self.user(&user).await?;
                let erasure = if erase { Erasure::Erase } else { Erasure::Keep };
                api::deactivate_account(&self.users, &self.rooms, &user_id, erasure).await?;
                user_id
            }
            AdminRequest::SetAdmin { user, admin } => {
                let user_id = self.user(&user).await?;
                let right = if admin { AdminRight::Granted } else { AdminRight::Withdrawn };
                self.users.set_admin(&user_id, right).await?;
                user_id
            }
        };
        Ok(AdminReply::Done { user_id })
    }

    /// The user who is meant by an ID or its first part.
    async fn user(&self, user: &str) -> Result<OwnedUserId, AdminError> {
        let account = self.users.find_account(user).await?;
        account
            .map(|account| account.user_id)
            .ok_or_else(|| AdminError::NoUser { user: user.to_owned() })
    }
}

impl From<users::Account> for UserLine {
    fn from(account: users::Account) -> Self {
        Self {
            user_id: account.user_id,
            admin: account.admin,
            guest: account.guest,
            deactivated: account.deactivated,
            created_ms: account.created_ms,
        }
    }
}

/// The admin socket of a server, not answered yet.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

impl AdminSocket {
    /// Makes the socket. Only the owner of the process may use it.
    pub(crate) async fn bind(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(SOCKET_NAME);
        let (listener, file) = bind_unix(&path).await?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, file })
    }

    /// Answers requests until it is stopped.
    pub(crate) async fn run(self, admin: Admin, stop: CancellationToken) {
        let Self { listener, file } = self;
        let mut requests = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = requests.join_next() => continue,
                accepted = listener.accept(), if requests.len() < REQUESTS_MAX => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let admin = admin.clone();
                    requests.spawn(tokio::time::timeout(REQUEST_TIMEOUT, answer(stream, admin)));
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin socket could not accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop((listener, file));
        let all = async { while requests.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!("requests on the admin socket were cut that did not end in time");
        }
        requests.shutdown().await;
    }
}

/// Reads one request and replies.
async fn answer(stream: UnixStream, admin: Admin) {
    let (input, mut output) = stream.into_split();
    let mut line = String::new();
    let mut input = BufReader::new(input.take(REQUEST_BYTES_MAX));
    let reply = match input.read_line(&mut line).await {
        Ok(_) => match serde_json::from_str(&line) {
            Ok(request) => admin.perform(request).await,
            Err(error) => AdminReply::Refused { why: format!("no request: {error}") },
        },
        Err(error) => AdminReply::Refused { why: format!("unreadable: {error}") },
    };
    let Ok(mut reply) = serde_json::to_vec(&reply) else { return };
    reply.push(b'\n');
    if let Err(error) = output.write_all(&reply).await {
        tracing::debug!(%error, "nobody waited for the reply on the admin socket");
    }
}

/// Asks the running server. `None` where no server runs, or none can have a socket because the path
/// is too long for one.
pub(crate) async fn ask(data_dir: &Path, request: &AdminRequest) -> io::Result<Option<AdminReply>> {
    use io::ErrorKind::{ConnectionRefused, InvalidInput, NotFound};
    let mut stream = match UnixStream::connect(data_dir.join(SOCKET_NAME)).await {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            NotFound | ConnectionRefused | InvalidInput => return Ok(None),
            _ => return Err(error),
        },
    };
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(Some(serde_json::from_str(&reply)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_answers_where_the_path_is_too_long_for_a_socket() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        for data_dir in [dir.path(), &deep] {
            let reply = ask(data_dir, &AdminRequest::ListUsers { after: None }).await.unwrap();
            assert!(reply.is_none());
        }
    }
}
