//! The commands that change users.

use std::io;

use clap::Subcommand;

use crate::{
    admin::{self, AdminReply, AdminRequest, UserLine},
    cli::{CliError, say},
    config::Config,
    wiring::Ground,
};

/// Letters of a password that is made up: none that look alike.
const PASSWORD_LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Length of a password that is made up; each letter is worth 5 bits.
const PASSWORD_LENGTH: usize = 20;

/// What is done to users.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Makes an account. Without a given password one is made up and printed.
    Create {
        /// The name: the part of the user ID before the colon.
        name: String,
        /// Reads the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
        /// Lets the user administrate the server.
        #[arg(long)]
        admin: bool,
    },
    /// Lists all accounts.
    List,
    /// Sets another password and logs all devices out. Without a given password one is made up and
    /// printed.
    ResetPassword {
        /// The user ID, or its part before the colon.
        user: String,
        /// Reads the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Closes an account for ever and leaves its rooms.
    Deactivate {
        /// The user ID, or its part before the colon.
        user: String,
        /// Removes the profile, too, and hides messages from those who have not seen them.
        #[arg(long)]
        erase: bool,
    },
    /// Lets a user administrate the server.
    MakeAdmin {
        /// The user ID, or its part before the colon.
        user: String,
        /// Takes that right away instead.
        #[arg(long)]
        revoke: bool,
    },
}

/// Carries a command out: by the running server, or else on its store.
pub(crate) async fn perform(config: &Config, command: UserCommand) -> Result<(), CliError> {
    let mut hands = Hands { config, ground: None };
    let result = hands.perform(command).await;
    if let Some(ground) = hands.ground {
        ground.close().await?;
    }
    result
}

/// Carries one request out: by the running server, or else on its store.
pub(crate) async fn ask_once(
    config: &Config,
    request: &AdminRequest,
) -> Result<AdminReply, CliError> {
    let mut hands = Hands { config, ground: None };
    let result = hands.send(request).await;
    if let Some(ground) = hands.ground {
        ground.close().await?;
    }
    result
}

/// What carries requests out.
struct Hands<'a> {
    config: &'a Config,
    /// Opened when no server runs.
    ground: Option<Ground>,
}

impl Hands<'_> {
    async fn perform(&mut self, command: UserCommand) -> Result<(), CliError> {
        match command {
            UserCommand::Create { name, password_stdin, admin } => {
                let password = Password::get(password_stdin)?;
                let request = AdminRequest::CreateUser {
                    localpart: name,
                    password: password.text.clone(),
                    admin,
                };
                let what = self.change(request).await?;
                say(&format!("Made {what}{}", password.remark()))
            }
            UserCommand::List => self.list().await,
            UserCommand::ResetPassword { user, password_stdin } => {
                let password = Password::get(password_stdin)?;
                let request = AdminRequest::ResetPassword { user, password: password.text.clone() };
                let what = self.change(request).await?;
                say(&format!("Set the password of {what}{}", password.remark()))
            }
            UserCommand::Deactivate { user, erase } => {
                let what = self.change(AdminRequest::Deactivate { user, erase }).await?;
                say(&format!("Deactivated {what}"))
            }
            UserCommand::MakeAdmin { user, revoke } => {
                let what = self.change(AdminRequest::SetAdmin { user, admin: !revoke }).await?;
                let now = if revoke { "no longer" } else { "now" };
                say(&format!("{what} is {now} an administrator"))
            }
        }
    }

    async fn list(&mut self) -> Result<(), CliError> {
        let mut after = None;
        loop {
            match self.send(&AdminRequest::ListUsers { after }).await? {
                AdminReply::Users { users } => {
                    let Some(last) = users.last() else { return Ok(()) };
                    after = Some(last.user_id.clone());
                    for user in &users {
                        say(&line(user))?;
                    }
                }
                other => return Err(unexpected(other)),
            }
        }
    }

    /// Carries out what changes one user, and tells whom.
    async fn change(&mut self, request: AdminRequest) -> Result<String, CliError> {
        match self.send(&request).await? {
            AdminReply::Done { user_id } => Ok(user_id.to_string()),
            other => Err(unexpected(other)),
        }
    }

    async fn send(&mut self, request: &AdminRequest) -> Result<AdminReply, CliError> {
        if self.ground.is_none() {
            if let Some(reply) = admin::ask(&self.config.server.data_dir, request).await? {
                return Ok(reply);
            }
            self.ground = Some(Ground::open(self.config).await?);
        }
        match &self.ground {
            Some(ground) => {
                let admin = ground.admin();
                Ok(admin.perform(request.clone()).await)
            }
            None => Err(CliError::Refused("no store is open".to_owned())),
        }
    }
}

pub(crate) fn unexpected(reply: AdminReply) -> CliError {
    CliError::Refused(match reply {
        AdminReply::Refused { why } => why,
        other => format!("the server answered something else: {other:?}"),
    })
}

/// An account as a line: its ID, then what is special about it.
fn line(user: &UserLine) -> String {
    let special = [(user.admin, "admin"), (user.guest, "guest"), (user.deactivated, "deactivated")];
    let mut line = user.user_id.to_string();
    for (_, word) in special.into_iter().filter(|(is_so, _)| *is_so) {
        line.push('\t');
        line.push_str(word);
    }
    line
}

/// A password for somebody.
struct Password {
    text: String,
    is_made_up: bool,
}

impl Password {
    fn get(from_stdin: bool) -> Result<Self, CliError> {
        let mut text = String::new();
        if from_stdin {
            io::stdin().read_line(&mut text)?;
            let text = text.trim_end_matches(['\r', '\n']).to_owned();
            if text.is_empty() {
                return Err(CliError::Refused(
                    "the password on standard input is empty".to_owned(),
                ));
            }
            return Ok(Self { text, is_made_up: false });
        }
        use rand::TryRngCore as _;
        let mut bytes = [0; PASSWORD_LENGTH];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
        for byte in bytes {
            let letter = PASSWORD_LETTERS.get(usize::from(byte % 32)).copied().unwrap_or(b'x');
            text.push(char::from(letter));
        }
        Ok(Self { text, is_made_up: true })
    }

    fn remark(&self) -> String {
        if self.is_made_up { format!(" with password {}", self.text) } else { String::new() }
    }
}
