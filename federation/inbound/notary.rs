//! The keys of other servers, vouched for by this one.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#querying-keys-through-another-server)

use std::collections::{BTreeMap, BTreeSet};

use axum::{extract::State, response::Response};
use ruma::{CanonicalJsonObject, OwnedServerName};
use serde::Deserialize;

use crate::{
    door::Door,
    inbound::{
        error::{Refusal, Result, json_text},
        extract::{Args, JsonBody, QueryArgs},
    },
};

/// Most servers whose keys are asked for in one request.
const SERVERS_MAX: usize = 100;

/// Most keys of one server that are asked for.
const KEYS_MAX: usize = 100;

/// Until when the keys should be valid.
#[derive(Deserialize)]
pub(crate) struct Validity {
    minimum_valid_until_ts: Option<u64>,
}

/// Which keys are wanted: for each server, by ID; none stands for all.
#[derive(Deserialize)]
pub(crate) struct Wanted {
    server_keys: BTreeMap<OwnedServerName, BTreeMap<String, Validity>>,
}

/// Gives the keys of one server.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2queryservername)
pub(crate) async fn query(
    State(door): State<Door>,
    Args(server): Args<OwnedServerName>,
    QueryArgs(validity): QueryArgs<Validity>,
) -> Result<Response> {
    let wanted = BTreeMap::from([(server, validity.minimum_valid_until_ts)]);
    answer(&door, wanted).await
}

/// Gives the keys of one server, as older servers ask for one of them.
/// [Spec](https://spec.matrix.org/v1.1/server-server-api/#get_matrixkeyv2queryservernamekeyid)
pub(crate) async fn query_one(
    State(door): State<Door>,
    Args((server, _)): Args<(OwnedServerName, String)>,
    QueryArgs(validity): QueryArgs<Validity>,
) -> Result<Response> {
    let wanted = BTreeMap::from([(server, validity.minimum_valid_until_ts)]);
    answer(&door, wanted).await
}

/// Gives the keys of several servers.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#post_matrixkeyv2query)
pub(crate) async fn query_batch(
    State(door): State<Door>,
    JsonBody(Wanted { server_keys }): JsonBody<Wanted>,
) -> Result<Response> {
    if server_keys.len() > SERVERS_MAX || server_keys.values().any(|keys| keys.len() > KEYS_MAX) {
        return Err(Refusal::too_large("too many keys are asked for"));
    }
    let wanted = server_keys.into_iter().map(|(server, keys)| {
        let latest = keys.values().filter_map(|key| key.minimum_valid_until_ts).max();
        (server, latest)
    });
    answer(&door, wanted.collect()).await
}

/// The documents of servers, each with our signature.
async fn answer(door: &Door, wanted: BTreeMap<OwnedServerName, Option<u64>>) -> Result<Response> {
    let now_ms = door.clock.now_ms();
    // What nobody may talk with is not fetched on behalf of strangers either.
    let wanted: BTreeMap<OwnedServerName, u64> = wanted
        .into_iter()
        .filter(|(server, _)| {
            *server == door.server_name || door.client.check_allowed(server).is_ok()
        })
        .map(|(server, until_ms)| (server, until_ms.unwrap_or(now_ms)))
        .collect();
    let servers: BTreeSet<&OwnedServerName> = wanted.keys().collect();
    let mut documents = Vec::with_capacity(servers.len());
    if servers.contains(&door.server_name) {
        documents.push(crate::keys::own_document(door)?);
    }
    let others: BTreeMap<OwnedServerName, u64> =
        wanted.into_iter().filter(|(server, _)| *server != door.server_name).collect();
    if !others.is_empty() {
        // Strangers make us ask others: a few at a time.
        let permit = door.strangers.acquire().await;
        let _permit = permit.map_err(|error| Refusal::internal(&error))?;
        for (server, document) in door.client.keyring().documents(&others).await {
            match countersign(door, &document) {
                Ok(document) => documents.push(document),
                Err(error) => tracing::warn!(%error, %server, "keys that cannot be vouched for"),
            }
        }
    }
    Ok(json_text(format!("{{\"server_keys\":[{}]}}", documents.join(","))))
}

fn countersign(door: &Door, document: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut object: CanonicalJsonObject = serde_json::from_str(document)?;
    door.keys.current().sign_json(&door.server_name, &mut object)?;
    Ok(serde_json::to_string(&object)?)
}
