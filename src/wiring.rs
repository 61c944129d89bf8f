//! Builds the house in a straight line: store → rooms, users → syncing → the doors.

use std::{path::PathBuf, sync::Arc, time::Duration};

use api::{ApiSettings, ApiState, RegistrationSettings, SupportSettings};
use axum::{Router, response::IntoResponse as _, routing::get};
use clock::{Clock, SystemClock};
use federation::{
    Certificates, Client, ClientConfig, Door, DoorParts, FederationError, OwnKeys, Sender,
    SenderConfig, SenderParts, ServerLists,
};
use http::header;
use media::{Media, MediaConfig, MediaError};
use rooms::{Rooms, RoomsConfig, RoomsError};
use ruma::OwnedServerName;
use store::{RocksOptions, Store, StoreError};
use syncing::Syncing;
use tokio_util::sync::CancellationToken;
use users::{Users, UsersConfig, UsersError};

use crate::{
    admin::Admin,
    config::Config,
    identity::{self, IdentityError},
    observe,
    serve::{Doors, unrecognized},
    serve_socket::BindError,
    telemetry,
};

/// Name of the store's directory in the data directory.
const STORE_NAME: &str = "store";

/// Name of the files' directory in the data directory.
const MEDIA_NAME: &str = "media";

/// Why the server can't start, or did not stop in order.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory can't be made.
    #[error("the data directory {} can't be used: {error}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A listener can't be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The server can't be who it shall be.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store can't be opened or closed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Other servers can't be talked with.
    #[error(transparent)]
    Federation(#[from] FederationError),
    /// The rooms can't be opened.
    #[error(transparent)]
    Rooms(#[from] RoomsError),
    /// The files can't be opened.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The users can't be opened.
    #[error(transparent)]
    Users(#[from] UsersError),
}

/// The store and the domain on it: all that commands on a stopped server need.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) store: Store,
    pub(crate) server_name: OwnedServerName,
    pub(crate) keys: OwnKeys,
    pub(crate) client: Client,
    pub(crate) users: Users,
    pub(crate) rooms: Rooms,
    pub(crate) media: Media,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Opens the store in the data directory. Nobody else may have it open.
pub(crate) async fn open_store(config: &Config) -> Result<Store, StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let data_dir = &config.server.data_dir;
    let path = data_dir.join(STORE_NAME);
    // The store has its own mode, since the data directory may have been made by somebody else.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)
        .map_err(|error| StartError::DataDir { path: data_dir.clone(), error })?;
    let options = RocksOptions {
        cache_mib: config.storage.cache_mib,
        sync_writes: config.storage.sync_writes,
    };
    Ok(Store::open_rocks(&path, options).await?)
}

impl Ground {
    /// Opens everything below the doors. The server's name is that of the configuration, or else
    /// that of the store.
    pub(crate) async fn open(config: &Config) -> Result<Self, StartError> {
        let store = open_store(config).await?;
        let server_name = match &config.server.name {
            Some(name) => name.clone(),
            None => identity::stored_name(&store).await?.ok_or(IdentityError::Nobody)?,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let keys = identity::load(&store, &server_name, clock.now_ms()).await?;
        let client_config = client_config(config, server_name.clone());
        let client = Client::new(client_config, keys.clone(), store.clone(), Arc::clone(&clock))?;
        let rooms_config = RoomsConfig {
            cache_bytes: config.rooms.cache_mib.saturating_mul(1024 * 1024),
            remote: Arc::new(client.clone()),
            ..RoomsConfig::new(
                server_name.clone(),
                config.rooms.default_version.clone(),
                keys.current(),
            )
        };
        let users_config = UsersConfig {
            server_name: server_name.clone(),
            argon2_memory_kib: config.passwords.memory_kib,
            argon2_iterations: config.passwords.iterations,
            remote: Arc::new(client.clone()),
        };
        let rooms = Rooms::open(store.clone(), rooms_config, Arc::clone(&clock)).await?;
        let users = Users::open(store.clone(), users_config, Arc::clone(&clock)).await?;
        let media_config = MediaConfig {
            server_name: server_name.clone(),
            directory: config.server.data_dir.join(MEDIA_NAME),
            upload_bytes_max: config.media.upload_bytes_max,
            remote_bytes_max: config.media.remote_bytes_max,
            remote: Arc::new(client.clone()),
        };
        let media = Media::open(store.clone(), media_config, Arc::clone(&clock)).await?;
        Ok(Self { store, server_name, keys, client, users, rooms, media, clock })
    }

    /// What carries administrators' requests out.
    pub(crate) fn admin(&self) -> Admin {
        let (store, users, rooms) = (self.store.clone(), self.users.clone(), self.rooms.clone());
        Admin { store, users, rooms }
    }

    /// Finishes all work and closes the store.
    pub(crate) async fn close(self) -> Result<(), StartError> {
        self.rooms.stop().await;
        Ok(self.store.close().await?)
    }
}

/// Makes those leave their rooms whose accounts were closed when the process ended too early.
pub(crate) async fn finish_departures(ground: Ground, stop: CancellationToken) {
    let departures = api::finish_departures(&ground.users, &ground.rooms);
    if let Some(Err(error)) = stop.run_until_cancelled(departures).await {
        tracing::error!(%error, "users of closed accounts could not leave their rooms");
    }
}

/// The half of federation that stands on the domain: what other servers are sent, and what they are
/// answered.
#[derive(Clone, Debug)]
pub(crate) struct Federation {
    sender: Sender,
    door: Door,
}

impl Federation {
    /// Begins to send and to receive; `None` where the configuration switches federation off.
    pub(crate) fn start(config: &Config, ground: &Ground) -> Option<Self> {
        if !config.federation.enabled {
            return None;
        }
        let sender = Sender::start(SenderParts {
            store: ground.store.clone(),
            rooms: ground.rooms.clone(),
            users: ground.users.clone(),
            deliver: Arc::new(ground.client.clone()),
            clock: Arc::clone(&ground.clock),
            config: SenderConfig {
                sends_presence: config.federation.send_presence,
                ..SenderConfig::default()
            },
        });
        let door = Door::start(DoorParts {
            server_name: ground.server_name.clone(),
            keys: ground.keys.clone(),
            clock: Arc::clone(&ground.clock),
            version: crate::VERSION,
            store: ground.store.clone(),
            rooms: ground.rooms.clone(),
            users: ground.users.clone(),
            media: ground.media.clone(),
            client: ground.client.clone(),
            sender: sender.clone(),
        });
        Some(Self { sender, door })
    }

    /// Ends both. What waits to be sent, or for other events, stays in the store.
    pub(crate) async fn stop(&self) {
        tokio::join!(self.door.stop(), self.sender.stop());
    }
}

/// Builds the doors on the ground.
pub(crate) fn doors(
    config: &Config,
    ground: &Ground,
    syncing: Syncing,
    federation: Option<&Federation>,
) -> Doors {
    let state = ApiState::new(
        ground.users.clone(),
        ground.rooms.clone(),
        ground.media.clone(),
        syncing,
        api_settings(config, ground),
        Arc::clone(&ground.clock),
    );
    let federation = match federation {
        Some(federation) => federation::router(federation.door.clone()),
        None => Router::new().fallback(async || unrecognized()),
    };
    Doors {
        client: observe::around(api::router(state)),
        federation: observe::around(federation),
        metrics: observe::around(metrics_door()),
    }
}

/// How other servers are talked with.
fn client_config(config: &Config, server_name: OwnedServerName) -> ClientConfig {
    let federation = &config.federation;
    if federation.enabled && !federation.verify_certificates {
        tracing::warn!(
            "the certificates of other servers are not checked: anybody may pose as one"
        );
    }
    ClientConfig {
        is_enabled: federation.enabled,
        certificates: match federation.verify_certificates {
            true => Certificates::MustBeValid,
            false => Certificates::Any,
        },
        extra_root_certificates: federation.extra_root_certificates.clone(),
        allow_private_addresses: federation.allow_private_addresses,
        lists: ServerLists::new(&federation.allow, &federation.deny),
        overrides: federation.overrides.clone(),
        trusted_key_servers: config.server.trusted_key_servers.clone(),
        connect_timeout: Duration::from_millis(federation.connect_timeout_ms),
        request_timeout: Duration::from_millis(federation.request_timeout_ms),
        answer_bytes_max: federation.answer_bytes_max,
        ..ClientConfig::new(server_name)
    }
}

/// Answers `/metrics` in Prometheus' text format.
fn metrics_door() -> Router {
    let handle = telemetry::metrics();
    let answer = async move || {
        let content_type = "text/plain; version=0.0.4; charset=utf-8";
        ([(header::CONTENT_TYPE, content_type)], handle.render()).into_response()
    };
    Router::new().route("/metrics", get(answer)).fallback(async || unrecognized())
}

fn api_settings(config: &Config, ground: &Ground) -> ApiSettings {
    let some = |text: &str| (!text.is_empty()).then(|| text.trim_end_matches('/').to_owned());
    let registration = &config.registration;
    ApiSettings {
        public_base_url: some(&config.server.public_base_url),
        federation_address: some(&config.server.federation_address),
        registration: RegistrationSettings {
            enabled: registration.enabled,
            tokens: registration.tokens.clone(),
            guests: registration.guests,
            shared_secret: registration.shared_secret.clone(),
        },
        support: SupportSettings {
            admin_email: some(&config.support.admin_email),
            admin_matrix_id: config.support.admin_matrix_id.clone(),
            support_page: some(&config.support.support_page),
        },
        rate_limits_enabled: config.rate_limits.enabled,
        json_body_bytes_max: config.limits.body_bytes_max,
        ..ApiSettings::new(ground.server_name.clone())
    }
}
