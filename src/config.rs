//! The configuration: every key, its unit and its default.
//!
//! `config.example.toml` documents each key for people; a test keeps the two alike.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use ruma::{OwnedServerName, OwnedUserId, RoomVersionId};
use serde::{Deserialize, Serialize};

use crate::config_bind::Bind;

/// All settings of a server. Made by [`Config::load`] or [`Config::for_server`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who the server is and where it keeps what it knows.
    pub server: ServerConfig,
    /// Where the server is reached.
    pub listeners: Listeners,
    /// Who may sign up.
    pub registration: RegistrationConfig,
    /// How the server talks with other servers.
    pub federation: FederationConfig,
    /// Rooms.
    pub rooms: RoomsSection,
    /// Files.
    pub media: MediaSection,
    /// What hashing a password costs (argon2id).
    pub passwords: PasswordsConfig,
    /// Whether those who ask too much are slowed down.
    pub rate_limits: RateLimitsConfig,
    /// Bridges and bots that have a whole range of users.
    pub application_services: ApplicationServicesConfig,
    /// How data are kept.
    pub storage: StorageConfig,
    /// Bounds on what connections and requests may take.
    pub limits: LimitsConfig,
    /// Whom to turn to; served in `.well-known/matrix/support`.
    pub support: SupportConfig,
    /// What is logged, and how.
    pub log: LogConfig,
}

impl Config {
    /// Settings of a server with a name and defaults for everything else.
    #[must_use]
    pub fn for_server(name: OwnedServerName) -> Self {
        let mut config = Self::default();
        config.server.name = Some(name);
        config
    }
}

/// Who the server is and where it keeps what it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The domain in user and room IDs. It can never change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<OwnedServerName>,
    /// The directory of the store and of the admin socket.
    pub data_dir: PathBuf,
    /// Where clients reach the server, served in `.well-known/matrix/client`. Empty: not served.
    pub public_base_url: String,
    /// Where other servers reach the server, as `host:port`, served in `.well-known/matrix/server`.
    /// Empty: derived from `public_base_url`.
    pub federation_address: String,
    /// Notaries: servers that vouch for the keys of others.
    pub trusted_key_servers: Vec<OwnedServerName>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            name: None,
            data_dir: PathBuf::from("data"),
            public_base_url: String::new(),
            federation_address: String::new(),
            trusted_key_servers: Vec::new(),
        }
    }
}

/// Where the server is reached: any number of listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Listeners(pub Vec<ListenerConfig>);

impl Default for Listeners {
    fn default() -> Self {
        Self(vec![ListenerConfig::default()])
    }
}

impl std::ops::Deref for Listeners {
    type Target = Vec<ListenerConfig>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl std::ops::DerefMut for Listeners {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// One place where the server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerConfig {
    /// The address or socket.
    pub bind: Bind,
    /// What is answered here. Everything else is unknown here.
    pub serve: Vec<Resource>,
    /// PEM file with the certificate chain. Set together with the key: HTTPS.
    pub tls_certificate: PathBuf,
    /// PEM file with the private key.
    pub tls_private_key: PathBuf,
    /// Whether the last address of `X-Forwarded-For` is taken for the client's: only behind a proxy
    /// that sets it.
    pub forwarded_for: bool,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            bind: Bind::default(),
            serve: Resource::ALL.to_vec(),
            tls_certificate: PathBuf::new(),
            tls_private_key: PathBuf::new(),
            forwarded_for: false,
        }
    }
}

/// A part of what the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// The client-server API, media and `.well-known`.
    Client,
    /// The server-server API and the server's keys.
    Federation,
    /// `/metrics`.
    Metrics,
    /// What administrators' tools use, below `/_synapse/admin`.
    Admin,
}

impl Resource {
    /// Every resource.
    pub const ALL: [Self; 4] = [Self::Client, Self::Federation, Self::Metrics, Self::Admin];
}

/// Who may sign up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrationConfig {
    /// Whether anybody may sign up.
    pub enabled: bool,
    /// Tokens of which one is required to sign up. Empty: none is asked for.
    pub tokens: Vec<String>,
    /// Whether guests may come in.
    pub guests: bool,
    /// The secret of `/_synapse/admin/v1/register`. Empty: that is switched off.
    pub shared_secret: String,
}

