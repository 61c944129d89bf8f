//! What settings the server can't work with.

use std::{collections::HashSet, path::Path};

use ruma::RoomVersionId;

use crate::{
    config::{Config, ListenerConfig},
    config_bind::Bind,
    config_load::{Problem, SERVER_NAME_KEY},
};

/// Least memory that argon2 works with, in KiB.
const ARGON2_MEMORY_KIB_MIN: u32 = 8;

/// Least `connections_max`.
const CONNECTIONS_MIN: usize = 1;

/// Least buffer that the HTTP implementation reads a head into, in bytes.
const HEADER_BYTES_MIN: usize = 8 * 1024;

/// Largest head that may be allowed, in bytes.
const HEADER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Least `body_bytes_max`: an event must fit in, with what is around it.
const BODY_BYTES_MIN: usize = 128 * 1024;

/// Largest `body_bytes_max`.
const BODY_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Least `answer_bytes_max`: a transaction of 50 events must fit in several times over.
const ANSWER_BYTES_MIN: usize = 1024 * 1024;

/// Versions of which rooms are not made unless somebody asks for it.
const OLD_VERSIONS: [RoomVersionId; 5] =
    [RoomVersionId::V1, RoomVersionId::V2, RoomVersionId::V3, RoomVersionId::V4, RoomVersionId::V5];

/// Least time limit, in milliseconds.
const TIMEOUT_MS_MIN: u64 = 10;

/// Least `request_timeout_ms`: a client may wait two minutes for news.
const REQUEST_TIMEOUT_MS_MIN: u64 = 130_000;

impl Config {
    /// Everything that is wrong with the settings, in the order of the keys.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        self.check_server(&mut problems);
        self.check_listeners(&mut problems);
        self.check_registration(&mut problems);
        self.check_federation(&mut problems);
        self.check_sizes(&mut problems);
        self.check_support(&mut problems);
        if let Err(why) = crate::telemetry::parse_filter(&self.log.filter) {
            problems.add(
                "log.filter",
                format!("{why}; expected a level, or parts with levels, like `info,rooms=debug`"),
            );
        }
        problems.0
    }

    fn check_server(&self, problems: &mut Problems) {
        let server = &self.server;
        if server.name.is_none() {
            problems.add(
                SERVER_NAME_KEY,
                "not set; expected the domain in user and room IDs, like `example.org`, which can never change",
            );
        }
        if server.data_dir.as_os_str().is_empty() {
            problems
                .add("server.data_dir", "empty; expected a directory, like `/var/lib/natterjack`");
        }
        problems.check_url("server.public_base_url", &server.public_base_url);
        let address = &server.federation_address;
        if !address.is_empty() && <&ruma::ServerName>::try_from(address.as_str()).is_err() {
            problems.add(
                "server.federation_address",
                format!("`{address}` is no address; expected a host and perhaps a port, like `matrix.example.org:443`"),
            );
        }
    }

    fn check_listeners(&self, problems: &mut Problems) {
        if self.listeners.is_empty() {
            problems.add("listeners", "none; expected at least one `[[listeners]]` with a `bind`");
        }
        let mut seen = HashSet::new();
        for (index, listener) in self.listeners.iter().enumerate() {
            let key = |name: &str| format!("listeners[{index}].{name}");
            let any_port = matches!(listener.bind, Bind::Tcp(address) if address.port() == 0);
            if !any_port && !seen.insert(listener.bind.to_string()) {
                let what = format!("another listener waits at `{}` already", listener.bind);
                problems.add(&key("bind"), what);
            }
            if listener.serve.is_empty() {
                problems.add(
                    &key("serve"),
                    "empty; expected some of `client`, `federation`, `metrics`, `admin`",
                );
            }
            check_tls(listener, &key, problems);
        }
    }

    fn check_registration(&self, problems: &mut Problems) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
        for (index, token) in self.registration.tokens.iter().enumerate() {
            if token.is_empty() || token.len() > 64 || !token.chars().all(allowed) {
                problems.add(
                    &format!("registration.tokens[{index}]"),
                    "not a token; expected 1 to 64 of the characters A-Z a-z 0-9 . _ ~ -",
                );
            }
        }
    }

    fn check_federation(&self, problems: &mut Problems) {
        let federation = &self.federation;
        for (index, path) in federation.extra_root_certificates.iter().enumerate() {
            if !path.is_file() {
                problems.add(
                    &format!("federation.extra_root_certificates[{index}]"),
                    format!("`{}` is no file; expected a PEM file", path.display()),
                );
            }
        }
        let lists = [("allow", &federation.allow), ("deny", &federation.deny)];
        for (name, patterns) in lists {
            for (index, pattern) in patterns.iter().enumerate() {
                if pattern.is_empty() || pattern.contains(char::is_whitespace) {
                    problems.add(
                        &format!("federation.{name}[{index}]"),
                        format!(
                            "`{pattern}` is no pattern; expected a server name, perhaps with * and ?, like \
                             `*.example.org`"
                        ),
                    );
                }
            }
        }
        let times = [
            ("connect_timeout_ms", federation.connect_timeout_ms),
            ("request_timeout_ms", federation.request_timeout_ms),
        ];
        for (name, value) in times {
            problems.check_range(&format!("federation.{name}"), value, 10..=3_600_000);
        }
        problems.check_range(
            "federation.answer_bytes_max",
            federation.answer_bytes_max as u64,
            ANSWER_BYTES_MIN as u64..=BODY_BYTES_MAX as u64,
        );
    }

    fn check_sizes(&self, problems: &mut Problems) {
        let passwords = &self.passwords;
        let memory_kib = u64::from(passwords.memory_kib);
        problems.check_range(
            "passwords.memory_kib",
            memory_kib,
            u64::from(ARGON2_MEMORY_KIB_MIN)..=4 * 1024 * 1024,
        );
        problems.check_range("passwords.iterations", u64::from(passwords.iterations), 1..=1_000);
        problems.check_range("storage.cache_mib", self.storage.cache_mib, 1..=1024 * 1024);
        problems.check_range("rooms.cache_mib", self.rooms.cache_mib, 1..=1024 * 1024);
        self.check_default_version(problems);
        let limits = &self.limits;
        let sizes = [
            ("connections_max", limits.connections_max, CONNECTIONS_MIN, 1_000_000),
            ("header_bytes_max", limits.header_bytes_max, HEADER_BYTES_MIN, HEADER_BYTES_MAX),
            ("body_bytes_max", limits.body_bytes_max, BODY_BYTES_MIN, BODY_BYTES_MAX),
        ];
        for (name, value, min, max) in sizes {
            problems.check_range(&format!("limits.{name}"), value as u64, min as u64..=max as u64);
        }
        let times = [
            ("header_timeout_ms", limits.header_timeout_ms, TIMEOUT_MS_MIN),
            ("idle_timeout_ms", limits.idle_timeout_ms, TIMEOUT_MS_MIN),
            ("body_timeout_ms", limits.body_timeout_ms, TIMEOUT_MS_MIN),
            ("request_timeout_ms", limits.request_timeout_ms, REQUEST_TIMEOUT_MS_MIN),
        ];
        for (name, value, min) in times {
            problems.check_range(&format!("limits.{name}"), value, min..=86_400_000);
        }
    }

    /// Rooms of old versions are only made when somebody names the version.
    fn check_default_version(&self, problems: &mut Problems) {
        let version = &self.rooms.default_version;
        let modern = || event::SUPPORTED.iter().filter(|version| !OLD_VERSIONS.contains(version));
        if !modern().any(|known| known == version) {
            let known: Vec<&str> = modern().map(|version| version.as_str()).collect();
            problems.add(
                "rooms.default_version",
                format!("`{version}` is not for new rooms; expected one of {}", known.join(", ")),
            );
        }
    }

    fn check_support(&self, problems: &mut Problems) {
        let email = &self.support.admin_email;
        if !email.is_empty() && !email.contains('@') {
            problems.add(
                "support.admin_email",
                format!("`{email}` is no e-mail address; expected one like `admin@example.org`"),
            );
        }
        problems.check_url("support.support_page", &self.support.support_page);
    }
}

