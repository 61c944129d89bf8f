//! The configuration: the example is true, mistakes are told with key, place and remedy, the
//! environment comes first.

use std::path::Path;

use natterjack::{Bind, Config, ConfigError, Place, Resource, Sources};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");

fn example() -> String {
    std::fs::read_to_string(EXAMPLE).unwrap()
}

fn sources(text: &str, environment: &[(&str, &str)]) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("natterjack.toml");
    std::fs::write(&file, text).unwrap();
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    (dir, Sources { file: Some(file), environment, is_name_stored: false })
}

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let (_dir, sources) = sources(text, environment);
    Config::load(&sources, |_| ())
}

/// Key, place ("line N" or the variable) and problem of a mistake.
fn mistake(text: &str, environment: &[(&str, &str)]) -> (String, String, String) {
    match load(text, environment) {
        Err(ConfigError::Wrong { place, key, problem }) => {
            let place = match place {
                Place::File { line, .. } => format!("line {line}"),
                Place::Variable { name } => name,
                Place::Nowhere => "nowhere".to_owned(),
            };
            (key, place, problem)
        }
        other => panic!("a mistake is not found: {other:?}"),
    }
}

const NAME: &str = "[server]\nname = \"example.org\"\n";

#[test]
fn the_example_holds_every_key_with_its_default() {
    let example: toml::Value = toml::from_str(&example()).unwrap();
    let defaults = Config::for_server("example.org".try_into().unwrap());
    assert_eq!(example, toml::Value::try_from(&defaults).unwrap());
    let (_dir, sources) = sources(&self::example(), &[]);
    assert_eq!(Config::load(&sources, |_| ()).unwrap(), defaults);
}

#[test]
fn every_key_of_the_example_is_explained() {
    let mut above = "";
    for line in example().lines() {
        let is_key = line.starts_with(|first: char| first.is_ascii_lowercase());
        assert!(!is_key || above.starts_with("# "), "no comment above: {line}");
        above = if line.starts_with('#') { "# " } else { "" };
        assert!(line.chars().count() <= 130, "too long: {line}");
    }
}

#[test]
fn the_keys_of_the_first_issue_are_understood() {
    let text = r#"
        [server]
        name = "example.org"
        data_dir = "/var/lib/natterjack"
        public_base_url = "https://matrix.example.org"
        trusted_key_servers = []
        [[listeners]]
        bind = "127.0.0.1:8008"
        serve = ["client", "federation", "metrics", "admin"]
        [[listeners]]
        bind = "unix:/run/natterjack.sock"
        serve = ["client"]
        [registration]
        enabled = false
        tokens = []
        guests = false
        shared_secret = ""
        [federation]
        enabled = true
        verify_certificates = true
        extra_root_certificates = []
        allow_private_addresses = false
        [rooms]
        default_version = "12"
        [passwords]
        memory_kib = 19456
        iterations = 2
        [rate_limits]
        enabled = true
        [application_services]
        registrations = []
        [storage]
        sync_writes = true
        cache_mib = 256
    "#;
    let config = load(text, &[]).unwrap();
    assert_eq!(config.server.data_dir, Path::new("/var/lib/natterjack"));
    assert_eq!(config.listeners[1].bind, Bind::Unix("/run/natterjack.sock".into()));
    assert_eq!(config.listeners[1].serve, [Resource::Client]);
}

#[test]
fn an_unknown_key_is_told_with_those_that_are_known() {
    let (key, place, problem) = mistake("[server]\nname = \"a.example\"\ndata = \"x\"\n", &[]);
    assert_eq!((key.as_str(), place.as_str()), ("server.data", "line 3"));
    assert!(problem.contains("`data_dir`"), "{problem}");
    let (key, place, _) = mistake(&format!("{NAME}[sotrage]\ncache_mib = 1\n"), &[]);
    assert_eq!((key.as_str(), place.as_str()), ("sotrage", "line 3"));
}

#[test]
fn a_wrong_type_is_told() {
    let text = format!("{NAME}[storage]\n\ncache_mib = \"much\"\n");
    let (key, place, problem) = mistake(&text, &[]);
    assert_eq!((key.as_str(), place.as_str()), ("storage.cache_mib", "line 5"));
    assert!(problem.contains("u64"), "{problem}");
    let text = format!("{NAME}[[listeners]]\n[[listeners]]\nbind = \"localhost:8008\"\n");
    let (key, place, problem) = mistake(&text, &[]);
    assert_eq!((key.as_str(), place.as_str()), ("listeners[1].bind", "line 5"));
    assert!(problem.contains("127.0.0.1:8008"), "{problem}");
    let (key, place, _) = mistake("[server]\nname = \"not a name\"\n", &[]);
    assert_eq!((key.as_str(), place.as_str()), ("server.name", "line 2"));
    let (_, place, _) = mistake("[server]\nname = \n", &[]);
    assert_eq!(place, "line 2");
}

