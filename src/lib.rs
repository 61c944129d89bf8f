//! Natterjack, a Matrix homeserver: the server as `main` and the tests start it.
//!
//! The files here know every crate and hold no rule of Matrix; the crates are in the folders beside
//! them.

mod admin;
mod cli;
mod cli_key;
mod cli_user;
mod config;
mod config_bind;
mod config_check;
mod config_load;
mod descriptors;
mod identity;
mod observe;
mod serve;
mod serve_activity;
mod serve_body;
mod serve_socket;
mod telemetry;
mod wiring;

use std::{net::SocketAddr, sync::Arc};

use rooms::Rooms;
use ruma::ServerName;
use store::Store;
use syncing::Syncing;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    admin::AdminSocket,
    serve::{Listener, Shared},
    wiring::{Federation, Ground},
};

pub use crate::{
    cli::run,
    config::{
        ApplicationServicesConfig, Config, FederationConfig, LimitsConfig, ListenerConfig,
        Listeners, LogConfig, LogFormat, MediaSection, PasswordsConfig, RateLimitsConfig,
        RegistrationConfig, Resource, RoomsSection, ServerConfig, StorageConfig, SupportConfig,
    },
    config_bind::Bind,
    config_load::{ConfigError, ENVIRONMENT_PREFIX, Place, Sources},
    identity::IdentityError,
    serve_socket::BindError,
    wiring::StartError,
};

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A running server. It goes on until [`Server::stop`]; dropping it cuts everything off.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<Address>,
    stop: DropGuard,
    listeners: JoinSet<()>,
    tasks: TaskTracker,
    ground: Ground,
    syncing: Syncing,
    federation: Option<Federation>,
}

/// Where a listener waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address, with the port that was chosen where any was right.
    pub address: SocketAddr,
    /// Whether it speaks HTTPS.
    pub is_tls: bool,
    /// Whether clients are answered there.
    pub serves_clients: bool,
}

impl Server {
    /// Opens the store, builds everything on it and listens.
    ///
    /// # Errors
    /// [`StartError`] says what to change.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let metrics = telemetry::metrics();
        // Fails where it was done before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let connections_max = descriptors::connections_max(config.limits.connections_max);
        let ground = Ground::open(&config).await?;
        let mut bound = Vec::new();
        for listener in config.listeners.iter() {
            bound.push((listener, Listener::bind(listener.clone()).await?));
        }
        let syncing = Syncing::start(
            ground.store.clone(),
            ground.rooms.clone(),
            ground.users.clone(),
            Arc::clone(&ground.clock),
        );
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(telemetry::count_events(ground.store.clone(), stop.clone()));
        tasks.spawn(telemetry::tend_metrics(metrics, stop.clone()));
        tasks.spawn(wiring::finish_departures(ground.clone(), stop.clone()));
        match AdminSocket::bind(&config.server.data_dir).await {
            Ok(socket) => {
                tasks.spawn(socket.run(ground.admin(), stop.clone()));
            }
            Err(error) => tracing::warn!(%error, "no admin socket: `natterjack user` needs it"),
        }
        let federation = Federation::start(&config, &ground);
        let doors = wiring::doors(&config, &ground, syncing.clone(), federation.as_ref());
        let shared = Shared {
            limits: config.limits,
            connections: Arc::new(Semaphore::new(connections_max)),
            stop: stop.clone(),
        };
        let mut addresses = Vec::new();
        let mut listeners = JoinSet::new();
        for (settings, listener) in bound {
            addresses.extend(listener.address().map(|address| Address {
                address,
                is_tls: listener.is_tls(),
                serves_clients: settings.serve.contains(&Resource::Client),
            }));
            tracing::info!(bind = %settings.bind, serve = ?settings.serve, "listening");
            listeners.spawn(listener.run(doors.clone(), shared.clone()));
        }
        if !config.application_services.registrations.is_empty() {
            tracing::warn!(
                "application services are not supported yet: their registrations are passed over"
            );
        }
        let stop = stop.drop_guard();
        Ok(Self { addresses, stop, listeners, tasks, ground, syncing, federation })
    }

    /// The name of the server: the domain in user and room IDs.
    #[must_use]
    pub fn name(&self) -> &ServerName {
        &self.ground.server_name
    }

    /// The addresses at which the server listens, in the order of the configuration; unix sockets
    /// are left out.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Where clients on this machine reach the server, without a slash at the end.
    #[must_use]
    pub fn client_url(&self) -> Option<String> {
        let address = self.addresses.iter().find(|address| address.serves_clients)?;
        let scheme = if address.is_tls { "https" } else { "http" };
        Some(format!("{scheme}://{}", address.address))
    }

    /// The store, for tests that look below.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.ground.store
    }

    /// The rooms, for tests that look below.
    #[must_use]
    pub fn rooms(&self) -> &Rooms {
        &self.ground.rooms
    }

    /// A channel that holds the reason once the store has failed. The server must be stopped then.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.ground.store.failed()
    }

    /// Stops in order: no new connections, waiting clients answered, requests finished, everything
    /// on the disk.
    ///
    /// It takes 5 seconds at most, whatever clients do.
    ///
    /// # Errors
    /// [`StartError::Store`] when the store can't be closed in order.
    pub async fn stop(self) -> Result<(), StartError> {
        let Self { stop, mut listeners, tasks, ground, syncing, federation, .. } = self;
        drop(stop);
        syncing.stop().await;
        drop(syncing);
        while listeners.join_next().await.is_some() {}
        if let Some(federation) = federation {
            federation.stop().await;
        }
        tasks.close();
        tasks.wait().await;
        ground.close().await
    }
}