/// Both files or none, and both there.
fn check_tls(listener: &ListenerConfig, key: &dyn Fn(&str) -> String, problems: &mut Problems) {
    let files = [
        ("tls_certificate", &listener.tls_certificate, "tls_private_key"),
        ("tls_private_key", &listener.tls_private_key, "tls_certificate"),
    ];
    let is_set = |path: &Path| !path.as_os_str().is_empty();
    let count = files.iter().filter(|(_, path, _)| is_set(path)).count();
    for (name, path, other) in files {
        if count == 1 && is_set(path) {
            problems.add(&key(name), format!("set without `{other}`; expected both or none"));
        } else if is_set(path) && !path.is_file() {
            problems
                .add(&key(name), format!("`{}` is no file; expected a PEM file", path.display()));
        }
    }
}

/// What was found wrong so far.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, key: &str, what: impl Into<String>) {
        self.0.push(Problem { key: key.to_owned(), what: what.into() });
    }

    fn check_range(&mut self, key: &str, value: u64, range: std::ops::RangeInclusive<u64>) {
        if !range.contains(&value) {
            let (min, max) = (range.start(), range.end());
            self.add(key, format!("{value} is out of range; expected {min} to {max}"));
        }
    }

    fn check_url(&mut self, key: &str, url: &str) {
        let is_right = (url.starts_with("https://") || url.starts_with("http://"))
            && url.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some());
        if !url.is_empty() && !is_right {
            self.add(
                key,
                format!(
                    "`{url}` is no web address; expected one like `https://matrix.example.org`"
                ),
            );
        }
    }
}
