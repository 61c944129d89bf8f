//! One request and its answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use rooms::RemoteError;
use ruma::{
    RoomVersionId, ServerName,
    api::{
        IncomingResponseExt as _, OutgoingBody as _, OutgoingRequest, path_builder::PathBuilder,
    },
};
use tokio::time::Instant;

use crate::{
    Client,
    client::{USER_AGENT, body, body::BodyError, why},
    x_matrix,
};

/// Most of another server's own words that are kept, in characters.
const MESSAGE_LEN_MAX: usize = 256;

/// Largest answer that is read after an error, in bytes.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// A request that failed within this time is tried once more, since the connection may have been
/// closed just then.
const SECOND_TRY_WITHIN: Duration = Duration::from_secs(2);

/// What a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest that all of it may take.
    pub timeout: Duration,
    /// Largest answer, in bytes.
    pub answer_bytes_max: usize,
    /// What happens when the server just failed.
    pub patience: Patience,
}

/// What happens to a request to a server that just failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It fails at once: it can wait, or others can be asked.
    Spare,
    /// It is sent: somebody waits for it, or its sender has a backoff of its own.
    Insist,
}

impl Limits {
    /// A small question that others may answer as well, or that can wait: 30 s, 4 MiB.
    pub const QUERY: Self = Self {
        timeout: Duration::from_secs(30),
        answer_bytes_max: 4 * 1024 * 1024,
        patience: Patience::Spare,
    };

    /// A small question for which a user waits: 30 s, 4 MiB, whatever happened before.
    pub const URGENT: Self = Self { patience: Patience::Insist, ..Self::QUERY };

    /// Events: 60 s, 32 MiB.
    pub const EVENTS: Self = Self {
        timeout: Duration::from_secs(60),
        answer_bytes_max: 32 * 1024 * 1024,
        patience: Patience::Spare,
    };

    /// The state of a room: as long and as large as the configuration allows.
    pub const STATE: Self = Self {
        timeout: Duration::from_secs(600),
        answer_bytes_max: usize::MAX,
        patience: Patience::Insist,
    };

    /// A transaction, whose sender has a backoff of its own: 60 s, 1 MiB.
    pub const TRANSACTION: Self = Self {
        timeout: Duration::from_secs(60),
        answer_bytes_max: 1024 * 1024,
        patience: Patience::Insist,
    };
}

/// A request before it is signed.
#[derive(Clone, Debug)]
pub struct RawRequest {
    /// The method.
    pub method: Method,
    /// The path with its query, from `/_matrix` on.
    pub path: String,
    /// The JSON that is sent, if any.
    pub body: Option<Bytes>,
}

