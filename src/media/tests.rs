use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use clock::ManualClock;
use futures_util::{StreamExt as _, stream};
use image::{DynamicImage, ImageFormat, RgbImage};
use ruma::{ServerName, UserId, server_name, user_id};
use store::Store;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

use crate::{
    File, Fit, Media, MediaConfig, MediaError, NewFile, PROMISE_LIFETIME_MS, Remote, RemoteFile,
    RemoteResult, Thumbnail,
};

const NOW: Duration = Duration::ZERO;

/// Another server, which gives the same file for every ID and counts how often.
#[derive(Debug, Default)]
struct Elsewhere {
    asked: AtomicUsize,
    bytes: usize,
}

#[async_trait]
impl Remote for Elsewhere {
    async fn download(&self, _: &ServerName, _: &str, _: u64) -> RemoteResult<RemoteFile> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let bytes = Bytes::from(vec![7; self.bytes]);
        let body = stream::iter([Ok(bytes)]).boxed();
        Ok(RemoteFile { content_type: Some("image/png".to_owned()), filename: None, body })
    }
}

struct Home {
    media: Media,
    clock: Arc<ManualClock>,
    elsewhere: Arc<Elsewhere>,
    directory: TempDir,
    store: Store,
}

async fn home(bytes: usize) -> Home {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = Arc::new(Elsewhere { bytes, ..Elsewhere::default() });
    let clock = Arc::new(ManualClock::new(1));
    let store = Store::memory();
    let config = MediaConfig {
        server_name: server_name!("home.example").to_owned(),
        directory: directory.path().join("media"),
        upload_bytes_max: 100_000,
        remote_bytes_max: 1_000,
        remote: Arc::clone(&elsewhere) as _,
    };
    let media = Media::open(store.clone(), config, Arc::clone(&clock) as _).await.unwrap();
    Home { media, clock, elsewhere, directory, store }
}

fn alice() -> &'static UserId {
    user_id!("@alice:home.example")
}

fn body(bytes: &[u8]) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Unpin {
    let chunks: Vec<_> =
        bytes.chunks(1000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks)
}

async fn upload(home: &Home, bytes: &[u8]) -> String {
    let uri = home.media.upload(alice(), NewFile::default(), body(bytes)).await.unwrap();
    uri.as_str().rsplit('/').next().unwrap().to_owned()
}

async fn read(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.bytes.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn a_file_comes_back_as_it_was() {
    let home = home(0).await;
    let bytes: Vec<u8> = (0..50_000_u32).map(|n| n as u8).collect();
    let file = NewFile {
        content_type: Some("text/plain".to_owned()),
        filename: Some("pond.txt".to_owned()),
    };
    let uri = home.media.upload(alice(), file, body(&bytes)).await.unwrap();
    let (server, id) = uri.parts().unwrap();
    let file = home.media.download(server, id, NOW).await.unwrap();
    assert_eq!(file.size, 50_000);
    assert_eq!(file.content_type.as_deref(), Some("text/plain"));
    assert_eq!(file.filename.as_deref(), Some("pond.txt"));
    assert_eq!(read(file).await, bytes);
}

#[tokio::test]
async fn what_is_too_large_or_interrupted_leaves_nothing() {
    let home = home(0).await;
    let refused = home.media.upload(alice(), NewFile::default(), body(&[1; 100_001])).await;
    assert!(matches!(refused, Err(MediaError::TooLarge { bytes_max: 100_000 })), "{refused:?}");
    let cut = stream::iter([Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("gone"))]);
    let refused = home.media.upload(alice(), NewFile::default(), cut).await;
    assert!(matches!(refused, Err(MediaError::Interrupted { .. })), "{refused:?}");
    let unfinished = home.directory.path().join("media/unfinished");
    assert_eq!(std::fs::read_dir(unfinished).unwrap().count(), 0);
}

#[tokio::test]
async fn what_was_left_half_written_is_removed_at_the_start() {
    let home = home(0).await;
    let left = home.directory.path().join("media/unfinished/left");
    std::fs::write(&left, "half").unwrap();
    let config = home.media.inner.config.clone();
    Media::open(home.store.clone(), config, home.clock.clone()).await.unwrap();
    assert!(!left.exists());
}

