//! Files: uploading, downloading, smaller pictures.

mod serve;

use std::time::Duration;

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use http::{HeaderMap, header};
use media::{Fit, Media, NewFile, Thumbnail};
use ruma::{OwnedServerName, ServerName};
use serde::Deserialize;
use serde_json::json;

use crate::{
    ApiState,
    auth::Session,
    error::ApiError,
    extract::{PathArgs, QueryArgs},
};

/// How long a file is waited for where the client does not say, in milliseconds.
const WAIT_MS: u64 = 20_000;

/// Longest that a file is waited for, in milliseconds.
const WAIT_MS_MAX: u64 = 60_000;

pub(crate) fn routes() -> Router<ApiState> {
    let mut router = Router::new()
        .route("/_matrix/media/v1/create", post(create))
        .route("/_matrix/client/v1/media/config", get(config))
        .route("/_matrix/client/v1/media/download/{server}/{id}", get(download))
        .route("/_matrix/client/v1/media/download/{server}/{id}/{name}", get(download_named))
        .route("/_matrix/client/v1/media/thumbnail/{server}/{id}", get(thumbnail));
    // The older paths, for older clients. Downloads need a token there, too.
    for version in ["v3", "r0"] {
        let path = |rest: &str| format!("/_matrix/media/{version}/{rest}");
        router = router
            .route(&path("upload"), post(upload))
            .route(&path("upload/{server}/{id}"), put(upload_announced))
            .route(&path("config"), get(config))
            .route(&path("download/{server}/{id}"), get(download))
            .route(&path("download/{server}/{id}/{name}"), get(download_named))
            .route(&path("thumbnail/{server}/{id}"), get(thumbnail));
    }
    router.layer(DefaultBodyLimit::disable())
}

/// What a request says of the file that it brings.
#[derive(Debug, Deserialize)]
struct UploadQuery {
    filename: Option<String>,
}

/// How a file is wanted.
#[derive(Debug, Deserialize)]
struct DownloadQuery {
    timeout_ms: Option<u64>,
    allow_remote: Option<bool>,
}

/// How a smaller picture is wanted.
#[derive(Debug, Deserialize)]
struct ThumbnailQuery {
    width: u32,
    height: u32,
    method: Option<String>,
    timeout_ms: Option<u64>,
    allow_remote: Option<bool>,
}

/// Keeps a file.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav3upload)
async fn upload(
    State(media): State<Media>,
    session: Session,
    QueryArgs(query): QueryArgs<UploadQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let (file, body) = parts(&media, query, request)?;
    let uri = media.upload(&session.user_id, file, body.into_data_stream()).await?;
    Ok(Json(json!({ "content_uri": uri })).into_response())
}

/// Announces a file.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav1create)
async fn create(State(media): State<Media>, session: Session) -> Result<Response, ApiError> {
    let promise = media.promise(&session.user_id).await?;
    let answer = json!({ "content_uri": promise.uri, "unused_expires_at": promise.expires_ms });
    Ok(Json(answer).into_response())
}

/// Keeps a file that was announced.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixmediav3uploadservernamemediaid)
async fn upload_announced(
    State(media): State<Media>,
    session: Session,
    PathArgs([server, id]): PathArgs<2>,
    QueryArgs(query): QueryArgs<UploadQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let server = server_name(&server)?;
    let (file, body) = parts(&media, query, request)?;
    media.keep_promise(&session.user_id, &server, &id, file, body.into_data_stream()).await?;
    Ok(Json(json!({})).into_response())
}

/// Tells how large files may be.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediaconfig)
async fn config(State(media): State<Media>, _session: Session) -> Response {
    Json(json!({ "m.upload.size": media.upload_bytes_max() })).into_response()
}

/// Gives a file.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediadownloadservernamemediaid)
async fn download(
    State(media): State<Media>,
    _session: Session,
    PathArgs([server, id]): PathArgs<2>,
    QueryArgs(query): QueryArgs<DownloadQuery>,
) -> Result<Response, ApiError> {
    let server = reachable(&media, &server, query.allow_remote)?;
    let file = media.download(&server, &id, wait(query.timeout_ms)).await?;
    serve::file(file, None)
}

/// Gives a file under a name of the client's choosing.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediadownloadservernamemediaidfilename)
async fn download_named(
    State(media): State<Media>,
    _session: Session,
    PathArgs([server, id, name]): PathArgs<3>,
    QueryArgs(query): QueryArgs<DownloadQuery>,
) -> Result<Response, ApiError> {
    let server = reachable(&media, &server, query.allow_remote)?;
    let file = media.download(&server, &id, wait(query.timeout_ms)).await?;
    serve::file(file, Some(name))
}

/// Gives a smaller picture.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediathumbnailservernamemediaid)
async fn thumbnail(
    State(media): State<Media>,
    _session: Session,
    PathArgs([server, id]): PathArgs<2>,
    QueryArgs(query): QueryArgs<ThumbnailQuery>,
) -> Result<Response, ApiError> {
    let server = reachable(&media, &server, query.allow_remote)?;
    let fit = match query.method.as_deref() {
        Some("crop") => Fit::Crop,
        None | Some("scale") => Fit::Scale,
        Some(_) => return Err(ApiError::invalid_param("method must be crop or scale")),
    };
    let wanted = Thumbnail { width: query.width, height: query.height, fit };
    let file = media.thumbnail(&server, &id, wanted, wait(query.timeout_ms)).await?;
    serve::file(file, None)
}

/// What a request says of its file, and the file. One that says itself that it is too large is
/// refused before it is read.
fn parts(media: &Media, query: UploadQuery, request: Request) -> Result<(NewFile, Body), ApiError> {
    let (parts, body) = request.into_parts();
    let bytes_max = media.upload_bytes_max();
    let length = text(&parts.headers, header::CONTENT_LENGTH);
    if length.and_then(|length| length.parse::<u64>().ok()).is_some_and(|n| n > bytes_max) {
        return Err(ApiError::too_large(format!("the file is larger than {bytes_max} bytes")));
    }
    let content_type = text(&parts.headers, header::CONTENT_TYPE).map(str::to_owned);
    Ok((NewFile { content_type, filename: query.filename }, body))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn server_name(text: &str) -> Result<OwnedServerName, ApiError> {
    ServerName::parse(text).map_err(|error| ApiError::invalid_param(error.to_string()))
}

/// The server that has a file, unless the client does not want another server to be asked.
fn reachable(
    media: &Media,
    server: &str,
    allow_remote: Option<bool>,
) -> Result<OwnedServerName, ApiError> {
    let server = server_name(server)?;
    if allow_remote == Some(false) && !media.is_ours(&server) {
        return Err(ApiError::not_found("the file is on another server"));
    }
    Ok(server)
}

fn wait(timeout_ms: Option<u64>) -> Duration {
    Duration::from_millis(timeout_ms.unwrap_or(WAIT_MS).min(WAIT_MS_MAX))
}
