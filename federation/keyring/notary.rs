//! Asking notaries for the keys of servers that don't answer themselves.

use std::{collections::HashMap, time::Duration};

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, UInt,
    api::federation::discovery::get_remote_server_keys_batch::v2::{QueryCriteria, Request},
    signatures::PublicKeyMap,
};
use serde::Deserialize;

use crate::{
    Limits, Patience,
    keyring::{
        Gathered, Keyring,
        document::{DOCUMENT_BYTES_MAX, Document, KeyUse},
        fetch::{store_failure, words},
        needs::ServerNeeds,
    },
};

/// How many servers' keys are asked for in one request.
const SERVERS_MAX: usize = 50;

/// Longest that a notary may take, who may have to ask the servers itself.
const NOTARY_TIMEOUT: Duration = Duration::from_secs(20);

impl Keyring {
    /// Asks one notary after the other for what is still missing.
    pub(crate) async fn ask_notaries(
        &self,
        missing: &mut HashMap<OwnedServerName, ServerNeeds>,
        gathered: &mut Gathered,
    ) {
        for notary in self.client.notaries() {
            if missing.is_empty() {
                return;
            }
            if notary == self.client.server_name() {
                continue;
            }
            let all = self.ask_notary(notary, missing, gathered);
            match tokio::time::timeout(NOTARY_TIMEOUT, all).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => tracing::warn!(%notary, why, "a notary is of no use"),
                Err(_) => tracing::warn!(%notary, "a notary took too long"),
            }
        }
    }

    async fn ask_notary(
        &self,
        notary: &OwnedServerName,
        missing: &mut HashMap<OwnedServerName, ServerNeeds>,
        gathered: &mut Gathered,
    ) -> Result<(), String> {
        let now_ms = self.client.now_ms();
        let is_current = |known: &super::ServerKeys| {
            known.keys.values().any(|key| key.is_good_for(KeyUse::Request(now_ms)))
        };
        let its_own = self.fetch(notary, is_current).await?;
        let usable = its_own.usable(its_own.keys.keys(), KeyUse::Request(now_ms));
        let notary_keys: PublicKeyMap = [(notary.to_string(), usable)].into();
        let servers: Vec<OwnedServerName> = missing.keys().cloned().collect();
        for some in servers.chunks(SERVERS_MAX) {
            let mut wanted = std::collections::BTreeMap::new();
            for server in some {
                let Some(needs) = missing.get(server) else { continue };
                let criteria = needs.valid_until_ms().into_iter().map(|(key_id, until_ms)| {
                    let mut criteria = QueryCriteria::new();
                    let until = UInt::new_saturating(until_ms);
                    criteria.minimum_valid_until_ts = Some(MilliSecondsSinceUnixEpoch(until));
                    (key_id, criteria)
                });
                wanted.insert(server.clone(), criteria.collect());
            }
            let limits = Limits {
                timeout: NOTARY_TIMEOUT,
                answer_bytes_max: DOCUMENT_BYTES_MAX * SERVERS_MAX,
                patience: Patience::Insist,
            };
            let answer = self.client.send(notary, Request::new(wanted), limits).await;
            let answer = answer.map_err(|error| words(&error))?;
            for document in answer.server_keys.iter().take(4 * SERVERS_MAX) {
                let json = document.json().get();
                match self.read_vouched(json, notary, &notary_keys, missing) {
                    Ok((server, document)) => self.keep(server, document, missing, gathered).await,
                    Err(why) => tracing::debug!(%notary, why, "a notary's document is of no use"),
                }
            }
        }
        Ok(())
    }

    /// Reads a document that both the notary and the server have signed.
    fn read_vouched(
        &self,
        json: &str,
        notary: &OwnedServerName,
        notary_keys: &PublicKeyMap,
        missing: &HashMap<OwnedServerName, ServerNeeds>,
    ) -> Result<(OwnedServerName, Document), String> {
        #[derive(Deserialize)]
        struct Named {
            server_name: OwnedServerName,
        }
        let named: Named = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let server = named.server_name;
        if !missing.contains_key(&server) {
            return Err(format!("nobody asked for {server}"));
        }
        let document = Document::read(json, &server, self.client.now_ms())?;
        document.check_signature(notary, notary_keys)?;
        Ok((server, document))
    }

    async fn keep(
        &self,
        server: OwnedServerName,
        document: Document,
        missing: &mut HashMap<OwnedServerName, ServerNeeds>,
        gathered: &mut Gathered,
    ) {
        let shelf = self.client.shelf();
        let asked = shelf.asked(&server);
        // Only so that nobody else writes the row meanwhile.
        let _right_to_write = asked.lock().await;
        match shelf.learn(&server, document).await {
            Ok(keys) => {
                if missing.get(&server).is_some_and(|wanted| wanted.are_met_by(&keys)) {
                    missing.remove(&server);
                }
                gathered.keys.insert(server, keys);
            }
            Err(error) => {
                gathered.failures.insert(server, store_failure(&error));
            }
        }
    }
}
