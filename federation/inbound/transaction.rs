//! Transactions: events and news of other servers.
//!
//! Everything that a transaction brings is durable before it is answered, and the same transaction
//! gets the same answer again.
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#transactions)

mod answers;
mod edus;
mod pdus;

use axum::{extract::State, response::Response};
use serde_json::json;

use crate::{
    door::Door,
    inbound::{
        error::{Refusal, Result, json_text},
        extract::Args,
        origin::Signed,
        transaction_body,
    },
};

/// Longest transaction ID, in bytes.
const TXN_ID_BYTES_MAX: usize = 255;

/// Receives a transaction.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid)
pub(crate) async fn send_transaction(
    State(door): State<Door>,
    Args(txn_id): Args<String>,
    request: Signed,
) -> Result<Response> {
    if txn_id.len() > TXN_ID_BYTES_MAX {
        return Err(Refusal::invalid_param("the transaction ID is too long"));
    }
    let origin = &request.origin;
    let _turn = door.turns.take(origin).await?;
    if let Some(answer) = answers::given(&door.store, origin, &txn_id).await? {
        return Ok(json_text(answer));
    }
    let body = transaction_body::parse(request.text()?)
        .map_err(|error| Refusal::bad_json(format!("this is no transaction: {error}")))?;
    if body.malformed > 0 {
        tracing::info!(%origin, txn.id = txn_id, parts = body.malformed, "malformed parts");
    }
    let (receipts, others) = body.edus.into_iter().partition(|edu| edu.kind == "m.receipt");
    let pdus = pdus::receive(&door, origin, body.pdus);
    let (results, done) = tokio::join!(pdus, edus::receive(&door, origin, others));
    let results = results?;
    done?;
    // Receipts may be for what the transaction has just brought.
    edus::receive(&door, origin, receipts).await?;
    let answer = json!({ "pdus": results }).to_string();
    answers::keep(&door.store, origin, &txn_id, &answer).await?;
    Ok(json_text(answer))
}
