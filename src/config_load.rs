//! Reads the configuration: a TOML file first, then the environment.
//!
//! What is wrong is told with its key, the line or variable where it stands, and what would be
//! right.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use figment::{Figment, providers::Serialized};
use serde::Deserialize as _;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::config::Config;

/// How the variables that override the file begin: `NATTERJACK__SERVER__NAME` is `server.name`.
pub const ENVIRONMENT_PREFIX: &str = "NATTERJACK__";

/// The key of the server's name.
pub(crate) const SERVER_NAME_KEY: &str = "server.name";

/// Why there is no configuration to start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("the configuration file {} can't be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A key or value is wrong.
    #[error("{place}: {key}: {problem}")]
    Wrong {
        /// The file and line, or the variable.
        place: Place,
        /// The key, with dots.
        key: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

/// Where a setting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// In the environment.
    Variable {
        /// Name of the variable.
        name: String,
    },
    /// Nowhere: it is the default, or missing.
    Nowhere,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Variable { name } => write!(f, "environment variable {name}"),
            Self::Nowhere => f.write_str("configuration"),
        }
    }
}

/// A setting with which the server can't work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The key, with dots.
    pub(crate) key: String,
    /// What is wrong, and what would be right.
    pub(crate) what: String,
}

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// Variables of the environment, name and value; those with another prefix are passed over.
    pub environment: Vec<(String, String)>,
    /// Whether the store knows the server's name, so that `server.name` may be missing.
    pub is_name_stored: bool,
}

impl Sources {
    /// A file, perhaps, and the environment of this process.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`] where a variable of ours is not in UTF-8.
    pub fn of_process(file: Option<PathBuf>) -> Result<Self, ConfigError> {
        let environment = our_variables(std::env::vars_os())?;
        Ok(Self { file, environment, is_name_stored: false })
    }
}

/// Those variables that are settings.
fn our_variables(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let is_ours = |name: &OsString| name.to_string_lossy().starts_with(ENVIRONMENT_PREFIX);
    all.filter(|(name, _)| is_ours(name))
        .map(|(name, value)| match (name.to_str(), value.to_str()) {
            (Some(name), Some(value)) => Ok((name.to_owned(), value.to_owned())),
            _ => {
                let name = name.to_string_lossy().into_owned();
                let key = key_of_variable(&name).unwrap_or_default();
                let problem = "not UTF-8; expected text in UTF-8".to_owned();
                Err(ConfigError::Wrong { place: Place::Variable { name }, key, problem })
            }
        })
        .collect()
}

impl Config {
    /// Reads, merges and checks the settings; `adjust` changes them before the check, as the
    /// command line does.
    ///
    /// # Errors
    /// [`ConfigError`] with the first thing that is wrong.
    pub fn load(sources: &Sources, adjust: impl FnOnce(&mut Self)) -> Result<Self, ConfigError> {
        let file = sources.file.as_deref().map(File::read).transpose()?;
        let from_file = match &file {
            Some(file) => file.parse()?,
            None => Self::default(),
        };
        let mut config = override_by(&from_file, &sources.environment)?;
        adjust(&mut config);
        let may_lack = |problem: &Problem| sources.is_name_stored && problem.key == SERVER_NAME_KEY;
        match config.problems().into_iter().find(|problem| !may_lack(problem)) {
            None => Ok(config),
            Some(Problem { key, what: problem }) => {
                let place = place_of(&key, file.as_ref(), &sources.environment);
                Err(ConfigError::Wrong { place, key, problem })
            }
        }
    }
}

/// A TOML file and its text.
struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self { path: path.to_owned(), text }),
            Err(error) => Err(ConfigError::Unreadable { path: path.to_owned(), error }),
        }
    }

    fn parse(&self) -> Result<Config, ConfigError> {
        toml::from_str(&self.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let key = DeTable::parse(&self.text)
                .ok()
                .and_then(|table| key_at(table.get_ref(), offset))
                .unwrap_or_else(|| "syntax".to_owned());
            let place = Place::File { path: self.path.clone(), line: self.line(offset) };
            ConfigError::Wrong { place, key, problem: error.message().replace('\n', ", ") }
        })
    }

    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    /// The line on which a key stands, or the nearest part above it that stands in the file.
    fn line_of(&self, key: &str) -> Option<usize> {
        let table = DeTable::parse(&self.text).ok()?;
        find(table.get_ref(), key).map(|offset| self.line(offset))
    }
}

/// A key with the parts of `path` and `name` behind them.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The key of the innermost setting that covers an offset of the text.
fn key_at(table: &DeTable<'_>, offset: usize) -> Option<String> {
    let (name, value) = table
        .iter()
        .find(|(name, value)| name.span().contains(&offset) || covers(value, offset))?;
    let name = name.get_ref();
    Some(below(value, offset).map_or_else(
        || name.to_string(),
        |rest| match rest.strip_prefix('[') {
            Some(_) => format!("{name}{rest}"),
            None => join(name, &rest),
        },
    ))
}

