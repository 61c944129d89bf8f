//! Files that users send each other: pictures, videos, documents, and small pictures of them.
//!
//! What a file is called and who sent it is in the store, its bytes are in a directory beside it,
//! under their hash. This crate does not know HTTP or rooms.

mod blobs;
mod download;
mod error;
mod flights;
mod remote;
mod tables;
mod thumbnails;
mod upload;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use clock::Clock;
use ruma::{OwnedServerName, ServerName};
use store::Store;
use tokio::sync::{Semaphore, broadcast};

use crate::{blobs::Blobs, flights::Flights};

pub use crate::{
    download::File,
    error::{MediaError, Result},
    remote::{ByteStream, Nobody, Remote, RemoteError, RemoteFile, RemoteResult, Thumbnail},
    thumbnails::Fit,
    upload::{NewFile, PROMISE_LIFETIME_MS, Promise},
};

/// Most files that are fetched from other servers at once.
const FETCHES_MAX: usize = 16;

/// Most pictures that are made smaller at once.
const THUMBNAILINGS_MAX: usize = 2;

/// How many uploads those may miss who wait for one.
const UPLOADED_LEN: usize = 256;

/// Settings of [`Media`].
#[derive(Clone, Debug)]
pub struct MediaConfig {
    /// The name of this server.
    pub server_name: OwnedServerName,
    /// The directory that holds the files. Nobody else may write there.
    pub directory: PathBuf,
    /// Largest file that a user may upload, in bytes.
    pub upload_bytes_max: u64,
    /// Largest file that is fetched from another server, in bytes.
    pub remote_bytes_max: u64,
    /// Other servers.
    pub remote: Arc<dyn Remote>,
}

/// The files: the one handle through which they are read and written. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Media {
    inner: Arc<Inner>,
}

/// What all clones of [`Media`] share.
#[derive(Debug)]
struct Inner {
    store: Store,
    config: MediaConfig,
    clock: Arc<dyn Clock>,
    blobs: Blobs,
    flights: Flights,
    fetches: Arc<Semaphore>,
    thumbnailings: Arc<Semaphore>,
    /// The IDs of files as they are uploaded.
    uploaded: broadcast::Sender<String>,
}

impl Media {
    /// Opens the files in a directory, which is made where there is none. What an interrupted
    /// upload has left is removed.
    ///
    /// # Errors
    /// [`MediaError::Io`] when the directory can't be used.
    pub async fn open(store: Store, config: MediaConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let blobs = Blobs::open(config.directory.clone()).await?;
        let inner = Inner {
            store,
            config,
            clock,
            blobs,
            flights: Flights::default(),
            fetches: Arc::new(Semaphore::new(FETCHES_MAX)),
            thumbnailings: Arc::new(Semaphore::new(THUMBNAILINGS_MAX)),
            uploaded: broadcast::channel(UPLOADED_LEN).0,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether a file belongs to this server.
    #[must_use]
    pub fn is_ours(&self, server: &ServerName) -> bool {
        *server == self.inner.config.server_name
    }

    /// Largest file that a user may upload, in bytes.
    #[must_use]
    pub fn upload_bytes_max(&self) -> u64 {
        self.inner.config.upload_bytes_max
    }
}
