//! What files ask of other servers. The crate `federation` answers; [`Nobody`] stands for a server
//! without federation.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use ruma::{OwnedServerName, ServerName};

use crate::thumbnails::Fit;

/// What another server said, or why it said nothing of use.
pub type RemoteResult<T> = Result<T, RemoteError>;

/// The bytes of a file as they come.
pub type ByteStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Why another server could not help.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RemoteError {
    /// It has no such file.
    #[error("{server} has no such file")]
    NotFound {
        /// The server.
        server: OwnedServerName,
    },
    /// It may not be talked to, could not be reached, or gave a bad answer.
    #[error("{server}: {why}")]
    Unavailable {
        /// The server.
        server: OwnedServerName,
        /// What happened, as a sentence for people.
        why: String,
    },
}

/// A file of another server.
pub struct RemoteFile {
    /// Its type, as the other server names it.
    pub content_type: Option<String>,
    /// Its name, as the other server gives it.
    pub filename: Option<String>,
    /// Its bytes. Their number is bounded by whoever reads them.
    pub body: ByteStream,
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RemoteFile")
            .field("content_type", &self.content_type)
            .field("filename", &self.filename)
            .finish_non_exhaustive()
    }
}

/// A smaller picture that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// Least width, in pixels.
    pub width: u32,
    /// Least height, in pixels.
    pub height: u32,
    /// How the picture is to fit.
    pub fit: Fit,
}

/// Other servers, as files see them.
#[async_trait]
pub trait Remote: Send + Sync + fmt::Debug {
    /// A file of another server, at most `bytes_max` long.
    async fn download(
        &self,
        server: &ServerName,
        media_id: &str,
        bytes_max: u64,
    ) -> RemoteResult<RemoteFile>;
}

/// Refuses everything: federation is switched off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

#[async_trait]
impl Remote for Nobody {
    async fn download(&self, server: &ServerName, _: &str, _: u64) -> RemoteResult<RemoteFile> {
        let why = "federation is switched off".to_owned();
        Err(RemoteError::Unavailable { server: server.to_owned(), why })
    }
}