/// An answer whose status is one of success, read to its end.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Client {
    /// Sends a request, signed, and reads its answer.
    ///
    /// # Errors
    /// [`RemoteError`] says what the server answered, or why it did not.
    pub async fn send<R>(
        &self,
        destination: &ServerName,
        request: R,
        limits: Limits,
    ) -> Result<R::IncomingResponse, RemoteError>
    where
        R: OutgoingRequest,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        let raw = raw_request(request)
            .map_err(|why| RemoteError::BadAnswer { server: destination.to_owned(), why })?;
        let answer = self.send_raw(destination, raw, limits).await?;
        let mut response = http::Response::new(&*answer.body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        R::IncomingResponse::try_from_http_response(response)
            .map_err(|error| bad_answer(destination, error.to_string()))
    }

    /// Sends a request, signed, and reads its answer as it is.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_raw(
        &self,
        destination: &ServerName,
        request: RawRequest,
        limits: Limits,
    ) -> Result<RawAnswer, RemoteError> {
        self.check_allowed(destination)?;
        let known = self.inner.destinations.of(destination);
        let rests_ms = known.rests_ms(self.now_ms());
        if limits.patience == Patience::Spare && rests_ms > 0 {
            let why = format!("it just failed, and is left alone for {} s", rests_ms / 1_000 + 1);
            return Err(unreachable(destination, why));
        }
        let limits = Limits {
            timeout: limits.timeout.min(self.inner.config.request_timeout),
            answer_bytes_max: limits.answer_bytes_max.min(self.inner.config.answer_bytes_max),
            ..limits
        };
        let exchange = async {
            // Neither semaphore is ever closed.
            let _one_of_its = known.permits.acquire().await;
            let _one_of_all = self.inner.permits.acquire().await;
            self.exchange(destination, &request, limits).await
        };
        let begin = Instant::now();
        let outcome = match tokio::time::timeout(limits.timeout, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let why = format!("no answer within {} ms", limits.timeout.as_millis());
                Err(unreachable(destination, why))
            }
        };
        match &outcome {
            // A proxy in front of a server that is gone says so with one of these.
            Err(
                RemoteError::Unreachable { .. } | RemoteError::Refused { status: 502..=504, .. },
            ) => known.note_failure(self.now_ms()),
            _ => known.note_alive(),
        }
        self.observe(destination, &request, &outcome, begin.elapsed());
        outcome
    }

    fn observe(
        &self,
        destination: &ServerName,
        request: &RawRequest,
        outcome: &Result<RawAnswer, RemoteError>,
        elapsed: Duration,
    ) {
        let result = match outcome {
            Ok(_) => "ok",
            Err(RemoteError::Refused { .. }) => "refused",
            Err(RemoteError::Unreachable { .. } | RemoteError::Denied { .. }) => "unreachable",
            Err(RemoteError::BadAnswer { .. }) => "bad_answer",
        };
        metrics::counter!("federation_requests_sent_total", "result" => result).increment(1);
        metrics::histogram!("federation_request_sent_seconds").record(elapsed.as_secs_f64());
        let duration_ms = elapsed.as_millis();
        let (method, path) = (&request.method, path_alone(&request.path));
        if let Err(error) = outcome {
            tracing::debug!(%destination, %method, path, duration_ms, %error, "a request failed");
        } else {
            tracing::trace!(%destination, %method, path, duration_ms, "a request was answered");
        }
    }

    /// Sends, and reads the answer; a second time where the connection may have been just closed.
    async fn exchange(
        &self,
        destination: &ServerName,
        request: &RawRequest,
        limits: Limits,
    ) -> Result<RawAnswer, RemoteError> {
        let begin = Instant::now();
        let authority = match self.inner.config.overrides.contains_key(destination) {
            true => destination.to_owned(),
            false => self.inner.resolver.authority(destination).await,
        };
        let mut is_second = false;
        loop {
            let signed = self.sign(destination, authority.as_str(), request)?;
            match self.inner.http.request(signed).await {
                Ok(answer) => return self.read(destination, answer, limits).await,
                Err(error) => {
                    let may_try_again = !is_second
                        && !error.is_connect()
                        && request.method != Method::POST
                        && begin.elapsed() < SECOND_TRY_WITHIN;
                    if !may_try_again {
                        return Err(unreachable(destination, why(&error)));
                    }
                    is_second = true;
                }
            }
        }
    }

    /// Makes the HTTP request, signed unless keys are asked for, which need no signature.
    fn sign(
        &self,
        destination: &ServerName,
        authority: &str,
        request: &RawRequest,
    ) -> Result<http::Request<SentBody>, RemoteError> {
        let malformed = |error: String| bad_answer(destination, format!("no request: {error}"));
        let uri = Uri::builder()
            .scheme(uri::Scheme::HTTPS)
            .authority(authority)
            .path_and_query(request.path.as_str())
            .build()
            .map_err(|error| malformed(error.to_string()))?;
        let body = request.body.clone().unwrap_or_default();
        let mut http = http::Request::new(body);
        *http.method_mut() = request.method.clone();
        *http.uri_mut() = uri;
        if !request.path.starts_with("/_matrix/key/") {
            let key = self.inner.keys.current();
            let value = x_matrix::sign(&http, self.server_name(), destination, &key)
                .map_err(|error| malformed(error.to_string()))?;
            http.headers_mut().insert(header::AUTHORIZATION, value);
        }
        if request.body.is_some() {
            let json = HeaderValue::from_static("application/json");
            http.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        http.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        Ok(http.map(|body| Full::new(body).boxed()))
    }

    async fn read(
        &self,
        destination: &ServerName,
        answer: http::Response<Incoming>,
        limits: Limits,
    ) -> Result<RawAnswer, RemoteError> {
        let (parts, incoming) = answer.into_parts();
        let is_success = parts.status.is_success();
        let bytes_max = if is_success {
            limits.answer_bytes_max
        } else {
            limits.answer_bytes_max.min(ERROR_BYTES_MAX)
        };
        let body = match body::read(incoming, bytes_max, &self.inner.memory).await {
            Ok(body) => body,
            Err(_) if !is_success => Bytes::new(),
            Err(error @ BodyError::TooLarge(_)) => {
                return Err(bad_answer(destination, error.to_string()));
            }
            Err(error) => return Err(unreachable(destination, error.to_string())),
        };
        if is_success {
            Ok(RawAnswer { status: parts.status, headers: parts.headers, body })
        } else {
            Err(refused(destination, parts.status, &body))
        }
    }
}

/// The body of a request on its way.
type SentBody = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

/// Writes a request down.
pub(crate) fn raw_request<R>(request: R) -> Result<RawRequest, String>
where
    R: OutgoingRequest,
    for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
{
    let request = request.try_into_http_request_inner("", ()).map_err(|error| error.to_string())?;
    let (parts, body) = request.into_parts();
    let is_json = body.content_type().is_some();
    let body: Vec<u8> = body.try_into_buf().map_err(|error| error.into().to_string())?;
    let path = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    Ok(RawRequest { method: parts.method, path, body: is_json.then(|| Bytes::from(body)) })
}

/// A path without its query, which may hold what is nobody's business.
fn path_alone(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// The error for a server that could not be reached.
fn unreachable(server: &ServerName, why: impl Into<String>) -> RemoteError {
    RemoteError::Unreachable { server: server.to_owned(), why: why.into() }
}

/// The error for an answer that is of no use.
pub(crate) fn bad_answer(server: &ServerName, why: impl Into<String>) -> RemoteError {
    RemoteError::BadAnswer { server: server.to_owned(), why: why.into() }
}

/// The error in an answer's body.
fn refused(server: &ServerName, status: StatusCode, body: &[u8]) -> RemoteError {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| {
        let text = json.get(field).and_then(serde_json::Value::as_str).unwrap_or_default();
        text.chars().filter(|c| !c.is_control()).take(MESSAGE_LEN_MAX).collect::<String>()
    };
    let version = text("room_version");
    RemoteError::Refused {
        server: server.to_owned(),
        status: status.as_u16(),
        errcode: text("errcode"),
        message: text("error"),
        room_version: RoomVersionId::try_from(version).ok(),
    }
}
