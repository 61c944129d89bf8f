//! Files of other servers.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Method;
use media::{RemoteError as MediaRemoteError, RemoteFile, RemoteResult};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rooms::RemoteError;
use ruma::{
    ServerName,
    api::federation::authenticated_media::{FileOrLocation, get_content},
    http_headers::ContentDisposition,
};

use crate::{Client, Limits, Patience, RawRequest, client::bad_answer};

/// Longest that a file may take to come.
const FILE_TIMEOUT: Duration = Duration::from_secs(120);

/// What an answer has besides the file: headers of its parts.
const HEAD_BYTES_MAX: usize = 64 * 1024;

impl Client {
    /// Asks for a file as the specification says since 1.11.
    async fn fetch_file(
        &self,
        server: &ServerName,
        media_id: &str,
        limits: Limits,
    ) -> Result<RemoteFile, RemoteError> {
        let request = get_content::v1::Request::new(media_id.to_owned());
        let answer = self.send(server, request, limits).await?;
        match answer.content {
            FileOrLocation::File(content) => Ok(file(
                content.content_type,
                content.content_disposition,
                Bytes::from(content.file),
            )),
            // Another place may be any place: it is not gone to.
            _ => Err(bad_answer(server, "the file is in another place, which is not asked")),
        }
    }

    /// Asks for a file as before 1.11, when everybody could.
    async fn fetch_file_from_older(
        &self,
        server: &ServerName,
        media_id: &str,
        limits: Limits,
    ) -> Result<RemoteFile, RemoteError> {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (host, id) = (encode(server.as_str()), encode(media_id));
        let path = format!("/_matrix/media/v3/download/{host}/{id}?allow_remote=false");
        let request = RawRequest { method: Method::GET, path, body: None };
        let answer = self.send_raw(server, request, limits).await?;
        let text = |name: http::HeaderName| {
            answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let disposition = text(http::header::CONTENT_DISPOSITION);
        let disposition = disposition.and_then(|text| text.parse::<ContentDisposition>().ok());
        Ok(file(text(http::header::CONTENT_TYPE), disposition, answer.body))
    }
}

#[async_trait]
impl media::Remote for Client {
    async fn download(
        &self,
        server: &ServerName,
        media_id: &str,
        bytes_max: u64,
    ) -> RemoteResult<RemoteFile> {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let limits = Limits {
            timeout: FILE_TIMEOUT,
            answer_bytes_max: bytes_max.saturating_add(HEAD_BYTES_MAX),
            patience: Patience::Spare,
        };
        let answer = match self.fetch_file(server, media_id, limits).await {
            Err(RemoteError::Refused { status: 404 | 405, errcode, .. })
                if errcode == "M_UNRECOGNIZED" || errcode.is_empty() =>
            {
                self.fetch_file_from_older(server, media_id, limits).await
            }
            other => other,
        };
        answer.map_err(|error| match error {
            RemoteError::Refused { status: 404, .. } => {
                MediaRemoteError::NotFound { server: server.to_owned() }
            }
            other => {
                let why = other.to_string();
                MediaRemoteError::Unavailable { server: server.to_owned(), why }
            }
        })
    }
}

fn file(
    content_type: Option<String>,
    disposition: Option<ContentDisposition>,
    bytes: Bytes,
) -> RemoteFile {
    let filename = disposition.and_then(|disposition| disposition.filename);
    let body = stream::iter([Ok(bytes)]).boxed();
    RemoteFile { content_type, filename, body }
}
