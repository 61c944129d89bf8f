//! Fetching keys: from their server, then from notaries, each server once at a time and not too
//! often.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use rooms::RemoteError;
use ruma::{OwnedServerName, api::federation::discovery::get_server_keys};
use store::StoreError;

use crate::{
    Limits, Patience,
    keyring::{
        Gathered, Keyring, Needs, ServerKeys,
        document::{DOCUMENT_BYTES_MAX, Document},
        needs::ServerNeeds,
        shelf::Asked,
    },
};

/// How many servers are asked at a time.
const SERVERS_ASKED_MAX: usize = 64;

/// Longest that one server may take.
const SERVER_TIMEOUT: Duration = Duration::from_secs(12);

/// Longest that all servers may take together; those that did not answer are left to the notaries.
const ALL_TIMEOUT: Duration = Duration::from_secs(20);

/// How long an answer is final, in milliseconds: a key that is not in it is not asked for again.
const ANSWER_HOLDS_MS: u64 = 5_000;

/// How long a server is left alone after its first failure, in milliseconds.
const REST_MS_MIN: u64 = 2_000;

/// Longest that a server is left alone after failures, in milliseconds.
const REST_MS_MAX: u64 = 600_000;

impl Keyring {
    /// Finds keys, as far as that goes within bounded time.
    pub(crate) async fn gather(&self, needs: &Needs) -> Gathered {
        let mut gathered = Gathered::default();
        let mut missing = HashMap::new();
        for (server, wanted) in &needs.0 {
            match self.known(server).await {
                Ok(known) => {
                    let is_ours = server == self.client.server_name();
                    if !is_ours && !wanted.are_met_by(&known) {
                        missing.insert(server.clone(), wanted.clone());
                    }
                    gathered.keys.insert(server.clone(), known);
                }
                Err(error) => gathered.note_store_failure(server, &error),
            }
        }
        self.ask_servers(&mut missing, &mut gathered).await;
        if !missing.is_empty() {
            self.ask_notaries(&mut missing, &mut gathered).await;
        }
        gathered
    }

    /// Asks each server for its own keys. Those whose keys were found are taken out of `missing`.
    async fn ask_servers(
        &self,
        missing: &mut HashMap<OwnedServerName, ServerNeeds>,
        gathered: &mut Gathered,
    ) {
        if missing.is_empty() {
            return;
        }
        let asked = missing.clone();
        let answers = stream::iter(asked)
            .map(|(server, wanted)| async move {
                let outcome = self.fetch(&server, |known| wanted.are_met_by(known)).await;
                (server, outcome)
            })
            .buffer_unordered(SERVERS_ASKED_MAX);
        let mut answers = std::pin::pin!(answers);
        let all = async {
            while let Some((server, outcome)) = answers.next().await {
                match outcome {
                    Ok(keys) => {
                        if missing.get(&server).is_some_and(|wanted| wanted.are_met_by(&keys)) {
                            missing.remove(&server);
                        }
                        gathered.keys.insert(server, keys);
                    }
                    Err(why) => {
                        gathered.failures.insert(server, why);
                    }
                }
            }
        };
        if tokio::time::timeout(ALL_TIMEOUT, all).await.is_err() {
            tracing::debug!("some servers took too long to tell their keys");
        }
    }

