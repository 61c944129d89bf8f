//! A file as an answer.

use axum::{body::Body, response::Response};
use http::{HeaderName, HeaderValue, header};
use media::File;
use ruma::http_headers::{ContentDisposition, ContentDispositionType};
use tokio_util::io::ReaderStream;

use crate::error::ApiError;

/// Bytes that are read from the disk at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Types that browsers may show: nothing in them is executed.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#serving-inline-content)
const SHOWN_TYPES: [&str; 26] = [
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
    "audio/x-flac",
];

/// What a page made of a file may do: nothing.
const POLICY: &str = "sandbox; default-src 'none'; script-src 'none'; \
    plugin-types application/pdf; style-src 'unsafe-inline'; object-src 'self';";

/// Answers with a file, read from the disk as it is sent.
pub(super) fn file(file: File, name: Option<String>) -> Result<Response, ApiError> {
    let content_type = file.content_type.as_deref().unwrap_or("application/octet-stream");
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let shown = SHOWN_TYPES.contains(&essence.as_str());
    let kind =
        if shown { ContentDispositionType::Inline } else { ContentDispositionType::Attachment };
    let disposition = ContentDisposition::new(kind).with_filename(name.or(file.filename));
    let mut response =
        Response::new(Body::from_stream(ReaderStream::with_capacity(file.bytes, CHUNK_BYTES)));
    let fallback = HeaderValue::from_static("application/octet-stream");
    let headers = response.headers_mut();
    let value = |text: &str| HeaderValue::from_str(text).ok();
    headers.insert(header::CONTENT_TYPE, value(content_type).unwrap_or(fallback));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(file.size));
    if let Some(disposition) = value(&disposition.to_string()) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    if let Some(tag) = value(&format!("\"{}\"", file.hash)) {
        headers.insert(header::ETAG, tag);
    }
    for (name, text) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable"),
    ] {
        headers.insert(name, HeaderValue::from_static(text));
    }
    Ok(response)
}
