//! Verifying many events at a time: their keys are gathered first, then the signatures are checked
//! off the threads that serve requests.

use std::sync::Arc;

use event::{EventError, RequiredKeys, VerifiedPdu};
use futures_util::{StreamExt as _, stream};
use ruma::{room_version_rules::RoomVersionRules, signatures::PublicKeyMap};
use serde::Deserialize;
use serde_json::value::RawValue as RawJsonValue;

use crate::{
    Client,
    keyring::{Gathered, KeyUse, Keyring, Needs},
};

/// How many events one task verifies.
const CHUNK_LEN: usize = 64;

/// How many events are verified on the spot: moving them elsewhere would cost more.
const ON_THE_SPOT_MAX: usize = 2;

/// How far a clock may be ahead of ours, in milliseconds, for keys to be fetched for its sake.
const CLOCK_SKEW_MS_MAX: u64 = 10 * 60 * 1_000;

/// An event with what its signatures need.
struct Candidate {
    json: Box<RawJsonValue>,
    keys: Vec<RequiredKeys>,
    key_use: KeyUse,
}

impl Keyring {
    /// Verifies an event.
    ///
    /// # Errors
    /// As [`event::verify()`]; [`EventError::Unverified`] also where a key could not be had.
    pub async fn verify(
        &self,
        event: Box<RawJsonValue>,
        rules: &RoomVersionRules,
    ) -> Result<VerifiedPdu, EventError> {
        let nothing = || Err(EventError::Unverified("nothing came of it".to_owned()));
        self.verify_all(vec![event], rules).await.pop().unwrap_or_else(nothing)
    }

    /// Verifies events: one result for each, in their order. Keys that are not known are fetched,
    /// all at once, within bounded time.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events)
    pub async fn verify_all(
        &self,
        events: Vec<Box<RawJsonValue>>,
        rules: &RoomVersionRules,
    ) -> Vec<Result<VerifiedPdu, EventError>> {
        let client = self.client();
        let shared = Arc::new(rules.clone());
        let rules = Arc::clone(&shared);
        let candidates = in_chunks(client, events, move |event| candidate(event, &rules)).await;
        let mut needs = Needs::default();
        let latest_ms = client.now_ms().saturating_add(CLOCK_SKEW_MS_MAX);
        for candidate in candidates.iter().flatten() {
            let key_use = match candidate.key_use {
                KeyUse::At(ms) => KeyUse::At(ms.min(latest_ms)),
                other => other,
            };
            for (server, key_ids) in &candidate.keys {
                needs.add(server, key_ids, key_use);
            }
        }
        let gathered = Arc::new(self.gather(&needs).await);
        in_chunks(client, candidates, move |candidate| {
            candidate.and_then(|candidate| check(&candidate, &gathered, &shared))
        })
        .await
    }
}

/// Finds out which keys an event needs, and when they must have been valid.
fn candidate(json: Box<RawJsonValue>, rules: &RoomVersionRules) -> Result<Candidate, EventError> {
    #[derive(Deserialize)]
    struct Sent {
        origin_server_ts: u64,
    }
    if json.get().len() > EVENT_BYTES_MAX {
        return Err(EventError::TooLarge(format!("more than {EVENT_BYTES_MAX} bytes")));
    }
    let keys = event::required_keys(json.get(), rules)?;
    let key_use = if rules.enforce_key_validity {
        let sent: Sent = serde_json::from_str(json.get())?;
        KeyUse::At(sent.origin_server_ts)
    } else {
        KeyUse::AnyTime
    };
    Ok(Candidate { json, keys, key_use })
}

/// Largest text of an event that is looked at, in bytes: `unsigned` and white space do not count
/// towards the size of an event.
const EVENT_BYTES_MAX: usize = 4 * event::PDU_BYTES_MAX;

fn check(
    candidate: &Candidate,
    gathered: &Gathered,
    rules: &RoomVersionRules,
) -> Result<VerifiedPdu, EventError> {
    let mut keys = PublicKeyMap::new();
    for (server, key_ids) in &candidate.keys {
        let usable = gathered.usable(server, key_ids, candidate.key_use);
        if usable.is_empty() {
            let why = gathered.why_not(server);
            return Err(EventError::Unverified(format!("no key of {server}: {why}")));
        }
        keys.insert(server.to_string(), usable);
    }
    event::verify(candidate.json.get(), &keys, rules)
}

/// Does heavy work on each of many things, in their order, a few threads at a time.
async fn in_chunks<T, U>(
    client: &Client,
    things: Vec<T>,
    work: impl Fn(T) -> Result<U, EventError> + Clone + Send + 'static,
) -> Vec<Result<U, EventError>>
where
    T: Send + 'static,
    U: Send + 'static,
{
    if things.len() <= ON_THE_SPOT_MAX {
        return things.into_iter().map(work).collect();
    }
    let mut chunks = Vec::new();
    let mut things = things.into_iter();
    loop {
        let chunk: Vec<T> = things.by_ref().take(CHUNK_LEN).collect();
        if chunk.is_empty() {
            break;
        }
        chunks.push(chunk);
    }
    let parallel = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let done = stream::iter(chunks)
        .map(|chunk| {
            let work = work.clone();
            async move {
                let count = chunk.len();
                // The semaphore is never closed.
                let _permit = client.cpu().acquire().await;
                let task = tokio::task::spawn_blocking(move || {
                    chunk.into_iter().map(work).collect::<Vec<_>>()
                });
                task.await.unwrap_or_else(|error| {
                    let failed = || Err(EventError::Unverified(format!("not looked at: {error}")));
                    std::iter::repeat_with(failed).take(count).collect()
                })
            }
        })
        .buffered(parallel);
    done.collect::<Vec<_>>().await.into_iter().flatten().collect()
}
