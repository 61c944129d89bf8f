//! Files of our users: sent at once, or announced and sent later.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use rand::{Rng as _, distr::Alphanumeric};
use ruma::{OwnedMxcUri, ServerName, UserId};
use store::{Batch, Json, Page};

use crate::{
    Media,
    error::{MediaError, Result},
    tables::{FILES, FileRow, PROMISED_BY, PROMISES},
};

/// How long an announced file may take to come, in milliseconds.
pub const PROMISE_LIFETIME_MS: u64 = 24 * 60 * 60 * 1000;

/// Most files that a user may have announced and not sent.
const PROMISES_MAX: usize = 100;

/// Characters of a media ID.
const ID_LEN: usize = 24;

/// Most bytes of a content type or a file name.
const NAME_BYTES_MAX: usize = 512;

/// What a user says of a file.
#[derive(Clone, Debug, Default)]
pub struct NewFile {
    /// Its type.
    pub content_type: Option<String>,
    /// Its name.
    pub filename: Option<String>,
}

/// An announced file.
#[derive(Clone, Debug)]
pub struct Promise {
    /// Where it will be.
    pub uri: OwnedMxcUri,
    /// Until when it may come, in milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

impl Media {
    /// Keeps a file. It is safe on disk when this returns.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav3upload)
    ///
    /// # Errors
    /// - [`MediaError::TooLarge`], [`MediaError::Interrupted`], [`MediaError::Invalid`].
    /// - [`MediaError::Io`] when the disk is full.
    pub async fn upload<E: std::fmt::Display>(
        &self,
        user: &UserId,
        file: NewFile,
        body: impl Stream<Item = std::result::Result<Bytes, E>> + Send + Unpin,
    ) -> Result<OwnedMxcUri> {
        let media_id = new_id();
        let row = self.receive(user, file, body).await?;
        let mut batch = Batch::new();
        let key = self.our_key(&media_id);
        batch.expect(&FILES, &key, None);
        batch.put(&FILES, &key, &Json(row));
        self.inner.store.commit(batch).await?;
        Ok(self.uri(&media_id))
    }

    /// Announces a file.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav1create)
    ///
    /// # Errors
    /// [`MediaError::TooManyPromises`].
    pub async fn promise(&self, user: &UserId) -> Result<Promise> {
        let now_ms = self.inner.clock.now_ms();
        let all = user.as_str().to_owned();
        let page = Page::first(PROMISES_MAX);
        let rows = self.inner.store.scan(&PROMISES, PROMISES.prefix(&all), page).await?;
        let mut batch = Batch::new();
        let mut open = 0;
        for (key, expires_ms) in &rows {
            if *expires_ms > now_ms {
                open += 1;
            } else {
                batch.delete(&PROMISES, key);
                batch.delete(&PROMISED_BY, &key.1);
            }
        }
        if open >= PROMISES_MAX {
            return Err(MediaError::TooManyPromises);
        }
        let media_id = new_id();
        let expires_ms = now_ms.saturating_add(PROMISE_LIFETIME_MS);
        batch.put(&PROMISES, &(all.clone(), media_id.clone()), &expires_ms);
        batch.put(&PROMISED_BY, &media_id, &all);
        self.inner.store.commit(batch).await?;
        Ok(Promise { uri: self.uri(&media_id), expires_ms })
    }