#[tokio::test]
async fn an_announced_file_is_waited_for_and_comes_once() {
    let home = home(0).await;
    let promise = home.media.promise(alice()).await.unwrap();
    let (server, id) = promise.uri.parts().unwrap();
    let missing = home.media.download(server, id, NOW).await;
    assert!(matches!(missing, Err(MediaError::NotYetUploaded)), "{missing:?}");
    let waiting = tokio::spawn({
        let (media, server, id) = (home.media.clone(), server.to_owned(), id.to_owned());
        async move { media.download(&server, &id, Duration::from_secs(60)).await }
    });
    let send = async |user: &UserId| {
        home.media.keep_promise(user, server, id, NewFile::default(), body(b"toad")).await
    };
    let refused = send(user_id!("@bob:home.example")).await;
    assert!(matches!(refused, Err(MediaError::Forbidden { .. })), "{refused:?}");
    send(alice()).await.unwrap();
    assert_eq!(read(waiting.await.unwrap().unwrap()).await, b"toad");
    assert!(matches!(send(alice()).await, Err(MediaError::Taken)));
}

#[tokio::test]
async fn an_announcement_ends() {
    let home = home(0).await;
    let promise = home.media.promise(alice()).await.unwrap();
    let (server, id) = promise.uri.parts().unwrap();
    home.clock.advance(PROMISE_LIFETIME_MS);
    let late = home.media.keep_promise(alice(), server, id, NewFile::default(), body(b"")).await;
    assert!(matches!(late, Err(MediaError::Forbidden { .. })), "{late:?}");
    for _ in 0..100 {
        home.media.promise(alice()).await.unwrap();
    }
    let more = home.media.promise(alice()).await;
    assert!(matches!(more, Err(MediaError::TooManyPromises)), "{more:?}");
}

#[tokio::test]
async fn a_file_of_another_server_is_fetched_once_for_all() {
    let home = home(500).await;
    let other = server_name!("other.example");
    let wait = Duration::from_secs(60);
    let all = (0..10).map(|_| home.media.download(other, "abc", wait));
    for file in futures_util::future::join_all(all).await {
        assert_eq!(read(file.unwrap()).await, vec![7; 500]);
    }
    assert_eq!(home.elsewhere.asked.load(Ordering::SeqCst), 1);
    for bad in ["", "../etc", "a/b", "a.b"] {
        let refused = home.media.download(other, bad, wait).await;
        assert!(matches!(refused, Err(MediaError::NotFound)), "{bad}: {refused:?}");
    }
}

#[tokio::test]
async fn a_file_of_another_server_that_never_ends_is_refused() {
    let home = home(1_001).await;
    let other = server_name!("other.example");
    let refused = home.media.download(other, "abc", Duration::from_secs(60)).await;
    assert!(matches!(refused, Err(MediaError::RemoteTooLarge { .. })), "{refused:?}");
}

#[tokio::test]
async fn thumbnails_are_made_in_few_sizes_and_never_larger_than_the_picture() {
    let home = home(0).await;
    let mut png = std::io::Cursor::new(Vec::new());
    let picture = DynamicImage::from(RgbImage::new(1000, 500));
    picture.write_to(&mut png, ImageFormat::Png).unwrap();
    let id = upload(&home, png.get_ref()).await;
    let make = async |width, height, fit| {
        let file =
            home.media.thumbnail_ours(&id, Thumbnail { width, height, fit }, NOW).await.unwrap();
        let made = image::load_from_memory(&read(file).await).unwrap();
        (made.width(), made.height())
    };
    assert_eq!(make(300, 200, Fit::Scale).await, (320, 160));
    assert_eq!(make(40, 40, Fit::Crop).await, (96, 96));
    assert_eq!(make(5000, 5000, Fit::Scale).await, (1000, 500));
    let text = upload(&home, b"no picture").await;
    let wanted = Thumbnail { width: 96, height: 96, fit: Fit::Crop };
    let refused = home.media.thumbnail_ours(&text, wanted, NOW).await;
    assert!(matches!(refused, Err(MediaError::NoPicture { .. })), "{refused:?}");
    let none = Thumbnail { width: 0, height: 96, fit: Fit::Crop };
    assert!(home.media.thumbnail_ours(&id, none, NOW).await.is_err());
}
