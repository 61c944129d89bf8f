//! How a transaction comes to a server: by the client, or in tests by whatever they like.

use std::{collections::HashMap, fmt};

use async_trait::async_trait;
use http::Method;
use rooms::RemoteError;
use ruma::ServerName;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue as RawJsonValue;

use super::Transaction;
use crate::{Client, Limits, RawRequest};

/// Why a transaction did not come through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliverError {
    /// We may not talk to the server: nothing is kept for it.
    #[error("{0}")]
    Denied(String),
    /// It did not answer, or not as it should.
    #[error("{why}")]
    Failed {
        /// What happened, as a sentence for people.
        why: String,
        /// How long the server wants us to wait, in milliseconds.
        retry_after_ms: Option<u64>,
    },
}

/// Brings transactions to servers.
#[async_trait]
pub trait Deliver: Send + Sync + fmt::Debug {
    /// Whether we may talk to a server at all. For one that we may not, nothing is queued.
    fn is_allowed(&self, server: &ServerName) -> bool;

    /// Sends one transaction, and returns once the server has answered that it has it. Ends by
    /// itself within minutes, whatever the server does.
    async fn deliver(
        &self,
        server: &ServerName,
        transaction: &Transaction,
    ) -> Result<(), DeliverError>;
}

#[derive(Serialize)]
struct Body<'a> {
    origin: &'a ServerName,
    origin_server_ts: u64,
    pdus: Vec<&'a RawJsonValue>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    edus: &'a [Box<RawJsonValue>],
}

/// What a server says of each event; of those that it took nothing.
#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    pdus: HashMap<String, Verdict>,
}

#[derive(Deserialize)]
struct Verdict {
    error: Option<String>,
}

impl Transaction {
    /// The body of the request.
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid)
    fn body(&self, origin: &ServerName) -> Result<Vec<u8>, serde_json::Error> {
        let pdus: Result<Vec<&RawJsonValue>, _> =
            self.pdus.iter().map(|pdu| serde_json::from_str(&pdu.json)).collect();
        serde_json::to_vec(&Body {
            origin,
            origin_server_ts: self.origin_server_ts_ms,
            pdus: pdus?,
            edus: &self.edus,
        })
    }
}

#[async_trait]
impl Deliver for Client {
    fn is_allowed(&self, server: &ServerName) -> bool {
        self.check_allowed(server).is_ok()
    }

    async fn deliver(
        &self,
        server: &ServerName,
        transaction: &Transaction,
    ) -> Result<(), DeliverError> {
        let failed = |why: String| DeliverError::Failed { why, retry_after_ms: None };
        let body =
            transaction.body(self.server_name()).map_err(|error| failed(error.to_string()))?;
        let request = RawRequest {
            method: Method::PUT,
            path: format!("/_matrix/federation/v1/send/{}", transaction.id),
            body: Some(body.into()),
        };
        let answer = match self.send_raw(server, request, Limits::TRANSACTION).await {
            Ok(answer) => answer,
            Err(error @ RemoteError::Denied { .. }) => {
                return Err(DeliverError::Denied(error.to_string()));
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        // That it has the transaction is what counts.
        let answer: Answer = serde_json::from_slice(&answer.body).unwrap_or_default();
        for (event_id, verdict) in &answer.pdus {
            if let Some(error) = &verdict.error {
                let error: String = error.chars().take(200).collect();
                tracing::debug!(destination = %server, event.id = event_id, error, "refused");
            }
        }
        Ok(())
    }
}