    /// Keeps a file that was announced, and wakes those who wait for it.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixmediav3uploadservernamemediaid)
    ///
    /// # Errors
    /// - [`MediaError::Taken`] when it is there already.
    /// - [`MediaError::NotFound`], [`MediaError::Forbidden`] when it was never announced, by
    ///   somebody else, or too long ago.
    /// - As [`Media::upload`].
    pub async fn keep_promise<E: std::fmt::Display>(
        &self,
        user: &UserId,
        server: &ServerName,
        media_id: &str,
        file: NewFile,
        body: impl Stream<Item = std::result::Result<Bytes, E>> + Send + Unpin,
    ) -> Result<()> {
        if server != self.inner.config.server_name {
            return Err(MediaError::NotFound);
        }
        let key = self.our_key(media_id);
        let store = &self.inner.store;
        if store.get(&FILES, &key).await?.is_some() {
            return Err(MediaError::Taken);
        }
        let owner = store.get(&PROMISED_BY, &media_id.to_owned()).await?;
        if owner.ok_or(MediaError::NotFound)? != user.as_str() {
            return Err(MediaError::Forbidden { why: "somebody else announced this file" });
        }
        let promise = (user.as_str().to_owned(), media_id.to_owned());
        let expires_ms = store.get(&PROMISES, &promise).await?.unwrap_or_default();
        if expires_ms <= self.inner.clock.now_ms() {
            return Err(MediaError::Forbidden { why: "the file was announced too long ago" });
        }
        let row = self.receive(user, file, body).await?;
        let mut batch = Batch::new();
        batch.expect(&FILES, &key, None);
        batch.put(&FILES, &key, &Json(row));
        batch.delete(&PROMISES, &promise);
        batch.delete(&PROMISED_BY, &promise.1);
        match store.commit(batch).await {
            Err(store::StoreError::Conflict { .. }) => return Err(MediaError::Taken),
            done => done?,
        };
        // Nobody may be waiting.
        let _ = self.inner.uploaded.send(promise.1);
        Ok(())
    }

    async fn receive<E: std::fmt::Display>(
        &self,
        user: &UserId,
        file: NewFile,
        body: impl Stream<Item = std::result::Result<Bytes, E>> + Send + Unpin,
    ) -> Result<FileRow> {
        let too_long =
            |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > NAME_BYTES_MAX);
        if too_long(&file.content_type) || too_long(&file.filename) {
            return Err(MediaError::Invalid { what: "the file's type or name is too long" });
        }
        let bytes_max = self.inner.config.upload_bytes_max;
        let (hash, size) = match self.keep(body, bytes_max).await {
            Err(Keeping::TooLarge) => return Err(MediaError::TooLarge { bytes_max }),
            Err(Keeping::Interrupted(why)) => return Err(MediaError::Interrupted { why }),
            Err(Keeping::Failed(error)) => return Err(error),
            Ok(kept) => kept,
        };
        Ok(FileRow {
            hash,
            size,
            content_type: file.content_type,
            filename: file.filename,
            uploader: Some(user.to_owned()),
            created_ms: self.inner.clock.now_ms(),
        })
    }

    /// Writes bytes as they come. Gives their hash and number once they are safe.
    pub(crate) async fn keep<E: std::fmt::Display>(
        &self,
        mut body: impl Stream<Item = std::result::Result<Bytes, E>> + Send + Unpin,
        bytes_max: u64,
    ) -> Result<(String, u64), Keeping> {
        let mut writing = self.inner.blobs.begin().await?;
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| Keeping::Interrupted(error.to_string()))?;
            if writing.size().saturating_add(bytes.len() as u64) > bytes_max {
                return Err(Keeping::TooLarge);
            }
            writing.write(&bytes).await?;
        }
        let size = writing.size();
        Ok((writing.finish().await?, size))
    }

    /// The key of a file of this server.
    pub(crate) fn our_key(&self, media_id: &str) -> (String, String) {
        (self.inner.config.server_name.to_string(), media_id.to_owned())
    }

    fn uri(&self, media_id: &str) -> OwnedMxcUri {
        format!("mxc://{}/{media_id}", self.inner.config.server_name).into()
    }
}

/// Why bytes could not be kept.
pub(crate) enum Keeping {
    TooLarge,
    Interrupted(String),
    Failed(MediaError),
}

impl From<MediaError> for Keeping {
    fn from(error: MediaError) -> Self {
        Self::Failed(error)
    }
}

fn new_id() -> String {
    rand::rng().sample_iter(Alphanumeric).take(ID_LEN).map(char::from).collect()
}
