//! What a check found.

use std::fmt;

/// Most disagreements that are kept as sentences; the others are counted.
const SENTENCES_MAX: usize = 1_000;

/// What [`crate::check()`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Rooms that were checked.
    pub rooms: u64,
    /// Events that were checked.
    pub events: u64,
    /// Nodes of state trees that were checked.
    pub state_nodes: u64,
    /// Log rows that were checked.
    pub log_rows: u64,
    /// What does not agree, each as a sentence: at most the first 1,000.
    pub disagreements: Vec<String>,
    /// Disagreements found beyond those.
    pub more: u64,
}

impl CheckReport {
    /// Whether everything agrees.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.disagreements.is_empty()
    }

    /// Notes a disagreement.
    pub(super) fn say(&mut self, sentence: String) {
        if self.disagreements.len() < SENTENCES_MAX {
            self.disagreements.push(sentence);
        } else {
            self.more += 1;
        }
    }

    /// Notes a disagreement where two counts differ.
    pub(super) fn same(&mut self, what: impl fmt::Display, found: u64, expected: u64) {
        if found != expected {
            self.say(format!("{what}: {found} instead of {expected}"));
        }
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rooms, events, state_nodes, log_rows, .. } = self;
        for sentence in &self.disagreements {
            writeln!(formatter, "{sentence}")?;
        }
        if self.more > 0 {
            writeln!(formatter, "and {} more", self.more)?;
        }
        write!(
            formatter,
            "checked {rooms} rooms, {events} events, {state_nodes} state nodes, {log_rows} log \
             rows: "
        )?;
        match self.disagreements.len() as u64 + self.more {
            0 => write!(formatter, "all agree"),
            1 => write!(formatter, "1 disagreement"),
            count => write!(formatter, "{count} disagreements"),
        }
    }
}
