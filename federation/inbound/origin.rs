//! Who asks: the server that signed a request.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#request-authentication)

use std::fmt::Display;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use ruma::{OwnedServerName, ServerName};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue as RawJsonValue;

use crate::{
    door::Door,
    inbound::{
        error::{Refusal, Result},
        extract::{json_text, read_body, read_object},
    },
    x_matrix::XMatrix,
};

/// Largest body of a transaction, in bytes: 50 events and 100 EDUs of usual size.
const TRANSACTION_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Largest body of any other request, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Where transactions go.
const TRANSACTIONS: &str = "/_matrix/federation/v1/send/";

/// A request whose signature holds. A handler that takes one cannot be called by strangers.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    /// The server that signed.
    pub(crate) origin: OwnedServerName,
    body: Bytes,
}

impl FromRequest<Door> for Signed {
    type Rejection = Refusal;

    async fn from_request(request: Request, door: &Door) -> Result<Self> {
        let (parts, body) = request.into_parts();
        // Strangers are turned away before their body is read.
        let unauthorized = |error: &dyn Display| {
            let path = parts.uri.path();
            tracing::info!(%error, path, "a request is not signed as it must be");
            Refusal::unauthorized(error.to_string())
        };
        for claim in XMatrix::of_headers(&parts.headers).map_err(|error| unauthorized(&error))? {
            check_allowed(door, &claim.origin)?;
        }
        let is_transaction = parts.uri.path().starts_with(TRANSACTIONS);
        let bytes_max = if is_transaction { TRANSACTION_BYTES_MAX } else { BODY_BYTES_MAX };
        let body = read_body(body, bytes_max).await?;
        if !body.is_empty() {
            json_text(&body)?;
        }
        let path = parts.uri.path().to_owned();
        let request = http::Request::from_parts(parts, body);
        let verified = door.client.keyring().verify_request(&request).await;
        let origin = verified.map_err(|error| {
            tracing::info!(%error, path, "a request is not signed as it must be");
            Refusal::unauthorized(error.to_string())
        })?;
        check_allowed(door, &origin)?;
        door.sender.note_alive(&origin);
        Ok(Self { origin, body: request.into_body() })
    }
}

impl Signed {
    /// The body as text, which is JSON.
    ///
    /// # Errors
    /// 400 `M_NOT_JSON` when it is none.
    pub(crate) fn text(&self) -> Result<&str> {
        if self.body.is_empty() {
            return Err(Refusal::not_json("the request has no body"));
        }
        str::from_utf8(&self.body).map_err(|_| Refusal::not_json("the body is not valid UTF-8"))
    }

    /// The body, read as the given type.
    ///
    /// # Errors
    /// 400 `M_BAD_JSON` when it is of another shape.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        read_object(self.text()?)
    }

    /// The body as it is, which must be a JSON object.
    ///
    /// # Errors
    /// 400 `M_BAD_JSON` when it is something else.
    pub(crate) fn object(&self) -> Result<Box<RawJsonValue>> {
        self.json()
    }
}

/// Refuses servers that the configuration does not let talk with us.
fn check_allowed(door: &Door, server: &ServerName) -> Result<()> {
    door.client.check_allowed(server).map_err(|error| {
        tracing::info!(%error, "a server that may not talk with us has tried");
        Refusal::forbidden("this server does not talk with yours")
    })
}
