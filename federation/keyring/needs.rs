//! Which keys are needed, and which were found.

use std::collections::{BTreeMap, HashMap};

use std::sync::Arc;

use ruma::{OwnedServerName, OwnedServerSigningKeyId, serde::Base64};

use crate::keyring::document::{KeyUse, ServerKeys};

/// The keys that something was signed with: one of each list is enough.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs(pub(crate) HashMap<OwnedServerName, ServerNeeds>);

/// The keys that are needed of one server: lists of which one key is enough, each with the most
/// that it is needed for.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerNeeds(BTreeMap<Vec<OwnedServerSigningKeyId>, KeyUse>);

/// The keys that were found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) keys: HashMap<OwnedServerName, Arc<ServerKeys>>,
    /// Why some were not, as sentences for people.
    pub(crate) failures: HashMap<OwnedServerName, String>,
}

impl Needs {
    pub(crate) fn add(
        &mut self,
        server: &OwnedServerName,
        key_ids: &[OwnedServerSigningKeyId],
        key_use: KeyUse,
    ) {
        let needs = match self.0.get_mut(server) {
            Some(needs) => needs,
            None => self.0.entry(server.clone()).or_default(),
        };
        match needs.0.get_mut(key_ids) {
            Some(most) => *most = key_use.max(*most),
            None => {
                needs.0.insert(key_ids.to_vec(), key_use);
            }
        }
    }
}

impl ServerNeeds {
    /// Whether the known keys are enough.
    pub(crate) fn are_met_by(&self, known: &ServerKeys) -> bool {
        self.0.iter().all(|(key_ids, key_use)| {
            key_ids
                .iter()
                .filter_map(|key_id| known.keys.get(key_id))
                .any(|key| key.is_good_for(*key_use))
        })
    }

    /// The IDs of the keys, each with until when it should be valid, in milliseconds.
    pub(crate) fn valid_until_ms(&self) -> BTreeMap<OwnedServerSigningKeyId, u64> {
        let mut wanted = BTreeMap::new();
        for (key_ids, key_use) in &self.0 {
            let until_ms = match key_use {
                KeyUse::AnyTime => 0,
                KeyUse::At(ms) | KeyUse::Request(ms) => *ms,
            };
            for key_id in key_ids {
                let most: &mut u64 = wanted.entry(key_id.clone()).or_default();
                *most = until_ms.max(*most);
            }
        }
        wanted
    }
}

impl Gathered {
    /// The keys of a server among those named that may be used.
    pub(crate) fn usable(
        &self,
        server: &OwnedServerName,
        key_ids: &[OwnedServerSigningKeyId],
        key_use: KeyUse,
    ) -> BTreeMap<String, Base64> {
        self.keys.get(server).map(|keys| keys.usable(key_ids, key_use)).unwrap_or_default()
    }

    /// Why a server's key was not found, as a sentence for people.
    pub(crate) fn why_not(&self, server: &OwnedServerName) -> String {
        match self.failures.get(server) {
            Some(why) => why.clone(),
            None => "it publishes no such key that is valid".to_owned(),
        }
    }
}
