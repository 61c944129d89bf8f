//! Addresses that have turned out to belong to users of ours.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#third-party-invites)

use std::time::Duration;

use axum::{extract::State, response::Response};
use rooms::ThirdPartyInvite;
use ruma::{OwnedRoomId, OwnedUserId};
use serde::Deserialize;
use serde_json::value::RawValue as RawJsonValue;
use tokio::time::timeout;

use crate::{
    door::Door,
    inbound::{
        error::{Refusal, Result, ok_empty},
        extract::JsonBody,
    },
};

/// Most invites of one address.
const INVITES_MAX: usize = 20;

/// Longest that the servers of those who invite may take, all together.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// When somebody who comes while others are served may come again, in milliseconds.
const RETRY_AFTER_MS: u64 = 5_000;

/// What an identity server tells.
#[derive(Deserialize)]
pub(crate) struct Bound {
    mxid: OwnedUserId,
    invites: Vec<Invite>,
}

#[derive(Deserialize)]
struct Invite {
    mxid: OwnedUserId,
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    signed: Box<RawJsonValue>,
}

/// Turns the invites of an address into invites of the user to whom it belongs.
///
/// Anybody can call this: what counts is what the identity server has signed, which those who
/// invited look at.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv13pidonbind)
pub(crate) async fn on_bind(
    State(door): State<Door>,
    JsonBody(Bound { mxid, invites }): JsonBody<Bound>,
) -> Result<Response> {
    if invites.len() > INVITES_MAX {
        return Err(Refusal::too_large("too many invites"));
    }
    if !door.users.is_local(&mxid) || door.users.account(&mxid).await?.is_none() {
        return Err(Refusal::not_found("there is no such user"));
    }
    let Ok(_permit) = door.strangers.try_acquire() else {
        return Err(Refusal::limit_exceeded(RETRY_AFTER_MS));
    };
    let exchange = async {
        for Invite { mxid: user, room_id, sender, signed } in invites {
            if user != mxid {
                continue;
            }
            let invite = ThirdPartyInvite { room_id, sender, user, signed };
            if let Err(error) = door.rooms.bind_third_party(invite).await {
                tracing::info!(%error, user.id = %mxid, "an invite of an address came to nothing");
            }
        }
    };
    if timeout(EXCHANGE_TIMEOUT, exchange).await.is_err() {
        tracing::info!(user.id = %mxid, "the invites of an address took too long");
    }
    Ok(ok_empty())
}
