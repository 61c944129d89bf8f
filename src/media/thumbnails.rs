//! Smaller pictures of pictures, made when they are wanted first, and kept.
//!
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#thumbnails)

mod render;

use std::{sync::Arc, time::Duration};

use ruma::ServerName;
use store::{Batch, Json};
use tokio::task::spawn_blocking;

use crate::{
    Media,
    download::File,
    error::{MediaError, Result},
    remote::Thumbnail,
    tables::{FileRow, THUMBNAILS},
};

/// Largest file of which a smaller picture is made, in bytes.
const SOURCE_BYTES_MAX: u64 = 50 * 1024 * 1024;

/// Sizes that are kept, for pictures that keep their shape: width and height.
const SCALED: [(u32, u32); 4] = [(320, 240), (640, 480), (800, 600), (1600, 1200)];

/// Sizes that are kept, for pictures that are cut.
const CROPPED: [(u32, u32); 5] = [(32, 32), (96, 96), (160, 160), (320, 320), (640, 640)];

/// How a picture is made to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It keeps its shape.
    Scale,
    /// It is cut to the shape asked for.
    Crop,
}

impl Media {
    /// A smaller picture of a file. Where the file is no larger than what is wanted, the file
    /// itself.
    ///
    /// # Errors
    /// - As [`Media::download`].
    /// - [`MediaError::NoPicture`], and [`MediaError::TooLarge`] for a picture with too many
    ///   pixels.
    pub async fn thumbnail(
        &self,
        server: &ServerName,
        media_id: &str,
        wanted: Thumbnail,
        wait: Duration,
    ) -> Result<File> {
        let form = form(wanted)?;
        let row = self.find(server, media_id, wait).await?;
        let name = format!("{}x{}-{:?}", form.width, form.height, form.fit);
        let key = (server.to_string(), media_id.to_owned(), name.clone());
        if let Some(Json(made)) = self.inner.store.get(&THUMBNAILS, &key).await? {
            return self.open_file(made).await;
        }
        let _flight = self.inner.flights.enter(format!("{server}/{media_id}/{name}")).await;
        if let Some(Json(made)) = self.inner.store.get(&THUMBNAILS, &key).await? {
            return self.open_file(made).await;
        }
        let made = self.make(&row, form).await?.unwrap_or(row);
        let mut batch = Batch::new();
        batch.put(&THUMBNAILS, &key, &Json(made.clone()));
        self.inner.store.commit(batch).await?;
        self.open_file(made).await
    }

    /// A smaller picture of one of ours, for another server.
    ///
    /// # Errors
    /// As [`Media::thumbnail`].
    pub async fn thumbnail_ours(
        &self,
        media_id: &str,
        wanted: Thumbnail,
        wait: Duration,
    ) -> Result<File> {
        let server = self.inner.config.server_name.clone();
        self.thumbnail(&server, media_id, wanted, wait).await
    }

    /// Makes a smaller picture. `None` where the file is small enough itself.
    async fn make(&self, row: &FileRow, form: Thumbnail) -> Result<Option<FileRow>> {
        if row.size > SOURCE_BYTES_MAX {
            return Err(MediaError::TooLarge { bytes_max: SOURCE_BYTES_MAX });
        }
        let none = |why: &str| MediaError::NoPicture { why: why.to_owned() };
        let Ok(permit) = Arc::clone(&self.inner.thumbnailings).acquire_owned().await else {
            return Err(none("the server is stopping"));
        };
        let path = self.inner.blobs.path(&row.hash);
        let rendered = spawn_blocking(move || {
            // Held to the end, whoever still waits for the picture.
            let _permit = permit;
            render::render(&path, form)
        })
        .await;
        let Some(rendered) = rendered.map_err(|_| none("the picture is broken"))?? else {
            return Ok(None);
        };
        let mut writing = self.inner.blobs.begin().await?;
        writing.write(&rendered.bytes).await?;
        let size = writing.size();
        Ok(Some(FileRow {
            hash: writing.finish().await?,
            size,
            content_type: Some(rendered.content_type.to_owned()),
            filename: Some(format!("thumbnail.{}", rendered.extension)),
            uploader: None,
            created_ms: self.inner.clock.now_ms(),
        }))
    }
}

/// The size that is made: the next one that is kept, so that few are made of one file.
fn form(wanted: Thumbnail) -> Result<Thumbnail> {
    if wanted.width == 0 || wanted.height == 0 {
        return Err(MediaError::Invalid { what: "width and height must be positive" });
    }
    let sizes: &[(u32, u32)] = match wanted.fit {
        Fit::Scale => &SCALED,
        Fit::Crop => &CROPPED,
    };
    let fits = |size: &&(u32, u32)| size.0 >= wanted.width && size.1 >= wanted.height;
    let next = sizes.iter().find(fits).or(sizes.last());
    let (width, height) = next.copied().unwrap_or((wanted.width, wanted.height));
    Ok(Thumbnail { width, height, fit: wanted.fit })
}

/// Counts what is written, and stops what is too long.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len().saturating_add(bytes.len()) > self.bytes_max {
            return Err(std::io::Error::other("the thumbnail is too large"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
