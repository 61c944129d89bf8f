//! The command that changes the signing key.

use clap::Subcommand;

use crate::{
    admin::{AdminReply, AdminRequest},
    cli::{CliError, say},
    cli_user::{ask_once, unexpected},
    config::Config,
};

/// What is done to the signing key.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Makes a new key. The server signs with it from its next start on, and publishes the key
    /// before it as an old one, so that what was signed with it stays valid.
    Rotate,
}

/// Carries the command out.
pub(crate) async fn perform(config: &Config, command: KeyCommand) -> Result<(), CliError> {
    let KeyCommand::Rotate = command;
    match ask_once(config, &AdminRequest::RotateKey).await? {
        AdminReply::Key { key_id } => {
            say(&format!("Made the key {key_id}. The server signs with it from its next start on."))
        }
        other => Err(unexpected(other)),
    }
}
