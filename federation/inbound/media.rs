//! Files of our users.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#content-repository)

use std::time::Duration;

use axum::{body::Body, extract::State, response::Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, header};
use media::{File, Fit, MediaError, Thumbnail};
use rand::{Rng as _, distr::Alphanumeric};
use ruma::http_headers::{ContentDisposition, ContentDispositionType};
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use crate::{
    door::Door,
    inbound::{
        error::{Refusal, Result},
        extract::{Args, QueryArgs},
        origin::Signed,
    },
};

/// How long a file is waited for where the other server does not say, in milliseconds.
const WAIT_MS: u64 = 20_000;

/// Longest that a file is waited for, in milliseconds.
const WAIT_MS_MAX: u64 = 60_000;

/// Bytes that are read from the disk at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Characters of what stands between the parts of an answer.
const BOUNDARY_LEN: usize = 30;

/// How a file is wanted.
#[derive(Deserialize)]
pub(crate) struct DownloadQuery {
    timeout_ms: Option<u64>,
}

/// How a smaller picture is wanted.
#[derive(Deserialize)]
pub(crate) struct ThumbnailQuery {
    width: u32,
    height: u32,
    method: Option<String>,
    timeout_ms: Option<u64>,
}

/// Gives a file.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediadownloadmediaid)
pub(crate) async fn download(
    State(door): State<Door>,
    Args(media_id): Args<String>,
    QueryArgs(query): QueryArgs<DownloadQuery>,
    _request: Signed,
) -> Result<Response> {
    let file = door.media.download_ours(&media_id, wait(query.timeout_ms)).await;
    Ok(multipart(file.map_err(refusal)?))
}

/// Gives a smaller picture.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediathumbnailmediaid)
pub(crate) async fn thumbnail(
    State(door): State<Door>,
    Args(media_id): Args<String>,
    QueryArgs(query): QueryArgs<ThumbnailQuery>,
    _request: Signed,
) -> Result<Response> {
    let fit = match query.method.as_deref() {
        Some("crop") => Fit::Crop,
        None | Some("scale") => Fit::Scale,
        Some(_) => return Err(Refusal::invalid_param("method must be crop or scale")),
    };
    let wanted = Thumbnail { width: query.width, height: query.height, fit };
    let file = door.media.thumbnail_ours(&media_id, wanted, wait(query.timeout_ms)).await;
    Ok(multipart(file.map_err(refusal)?))
}

fn wait(timeout_ms: Option<u64>) -> Duration {
    Duration::from_millis(timeout_ms.unwrap_or(WAIT_MS).min(WAIT_MS_MAX))
}

/// Two parts: what is said of the file (nothing yet), and the file, read from the disk as it is
/// sent.
fn multipart(file: File) -> Response {
    let boundary: String =
        rand::rng().sample_iter(Alphanumeric).take(BOUNDARY_LEN).map(char::from).collect();
    let File { bytes, content_type, filename, .. } = file;
    let content_type = content_type.as_deref().filter(|text| one_line(text));
    let content_type = content_type.unwrap_or("application/octet-stream");
    let disposition =
        ContentDisposition::new(ContentDispositionType::Attachment).with_filename(filename);
    let head = format!(
        "--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\n\
         Content-Type: {content_type}\r\nContent-Disposition: {disposition}\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let body = stream::iter([Ok(Bytes::from(head))])
        .chain(ReaderStream::with_capacity(bytes, CHUNK_BYTES))
        .chain(stream::iter([Ok(Bytes::from(tail))]));
    let mut response = Response::new(Body::from_stream(body));
    let kind = format!("multipart/mixed; boundary={boundary}");
    if let Ok(kind) = HeaderValue::try_from(kind) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

/// Whether a text can stand in a header.
fn one_line(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn refusal(error: MediaError) -> Refusal {
    use http::StatusCode;
    let text = error.to_string();
    match &error {
        MediaError::NotFound => Refusal::not_found(text),
        MediaError::NotYetUploaded => {
            Refusal::new(StatusCode::GATEWAY_TIMEOUT, "M_NOT_YET_UPLOADED", text)
        }
        MediaError::TooLarge { .. } => Refusal::too_large(text),
        MediaError::NoPicture { .. } => Refusal::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", text),
        MediaError::Invalid { .. } => Refusal::invalid_param(text),
        other => Refusal::internal(other),
    }
}
