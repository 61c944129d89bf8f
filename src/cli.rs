//! The command line.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use clock::{Clock as _, SystemClock};
use ruma::OwnedServerName;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

use crate::{
    Server,
    cli_key::{self, KeyCommand},
    cli_user::{self, UserCommand},
    config::Config,
    config_load::{ConfigError, Sources},
    identity::{self, IdentityError},
    telemetry,
    wiring::{self, StartError},
};

/// Longest that the server takes to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A federated Matrix homeserver.
#[derive(Debug, Parser)]
#[command(name = "natterjack", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

/// What every command may be told of the configuration.
#[derive(Debug, Args)]
struct Settings {
    /// The configuration file; without one, defaults and the environment hold.
    #[arg(long, global = true, env = "NATTERJACK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The domain in user and room IDs, instead of `server.name`.
    #[arg(long, global = true, value_name = "NAME")]
    server_name: Option<OwnedServerName>,
    /// The directory with the data, instead of `server.data_dir`.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server until it gets SIGTERM or SIGINT.
    Serve,
    /// Looks at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Changes users, of a running server or of a stopped one.
    #[command(subcommand)]
    User(UserCommand),
    /// Changes the key that signs for the server, of a running server or of a stopped one.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Looks at the store of a stopped server.
    #[command(subcommand)]
    Store(StoreCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Tells whether the server could start with it.
    Check,
    /// Prints every key with its meaning, unit and default.
    PrintDefault,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Checks every event's hash, signature, auth events and state, and that all indexes agree.
    Check,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server could not start or stop.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The operating system refused something.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It was not done, for this reason.
    #[error("{0}")]
    Refused(String),
    /// The store failed while the server ran.
    #[error("the server stopped because its store failed: {0}")]
    StoreFailed(String),
    /// The server did not stop in time.
    #[error("the server did not stop within {} s", STOP_TIMEOUT.as_secs())]
    Slow,
}

/// Runs the program with the arguments of this process.
#[must_use]
pub fn run() -> ExitCode {
    let Cli { settings, command } = Cli::parse();
    match perform(&settings, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody reads, there is nobody to tell.
            let _ = writeln!(io::stderr(), "natterjack: {error}");
            ExitCode::FAILURE
        }
    }
}

fn perform(settings: &Settings, command: Command) -> Result<(), CliError> {
    match command {
        Command::Serve => serve(settings),
        Command::Config(ConfigCommand::Check) => {
            settings.load(Name::Required)?;
            say("The configuration is right.")
        }
        Command::Config(ConfigCommand::PrintDefault) => {
            Ok(io::stdout().write_all(include_bytes!("../config.example.toml"))?)
        }
        Command::User(command) => {
            let config = settings.load(Name::MayBeStored)?;
            Runtime::new()?.block_on(cli_user::perform(&config, command))
        }
        Command::Key(command) => {
            let config = settings.load(Name::MayBeStored)?;
            Runtime::new()?.block_on(cli_key::perform(&config, command))
        }
        Command::Store(StoreCommand::Check) => {
            let config = settings.load(Name::MayBeStored)?;
            Runtime::new()?.block_on(check_store(&config))
        }
    }
}

/// Prints a line for the person at the terminal.
pub(crate) fn say(line: &str) -> Result<(), CliError> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

/// Whether `server.name` must be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Required,
    MayBeStored,
}

impl Settings {
    fn load(&self, name: Name) -> Result<Config, CliError> {
        let mut sources = Sources::of_process(self.config.clone())?;
        sources.is_name_stored = name == Name::MayBeStored;
        let config = Config::load(&sources, |config| {
            if let Some(name) = &self.server_name {
                config.server.name = Some(name.clone());
            }
            if let Some(data_dir) = &self.data_dir {
                config.server.data_dir.clone_from(data_dir);
            }
        })?;
        Ok(config)
    }

    /// What to write behind `natterjack` so that another command means the same server.
    fn as_arguments(&self, config: &Config) -> String {
        match (&self.config, &self.data_dir) {
            (Some(file), _) => format!(" --config {}", file.display()),
            (None, Some(_)) => format!(" --data-dir {}", config.server.data_dir.display()),
            (None, None) => String::new(),
        }
    }
}

fn serve(settings: &Settings) -> Result<(), CliError> {
    let config = settings.load(Name::Required)?;
    telemetry::start_log(&config.log);
    let runtime = Runtime::new()?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let server = Server::start(config.clone()).await?;
        let mut failed = server.failed();
        welcome(settings, &config, &server)?;
        let reason = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            Ok(reason) = failed.wait_for(Option::is_some) => reason.clone(),
        };
        match &reason {
            None => tracing::info!("stopping"),
            Some(reason) => tracing::error!(%reason, "the store has failed: stopping"),
        }
        let stopped = tokio::time::timeout(STOP_TIMEOUT, server.stop()).await;
        match (reason, stopped) {
            (Some(reason), _) => Err(CliError::StoreFailed(reason)),
            (None, Err(_)) => Err(CliError::Slow),
            (None, Ok(stopped)) => Ok(stopped?),
        }
    });
    runtime.shutdown_background();
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}

/// Tells where the server is and how to sign up.
fn welcome(settings: &Settings, config: &Config, server: &Server) -> Result<(), CliError> {
    let name = server.name();
    let data_dir = config.server.data_dir.display();
    let place = server.client_url().unwrap_or_else(|| "a socket".to_owned());
    say(&format!("Natterjack {} serves {name} at {place}, data in {data_dir}", crate::VERSION))?;
    if !config.registration.enabled {
        let arguments = settings.as_arguments(config);
        say(&format!(
            "Sign-up is closed. To make a user, in another terminal:\n    natterjack user create alice{arguments}\n\
             To open sign-up: `enabled = true` below [registration] in the configuration file,\n\
             or start with NATTERJACK__REGISTRATION__ENABLED=true"
        ))?;
    } else if config.registration.tokens.is_empty() {
        say("Sign-up is open: register with any Matrix client.")?;
    } else {
        say("Sign-up is open to those who have a registration token.")?;
    }
    Ok(())
}

async fn check_store(config: &Config) -> Result<(), CliError> {
    let store = wiring::open_store(config).await?;
    let name = match &config.server.name {
        Some(name) => name.clone(),
        None => identity::stored_name(&store)
            .await
            .and_then(|name| name.ok_or(IdentityError::Nobody))
            .map_err(StartError::from)?,
    };
    let now_ms = SystemClock.now_ms();
    let keys = identity::load(&store, &name, now_ms).await.map_err(StartError::from)?;
    let keys = keys.public_keys(&name);
    let report = rooms::check(&store, &name, keys).await.map_err(StartError::from)?;
    say(&report.to_string())?;
    store.close().await.map_err(StartError::from)?;
    if report.is_sound() {
        Ok(())
    } else {
        Err(CliError::Refused("the store is damaged".to_owned()))
    }
}