/// How the server talks with other servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FederationConfig {
    /// Whether it talks with other servers at all.
    pub enabled: bool,
    /// Whether others' certificates must be valid.
    pub verify_certificates: bool,
    /// PEM files with root certificates that are trusted besides the system's.
    pub extra_root_certificates: Vec<PathBuf>,
    /// Whether loopback and private addresses may be called.
    pub allow_private_addresses: bool,
    /// Patterns of server names: if there are any, no other servers are talked to.
    pub allow: Vec<String>,
    /// Patterns of server names that are never talked to.
    pub deny: Vec<String>,
    /// Whether they are told who of our users is online.
    pub send_presence: bool,
    /// Longest that connecting to a server may take, TLS included, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest that an answer may take, in milliseconds. Some requests wait shorter.
    pub request_timeout_ms: u64,
    /// Largest answer, in bytes. Most answers are bounded tighter.
    pub answer_bytes_max: usize,
    /// Addresses at which servers are reached, instead of those found by discovery.
    pub overrides: BTreeMap<OwnedServerName, SocketAddr>,
}

impl Default for FederationConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            verify_certificates: true,
            extra_root_certificates: Vec::new(),
            allow_private_addresses: false,
            allow: Vec::new(),
            deny: Vec::new(),
            send_presence: true,
            connect_timeout_ms: 10_000,
            request_timeout_ms: 180_000,
            answer_bytes_max: 128 * 1024 * 1024,
            overrides: BTreeMap::new(),
        }
    }
}

/// Rooms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoomsSection {
    /// Version of new rooms whose creator names none.
    pub default_version: RoomVersionId,
    /// Memory for what is known of rooms, in MiB.
    pub cache_mib: u64,
}

impl Default for RoomsSection {
    fn default() -> Self {
        Self { default_version: RoomVersionId::V12, cache_mib: 128 }
    }
}

/// Files that users send each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MediaSection {
    /// Largest file that a user may upload, in bytes.
    pub upload_bytes_max: u64,
    /// Largest file that is fetched from another server, in bytes.
    pub remote_bytes_max: u64,
}

impl Default for MediaSection {
    fn default() -> Self {
        Self { upload_bytes_max: 50 * 1024 * 1024, remote_bytes_max: 100 * 1024 * 1024 }
    }
}

/// What hashing a password costs (argon2id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PasswordsConfig {
    /// Memory that it takes, in KiB.
    pub memory_kib: u32,
    /// Passes that it makes over that memory.
    pub iterations: u32,
}

impl Default for PasswordsConfig {
    fn default() -> Self {
        Self { memory_kib: 19_456, iterations: 2 }
    }
}

/// Whether those who ask too much are slowed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitsConfig {
    /// Whether they are.
    pub enabled: bool,
}

impl Default for RateLimitsConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Bridges and bots that have a whole range of users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApplicationServicesConfig {
    /// YAML files with their registrations, or patterns of such.
    pub registrations: Vec<String>,
}

/// How data are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// Whether a change is on the disk (fsync) before it is acknowledged.
    pub sync_writes: bool,
    /// Memory for what was read from the disk, in MiB.
    pub cache_mib: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self { sync_writes: true, cache_mib: 256 }
    }
}

/// Bounds on what connections and requests may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Most connections at once, over all listeners.
    pub connections_max: usize,
    /// Largest head of a request, in bytes.
    pub header_bytes_max: usize,
    /// Longest that a client may take for the head of a request, and a connection of HTTP/1.1 may
    /// be idle, in milliseconds.
    pub header_timeout_ms: u64,
    /// Longest that a connection may be idle, and a client may take nothing of an answer, in
    /// milliseconds.
    pub idle_timeout_ms: u64,
    /// Largest JSON body of a request, in bytes.
    pub body_bytes_max: usize,
    /// Longest that a client may take for the body of a request, in milliseconds.
    pub body_timeout_ms: u64,
    /// Longest that a request may take in all, in milliseconds.
    pub request_timeout_ms: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            header_bytes_max: 64 * 1024,
            header_timeout_ms: 30_000,
            idle_timeout_ms: 120_000,
            body_bytes_max: 2 * 1024 * 1024,
            body_timeout_ms: 60_000,
            request_timeout_ms: 300_000,
        }
    }
}

/// Whom to turn to; served in `.well-known/matrix/support`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupportConfig {
    /// The administrator's e-mail address. Empty: none.
    pub admin_email: String,
    /// The administrator's user ID. Empty: none.
    #[serde(with = "crate::config_bind::empty_is_none")]
    pub admin_matrix_id: Option<OwnedUserId>,
    /// A page with help. Empty: none.
    pub support_page: String,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// Which lines are written, in the syntax of `tracing-subscriber`: `info,rooms=debug`.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Human, filter: "info,ruma_state_res=warn".to_owned() }
    }
}

/// How the lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}
