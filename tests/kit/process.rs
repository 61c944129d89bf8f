//! The real program in a process of its own, that can be killed.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::process::{Child, Command};

use super::client::{BaseUrl, Client};

/// Longest that the program may take to answer after its start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A server process on a fixed port, and where its data are.
#[derive(Debug)]
pub(crate) struct Process {
    port: u16,
    data_dir: PathBuf,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    client: Client,
}

impl Process {
    /// Chooses a free port; nothing is started yet. Sign-up is open and passwords are cheap.
    pub(crate) fn new(data_dir: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listeners = format!(r#"[{{bind = "127.0.0.1:{port}"}}]"#);
        let environment = [
            ("NATTERJACK__LISTENERS", listeners.as_str()),
            ("NATTERJACK__REGISTRATION__ENABLED", "true"),
            ("NATTERJACK__RATE_LIMITS__ENABLED", "false"),
            ("NATTERJACK__PASSWORDS__MEMORY_KIB", "8"),
            ("NATTERJACK__PASSWORDS__ITERATIONS", "1"),
            ("NATTERJACK__LOG__FILTER", "warn"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let base_url = BaseUrl::new(Mutex::new(format!("http://127.0.0.1:{port}")));
        let client = Client::new(Arc::clone(&base_url));
        Self { port, data_dir: data_dir.to_owned(), environment, child: None, client }
    }

    /// Sets a key of the configuration, by the name of its environment variable without the prefix.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.environment.push((format!("NATTERJACK__{key}"), value.to_owned()));
    }

    /// Memory that the process holds now, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// Most memory that the process has held, in KiB.
    pub(crate) fn memory_peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let pid = self.child.as_ref().and_then(Child::id).expect("the server should run");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// A command of the program on the same data, and nothing of this process's environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_natterjack"));
        command
            .args(arguments)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    /// Starts the server and waits until it answers.
    pub(crate) async fn start(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let mut command = self.command(&["serve", "--server-name", "localhost"]);
        self.child = Some(command.stdout(Stdio::null()).spawn().unwrap());
        let answers = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(START_TIMEOUT, answers).await.expect("the server should start");
    }

    /// Kills the server at once, as a crash would.
    pub(crate) async fn kill(&mut self) {
        self.child.take().expect("the server should run").kill().await.unwrap();
    }

    /// Asks the server to stop, and waits until it has.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server should run");
        let pid = child.id().expect("it should not have stopped by itself").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        assert!(sent.success());
        child.wait().await.unwrap()
    }

    /// A client that has no access token.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}