    /// Asks a server for its keys, unless those that are known are enough by now, or it was asked
    /// just before.
    pub(crate) async fn fetch(
        &self,
        server: &OwnedServerName,
        is_enough: impl Fn(&ServerKeys) -> bool,
    ) -> Result<Arc<ServerKeys>, String> {
        let shelf = self.client.shelf();
        let asked = shelf.asked(server);
        let mut asked = asked.lock().await;
        let known = shelf.get(server).await.map_err(|error| store_failure(&error))?;
        let now_ms = self.client.now_ms();
        if is_enough(&known) || asked.is_answer_fresh(now_ms) {
            return Ok(known);
        }
        if asked.rests(now_ms) {
            return Err("its keys could not be had a moment ago".to_owned());
        }
        let outcome = match self.ask(server).await {
            Ok(document) => {
                shelf.learn(server, document).await.map_err(|error| store_failure(&error))
            }
            Err(why) => Err(why),
        };
        let now_ms = self.client.now_ms();
        match &outcome {
            Ok(_) => *asked = Asked { answered_ms: Some(now_ms), ..Asked::default() },
            Err(why) => {
                tracing::debug!(%server, why, "the keys of a server could not be fetched");
                asked.failures = asked.failures.saturating_add(1);
                asked.failed_ms = now_ms;
            }
        }
        outcome
    }

    async fn ask(&self, server: &OwnedServerName) -> Result<Document, String> {
        let limits = Limits {
            timeout: SERVER_TIMEOUT,
            answer_bytes_max: DOCUMENT_BYTES_MAX,
            patience: Patience::Insist,
        };
        let request = get_server_keys::v2::Request::new();
        let answer = self.client.send(server, request, limits).await.map_err(|e| words(&e))?;
        Document::read(answer.server_key.json().get(), server, self.client.now_ms())
    }

    /// Documents that are valid until the given times, or else the best that there are, within
    /// bounded time. Strangers ask for them, and share the right to have unknown servers asked.
    pub(crate) async fn fetch_documents(
        &self,
        wanted: &BTreeMap<OwnedServerName, u64>,
    ) -> BTreeMap<OwnedServerName, Arc<ServerKeys>> {
        let mut found = BTreeMap::new();
        for server in wanted.keys() {
            if let Ok(known) = self.client.shelf().get(server).await {
                found.insert(server.clone(), known);
            }
        }
        let is_enough = |known: &ServerKeys, until_ms| {
            known.document.is_some() && known.document_valid_until_ms >= until_ms
        };
        let missing = wanted.iter().filter(|(server, until_ms)| {
            !found.get(*server).is_some_and(|known| is_enough(known, **until_ms))
        });
        let missing: Vec<_> = missing.map(|(server, until)| (server.clone(), *until)).collect();
        let fetched: Vec<_> = stream::iter(missing)
            .map(|(server, until_ms)| async move {
                // The semaphore is never closed.
                let _turn = self.client.strangers().acquire().await;
                let keys = self.fetch(&server, |known| is_enough(known, until_ms)).await;
                Some((server, keys.ok()?))
            })
            .buffer_unordered(SERVERS_ASKED_MAX)
            .take_until(tokio::time::sleep(ALL_TIMEOUT))
            .collect()
            .await;
        found.extend(fetched.into_iter().flatten());
        found
    }
}

impl Asked {
    fn is_answer_fresh(&self, now_ms: u64) -> bool {
        self.answered_ms.is_some_and(|at| now_ms < at.saturating_add(ANSWER_HOLDS_MS))
    }

    fn rests(&self, now_ms: u64) -> bool {
        let Some(exponent) = self.failures.checked_sub(1) else { return false };
        let rest_ms = REST_MS_MIN.saturating_mul(1 << exponent.min(16)).min(REST_MS_MAX);
        now_ms < self.failed_ms.saturating_add(rest_ms)
    }
}

impl Gathered {
    pub(crate) fn note_store_failure(&mut self, server: &OwnedServerName, error: &StoreError) {
        self.failures.insert(server.clone(), store_failure(error));
    }
}

pub(crate) fn store_failure(error: &StoreError) -> String {
    tracing::error!(%error, "the keys of other servers can't be read or written");
    "the store failed".to_owned()
}

/// What went wrong, without the server's name, which the reader knows.
pub(crate) fn words(error: &RemoteError) -> String {
    match error {
        RemoteError::Unreachable { why, .. }
        | RemoteError::Denied { why, .. }
        | RemoteError::BadAnswer { why, .. } => why.clone(),
        RemoteError::Refused { .. } => error.to_string(),
    }
}