/// Whether a value, or something in it, covers an offset. The span of a table is only that of its
/// heading.
fn covers(value: &Spanned<DeValue<'_>>, offset: usize) -> bool {
    value.span().contains(&offset) || below(value, offset).is_some()
}

/// The rest of the key below a value.
fn below(value: &Spanned<DeValue<'_>>, offset: usize) -> Option<String> {
    match value.get_ref() {
        DeValue::Table(table) => key_at(table, offset),
        DeValue::Array(array) => {
            let (index, item) = array.iter().enumerate().find(|(_, item)| covers(item, offset))?;
            Some(match below(item, offset) {
                Some(rest) => format!("[{index}].{rest}"),
                None => format!("[{index}]"),
            })
        }
        _ => None,
    }
}

/// Where in the text a key stands, or the nearest part above it.
fn find(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    let (name, index) = match first.split_once('[') {
        Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
        None => (first, None),
    };
    let (found, value) = table.iter().find(|(found, _)| found.get_ref() == name)?;
    let mut value = value;
    if let (Some(index), DeValue::Array(array)) = (index, value.get_ref()) {
        value = array.get(index)?;
    }
    let here = if index.is_some() { value.span().start } else { found.span().start };
    match value.get_ref() {
        DeValue::Table(table) if !rest.is_empty() => find(table, rest).or(Some(here)),
        _ => Some(here),
    }
}

/// The variable's key: `NATTERJACK__SERVER__NAME` is `server.name`.
fn key_of_variable(name: &str) -> Option<String> {
    let key = name.strip_prefix(ENVIRONMENT_PREFIX)?;
    Some(key.split("__").map(str::to_ascii_lowercase).collect::<Vec<_>>().join("."))
}

/// Puts the environment's settings above those of the file.
fn override_by(
    from_file: &Config,
    environment: &[(String, String)],
) -> Result<Config, ConfigError> {
    let mut figment = Figment::from(Serialized::defaults(from_file));
    for (name, value) in environment {
        let Some(key) = key_of_variable(name) else { continue };
        figment = if is_text(&key) {
            figment.merge((key.as_str(), value))
        } else {
            // Never fails: what is neither a number, a list nor a table is a text.
            let Ok(parsed) = value.parse::<figment::value::Value>();
            figment.merge((key.as_str(), parsed))
        };
        // One at a time, so that a mistake is blamed on its variable.
        figment.extract::<Config>().map_err(|error| ConfigError::Wrong {
            place: Place::Variable { name: name.clone() },
            key,
            problem: error.kind.to_string(),
        })?;
    }
    figment.extract().map_err(|error| ConfigError::Wrong {
        place: Place::Nowhere,
        key: error.path.join("."),
        problem: error.kind.to_string(),
    })
}

/// Whether a key holds a text, so that `12` and `[::1]` in a variable are not taken for a number
/// and a list.
fn is_text(key: &str) -> bool {
    let Ok(name) = ruma::OwnedServerName::deserialize(serde::de::value::StrDeserializer::<
        serde::de::value::Error,
    >::new("localhost")) else {
        return false;
    };
    let Ok(mut value) = toml::Value::try_from(Config::for_server(name)) else { return false };
    for part in key.split('.') {
        match value.get_mut(part) {
            Some(inner) => value = inner.clone(),
            None => return false,
        }
    }
    value.is_str()
}

/// Where a key got its value.
fn place_of(key: &str, file: Option<&File>, environment: &[(String, String)]) -> Place {
    let variable = environment.iter().find(|(name, _)| {
        key_of_variable(name).is_some_and(|set| {
            key.strip_prefix(set.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    });
    if let Some((name, _)) = variable {
        return Place::Variable { name: name.clone() };
    }
    match file.and_then(|file| Some((file, file.line_of(key)?))) {
        Some((file, line)) => Place::File { path: file.path.clone(), line },
        None => Place::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn a_variable_of_ours_that_is_not_utf_8_is_refused_by_name() {
        let raw = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let foreign = (raw(b"PATH\xff"), raw(b"\xff"));
        let right = (raw(b"NATTERJACK__LOG__FORMAT"), raw(b"json"));
        let found = our_variables([foreign, right].into_iter()).unwrap();
        assert_eq!(found, [("NATTERJACK__LOG__FORMAT".to_owned(), "json".to_owned())]);
        let wrong = (raw(b"NATTERJACK__SUPPORT__ADMIN_EMAIL"), raw(b"a\xff@b"));
        let error = our_variables([wrong].into_iter()).unwrap_err().to_string();
        assert!(error.contains("NATTERJACK__SUPPORT__ADMIN_EMAIL: support.admin_email"), "{error}");
    }
}
