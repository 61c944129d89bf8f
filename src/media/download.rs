//! Giving files out: ours, and those of other servers, which are fetched once and kept.

use std::{sync::Arc, time::Duration};

use ruma::ServerName;
use store::{Batch, Json};
use tokio::{fs, time::timeout};

use crate::{
    Media,
    error::{MediaError, Result},
    remote::{RemoteError, RemoteFile},
    tables::{FILES, FileRow, PROMISED_BY},
    upload::Keeping,
};

/// Most characters of a media ID.
const ID_LEN_MAX: usize = 255;

/// Most bytes of what another server calls a file.
const NAME_BYTES_MAX: usize = 512;

/// A file to be read.
#[derive(Debug)]
pub struct File {
    /// Its bytes, opened at their beginning.
    pub bytes: fs::File,
    /// How many bytes it has.
    pub size: u64,
    /// Its type, as its sender named it.
    pub content_type: Option<String>,
    /// Its name, as its sender gave it.
    pub filename: Option<String>,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub hash: String,
}

impl Media {
    /// A file, ours or of another server. One that is announced is waited for as long as `wait`
    /// says.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediadownloadservernamemediaid)
    ///
    /// # Errors
    /// - [`MediaError::NotFound`], [`MediaError::NotYetUploaded`].
    /// - [`MediaError::RemoteTooLarge`], [`MediaError::Remote`] when another server has it.
    pub async fn download(
        &self,
        server: &ServerName,
        media_id: &str,
        wait: Duration,
    ) -> Result<File> {
        let row = self.find(server, media_id, wait).await?;
        self.open_file(row).await
    }

    /// A file of ours, for another server.
    ///
    /// # Errors
    /// As [`Media::download`].
    pub async fn download_ours(&self, media_id: &str, wait: Duration) -> Result<File> {
        let server = self.inner.config.server_name.clone();
        self.download(&server, media_id, wait).await
    }

    pub(crate) async fn open_file(&self, row: FileRow) -> Result<File> {
        let bytes = self.inner.blobs.read(&row.hash).await?;
        let FileRow { hash, size, content_type, filename, .. } = row;
        Ok(File { bytes, size, content_type, filename, hash })
    }

    /// What is known of a file, once it is here.
    pub(crate) async fn find(
        &self,
        server: &ServerName,
        media_id: &str,
        wait: Duration,
    ) -> Result<FileRow> {
        check_id(media_id)?;
        if *server == self.inner.config.server_name {
            return self.find_ours(media_id, wait).await;
        }
        let key = (server.to_string(), media_id.to_owned());
        if let Some(Json(row)) = self.inner.store.get(&FILES, &key).await? {
            return Ok(row);
        }
        let fetching = async {
            // Whoever waits for their turn and goes away has not had one.
            let Ok(permit) = Arc::clone(&self.inner.fetches).acquire_owned().await else {
                return Err(MediaError::NotFound);
            };
            // What has begun to come is kept, whoever still wants it.
            let (media, server, media_id) = (self.clone(), server.to_owned(), media_id.to_owned());
            let fetched = tokio::spawn(async move {
                let _permit = permit;
                media.fetch(&server, &media_id).await
            });
            fetched.await.map_err(|error| MediaError::Io(std::io::Error::other(error)))?
        };
        timeout(wait, fetching).await.unwrap_or(Err(MediaError::NotYetUploaded))
    }

    async fn find_ours(&self, media_id: &str, wait: Duration) -> Result<FileRow> {
        let key = self.our_key(media_id);
        // Listens first, so that an upload just now is not missed.
        let mut uploaded = self.inner.uploaded.subscribe();
        if let Some(Json(row)) = self.inner.store.get(&FILES, &key).await? {
            return Ok(row);
        }
        if self.inner.store.get(&PROMISED_BY, &key.1).await?.is_none() {
            return Err(MediaError::NotFound);
        }
        let comes = async {
            loop {
                match uploaded.recv().await {
                    Ok(id) if id == media_id => break,
                    Ok(_) => {}
                    // Some were missed: it may be among them.
                    Err(_) => break,
                }
            }
        };
        let _ = timeout(wait, comes).await;
        match self.inner.store.get(&FILES, &key).await? {
            Some(Json(row)) => Ok(row),
            None => Err(MediaError::NotYetUploaded),
        }
    }

    /// Fetches a file of another server and keeps it. All who want it at once get the same.
    async fn fetch(&self, server: &ServerName, media_id: &str) -> Result<FileRow> {
        let key = (server.to_string(), media_id.to_owned());
        let _flight = self.inner.flights.enter(format!("{server}/{media_id}")).await;
        if let Some(Json(row)) = self.inner.store.get(&FILES, &key).await? {
            return Ok(row);
        }
        let bytes_max = self.inner.config.remote_bytes_max;
        let answer = self.inner.config.remote.download(server, media_id, bytes_max).await;
        let RemoteFile { content_type, filename, body } = match answer {
            Err(RemoteError::NotFound { .. }) => return Err(MediaError::NotFound),
            other => other?,
        };
        let (hash, size) = match self.keep(body, bytes_max).await {
            Err(Keeping::TooLarge) => return Err(MediaError::RemoteTooLarge { bytes_max }),
            Err(Keeping::Interrupted(why)) => {
                let server = server.to_owned();
                return Err(RemoteError::Unavailable { server, why }.into());
            }
            Err(Keeping::Failed(error)) => return Err(error),
            Ok(kept) => kept,
        };
        let short = |text: Option<String>| text.filter(|text| text.len() <= NAME_BYTES_MAX);
        let row = FileRow {
            hash,
            size,
            content_type: short(content_type),
            filename: short(filename),
            uploader: None,
            created_ms: self.inner.clock.now_ms(),
        };
        let mut batch = Batch::new();
        batch.put(&FILES, &key, &Json(row.clone()));
        self.inner.store.commit(batch).await?;
        Ok(row)
    }
}

/// A media ID has few characters, none of which leads anywhere.
fn check_id(media_id: &str) -> Result<()> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if media_id.is_empty() || media_id.len() > ID_LEN_MAX || !media_id.bytes().all(fine) {
        return Err(MediaError::NotFound);
    }
    Ok(())
}