#[test]
fn an_impossible_value_is_told_with_its_line() {
    for (lines, key, line) in [
        ("[passwords]\nmemory_kib = 7", "passwords.memory_kib", 4),
        ("[passwords]\niterations = 0", "passwords.iterations", 4),
        ("[rooms]\n\ndefault_version = \"5\"", "rooms.default_version", 5),
        ("[storage]\ncache_mib = 0", "storage.cache_mib", 4),
        ("[limits]\nbody_bytes_max = 1000", "limits.body_bytes_max", 4),
        ("[limits]\nidle_timeout_ms = 1", "limits.idle_timeout_ms", 4),
        ("[log]\nfilter = \"rooms=loud\"", "log.filter", 4),
        ("[registration]\ntokens = [\"a b\"]", "registration.tokens[0]", 4),
        ("[support]\nadmin_email = \"nobody\"", "support.admin_email", 4),
        ("[[listeners]]\ntls_private_key = \"x\"", "listeners[0].tls_private_key", 4),
        ("[[listeners]]\nserve = []", "listeners[0].serve", 4),
        ("[federation]\ndeny = [\"\"]", "federation.deny[0]", 4),
        ("[federation]\nanswer_bytes_max = 1", "federation.answer_bytes_max", 4),
        (
            "[federation]\nextra_root_certificates = [\"x\"]",
            "federation.extra_root_certificates[0]",
            4,
        ),
        ("[[listeners]]\n[[listeners]]", "listeners[1].bind", 4),
    ] {
        let (found, place, problem) = mistake(&format!("{NAME}{lines}\n"), &[]);
        assert_eq!((found.as_str(), place), (key, format!("line {line}")), "{lines}");
        let has_remedy = problem.contains("expected") || problem.contains("already");
        assert!(has_remedy, "{problem}");
    }
}

#[test]
fn a_missing_name_is_told_unless_the_store_knows_it() {
    let (key, place, _) = mistake("", &[]);
    assert_eq!((key.as_str(), place.as_str()), ("server.name", "nowhere"));
    let stored = Sources { is_name_stored: true, ..Sources::default() };
    assert_eq!(Config::load(&stored, |_| ()).unwrap(), Config::default());
}

#[test]
fn the_environment_comes_before_the_file() {
    let environment = [
        ("NATTERJACK__SERVER__NAME", "[::1]:8448"),
        ("NATTERJACK__REGISTRATION__TOKENS", r#"["one", "two"]"#),
        ("NATTERJACK__REGISTRATION__ENABLED", "true"),
        ("NATTERJACK__REGISTRATION__SHARED_SECRET", "12345"),
        ("NATTERJACK__ROOMS__DEFAULT_VERSION", "11"),
        ("NATTERJACK__STORAGE__CACHE_MIB", "64"),
        ("NATTERJACK__LISTENERS", r#"[{bind = "127.0.0.1:1", serve = ["client"]}]"#),
        ("PATH", "/bin"),
    ];
    let config = load(&format!("{NAME}[storage]\ncache_mib = 1\n"), &environment).unwrap();
    assert_eq!(config.server.name.unwrap(), "[::1]:8448");
    assert_eq!(config.registration.tokens, ["one", "two"]);
    assert!(config.registration.enabled);
    assert_eq!(config.registration.shared_secret, "12345");
    assert_eq!(config.rooms.default_version.as_str(), "11");
    assert_eq!(config.storage.cache_mib, 64);
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].bind, "127.0.0.1:1".parse().unwrap());
}

#[test]
fn addresses_of_other_servers_are_given_in_the_file_or_in_the_environment() {
    let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let text = format!("{NAME}[federation.overrides]\n\"one.test\" = \"127.0.0.1:1\"\n");
    let overrides = load(&text, &[]).unwrap().federation.overrides;
    assert_eq!(overrides.into_iter().collect::<Vec<_>>(), [(server("one.test"), address(1))]);
    let variable = "NATTERJACK__FEDERATION__OVERRIDES";
    let environment = [(variable, r#"{"two.test:8448" = "127.0.0.1:2"}"#)];
    let overrides = load(NAME, &environment).unwrap().federation.overrides;
    assert_eq!(overrides.into_iter().collect::<Vec<_>>(), [(server("two.test:8448"), address(2))]);
    let (key, place, _) = mistake(&text.replace("127.0.0.1:1", "here"), &[]);
    assert_eq!((key.as_str(), place.as_str()), ("federation.overrides.one.test", "line 4"));
}

fn server(name: &str) -> ruma::OwnedServerName {
    name.try_into().unwrap()
}

#[test]
fn a_mistake_in_the_environment_names_its_variable() {
    for (name, value, key) in [
        ("NATTERJACK__STORAGE__CACHE_MIB", "much", "storage.cache_mib"),
        ("NATTERJACK__STORAGE__CACHE_MIB", "0", "storage.cache_mib"),
        ("NATTERJACK__STORAGE__CASH", "1", "storage.cash"),
        ("NATTERJACK__LISTENERS", "[]", "listeners"),
    ] {
        let (found, place, _) = mistake(NAME, &[(name, value)]);
        assert_eq!((found.as_str(), place.as_str()), (key, name), "{value}");
    }
}
