//! Bytes in a directory, each file under its hash: what is there twice is kept once, and nothing
//! half-written is ever seen.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use rand::{Rng as _, distr::Alphanumeric};
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::{self, File},
    io::AsyncWriteExt as _,
};

use crate::error::Result;

/// The directory of what is being written.
const UNFINISHED: &str = "unfinished";

/// Characters in the name of an unfinished file.
const NAME_LEN: usize = 24;

/// The directory with all bytes.
#[derive(Debug)]
pub(crate) struct Blobs {
    root: PathBuf,
}

/// Bytes on their way into the directory. Dropped before the end, they are removed.
#[derive(Debug)]
pub(crate) struct Writing {
    root: PathBuf,
    unfinished: Unfinished,
    file: File,
    hasher: Sha256,
    size: u64,
}

/// A file that is removed when this is dropped.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is gone when it was finished; else what stays is removed at the next start.
        drop(std::fs::remove_file(&self.0));
    }
}

impl Blobs {
    /// Opens the directory, and removes what an earlier process did not finish.
    pub(crate) async fn open(root: PathBuf) -> Result<Self> {
        let unfinished = root.join(UNFINISHED);
        match fs::remove_dir_all(&unfinished).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        fs::create_dir_all(&unfinished).await?;
        Ok(Self { root })
    }

    /// Begins to write.
    pub(crate) async fn begin(&self) -> Result<Writing> {
        let name: String =
            rand::rng().sample_iter(Alphanumeric).take(NAME_LEN).map(char::from).collect();
        let path = self.root.join(UNFINISHED).join(name);
        let file = File::create_new(&path).await?;
        let unfinished = Unfinished(path);
        let root = self.root.clone();
        Ok(Writing { root, unfinished, file, hasher: Sha256::new(), size: 0 })
    }

    /// Opens the bytes of a hash.
    pub(crate) async fn read(&self, hash: &str) -> Result<File> {
        Ok(File::open(path(&self.root, hash)).await?)
    }

    /// Where the bytes of a hash are.
    pub(crate) fn path(&self, hash: &str) -> PathBuf {
        path(&self.root, hash)
    }
}

impl Writing {
    /// How many bytes came so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).await?;
        self.hasher.update(bytes);
        self.size = self.size.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Puts the bytes in their place; they are safe on disk when this returns. Gives their hash.
    pub(crate) async fn finish(mut self) -> Result<String> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let mut hash = String::with_capacity(64);
        for byte in self.hasher.finalize() {
            // Writing to a string can't fail.
            let _ = write!(hash, "{byte:02x}");
        }
        let target = path(&self.root, &hash);
        let Some(folder) = target.parent().map(Path::to_owned) else { return Ok(hash) };
        fs::create_dir_all(&folder).await?;
        fs::rename(&self.unfinished.0, &target).await?;
        let changed = [Some(folder.as_path()), folder.parent(), Some(self.root.as_path())];
        for directory in changed.into_iter().flatten() {
            File::open(directory).await?.sync_all().await?;
        }
        Ok(hash)
    }
}

/// Two levels of folders, so that none gets too large.
fn path(root: &Path, hash: &str) -> PathBuf {
    let (first, rest) = hash.split_at_checked(2).unwrap_or((hash, ""));
    let (second, rest) = rest.split_at_checked(2).unwrap_or((rest, ""));
    root.join(first).join(second).join(rest)
}
