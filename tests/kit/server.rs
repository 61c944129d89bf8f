//! A server in this process, with a directory of its own that is removed with it.

use std::sync::{Arc, Mutex};

use natterjack::{Config, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    client::{BaseUrl, Client},
    user::{PASSWORD, User},
};

/// A running server.
#[derive(Debug)]
pub(crate) struct TestServer {
    pub(crate) config: Config,
    pub(crate) data_dir: TempDir,
    client: Client,
    server: Option<Server>,
}

/// Starts a server named `localhost` with open sign-up, no rate limits and cheap passwords.
pub(crate) async fn server() -> TestServer {
    server_with(|_| ()).await
}

/// Starts a server whose settings differ from those of [`server`].
pub(crate) async fn server_with(change: impl FnOnce(&mut Config)) -> TestServer {
    show_log();
    let data_dir = tempfile::tempdir().unwrap();
    let mut config = Config::for_server("localhost".try_into().unwrap());
    config.server.data_dir = data_dir.path().to_owned();
    config.listeners[0].bind = "127.0.0.1:0".parse().unwrap();
    config.registration.enabled = true;
    config.rate_limits.enabled = false;
    config.passwords.memory_kib = 8;
    config.passwords.iterations = 1;
    config.storage.sync_writes = false;
    config.storage.cache_mib = 8;
    change(&mut config);
    let base_url = BaseUrl::new(Mutex::new(String::new()));
    let client = Client::new(Arc::clone(&base_url));
    let mut server = TestServer { config, data_dir, client, server: None };
    server.start().await;
    server
}

/// Writes the servers' log to standard error where `RUST_LOG` says what of it.
fn show_log() {
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        // Fails where an earlier test began it.
        let _ = log.try_init();
    }
}

impl TestServer {
    /// Starts the server, which must not run.
    pub(crate) async fn start(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        let server = Server::start(self.config.clone()).await.expect("the server should start");
        *self.client.base_url.lock().unwrap() = server.client_url().expect("a TCP listener");
        self.server = Some(server);
    }

    /// Stops the server in an orderly way. Its data stay until this value is dropped.
    pub(crate) async fn stop(&mut self) {
        let server = self.server.take().expect("the server should run");
        server.stop().await.expect("the server should stop in order");
    }

    /// Stops and starts the server with the data it has, perhaps on another port. Users go on as
    /// before.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    /// The running server itself.
    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("the server should run")
    }

    /// A client that has no access token.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Registers a user with [`PASSWORD`] and logs a device in.
    pub(crate) async fn register(&self, localpart: &str) -> User {
        User::register(&self.client, localpart).await
    }

    /// Logs another device of a user in, with [`PASSWORD`]. `extra` adds to the request's fields.
    pub(crate) async fn log_in(&self, localpart: &str, extra: Value) -> User {
        let mut body = json!({
            "type": "m.login.password", "password": PASSWORD,
            "identifier": { "type": "m.id.user", "user": localpart },
        });
        if let (Some(fields), Value::Object(extra)) = (body.as_object_mut(), extra) {
            fields.extend(extra);
        }
        let answer = self.client.do_post("/_matrix/client/v3/login", body).await;
        User::new(&self.client, &answer)
    }
}
