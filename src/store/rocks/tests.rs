use std::sync::Mutex;

use async_trait::async_trait;
use tempfile::TempDir;

use super::*;
use crate::{Store, Table, conformance};

const ROWS: Table<u64, Vec<u8>> = Table::new(0x00f5, "rows", Family::Events);

/// Small, so that reads go to disk; and without sync, which is not tested by writing slowly.
const OPTIONS: RocksOptions = RocksOptions { cache_mib: 8, sync_writes: false };

/// Makes stores in directories of their own.
#[derive(Default)]
struct Rig {
    directories: Mutex<Vec<TempDir>>,
}

impl Rig {
    fn directory(&self) -> std::path::PathBuf {
        self.directories.lock().unwrap().last().unwrap().path().join("new").join("store")
    }
}

#[async_trait]
impl conformance::Rig for Rig {
    async fn fresh(&self) -> Result<Store, StoreError> {
        self.directories.lock().unwrap().push(TempDir::new().unwrap());
        Store::open_rocks(&self.directory(), OPTIONS).await
    }

    async fn reopen(&self, store: Store) -> Result<Store, StoreError> {
        drop(store);
        Store::open_rocks(&self.directory(), OPTIONS).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_rocks_engine_conforms() {
    conformance::run(&Rig::default()).await.unwrap();
}

#[tokio::test]
async fn a_second_opener_is_refused_with_a_sentence() {
    let directory = TempDir::new().unwrap();
    let store = Store::open_rocks(directory.path(), OPTIONS).await.unwrap();
    let error = Store::open_rocks(directory.path(), OPTIONS).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("is in use by another process"), "{error}");
    store.close().await.unwrap();
    drop(store);
    Store::open_rocks(directory.path(), OPTIONS).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_can_not_be_made_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Store::open_rocks(&file.path().join("store"), OPTIONS).await.unwrap_err();
    assert!(matches!(error, StoreError::Engine { .. }), "{error}");
}

/// Fills a store so that its rows are in files, and closes it.
async fn fill(directory: &Path) {
    let store = Store::open_rocks(directory, OPTIONS).await.unwrap();
    let mut batch = Batch::new();
    for number in 0..500_u64 {
        let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        batch.put(&ROWS, &number, &noise.repeat(40));
    }
    store.commit(batch).await.unwrap();
    store.close().await.unwrap();
}

fn files(directory: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

#[tokio::test]
async fn cold_reads_go_to_disk_and_find_everything() {
    let directory = TempDir::new().unwrap();
    fill(directory.path()).await;
    let store = Store::open_rocks(directory.path(), OPTIONS).await.unwrap();
    let keys = [3, 1_000, 499, 0];
    let found = store.multi_get(&ROWS, &keys).await.unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true]);
    let rows = store.scan(&ROWS, ROWS.all(), Page::last(2)).await.unwrap();
    assert_eq!(rows.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [499, 498]);
    assert!(store.health().await.unwrap().disk_bytes.unwrap() > 1_000);
    let snapshot = store.snapshot().await.unwrap();
    assert!(snapshot.get(&ROWS, &250).await.unwrap().is_some());
}

#[tokio::test]
async fn rows_are_whole_where_only_some_blocks_are_in_memory() {
    let directory = TempDir::new().unwrap();
    fill(directory.path()).await;
    let store = Store::open_rocks(directory.path(), OPTIONS).await.unwrap();
    // Brings the index and the first block into memory; RocksDB says nothing of the others then.
    assert!(store.get(&ROWS, &0).await.unwrap().is_some());
    let found = store.multi_get(&ROWS, &[0, 250, 499]).await.unwrap();
    let lengths: Vec<_> = found.iter().map(|row| row.as_ref().map(Vec::len)).collect();
    assert_eq!(lengths, [Some(320); 3]);
}

#[tokio::test]
async fn a_damaged_file_poisons_the_store() {
    let directory = TempDir::new().unwrap();
    fill(directory.path()).await;
    let size = |path: &std::path::PathBuf| fs::metadata(path).unwrap().len();
    let largest = files(directory.path(), "sst").into_iter().max_by_key(size).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    bytes[100..164].fill(0x55);
    fs::write(&largest, bytes).unwrap();
    let store = Store::open_rocks(directory.path(), OPTIONS).await.unwrap();
    let result = store.scan(&ROWS, ROWS.all(), Page::first(1_000)).await;
    let error = result.map(|rows| rows.len()).unwrap_err();
    assert!(matches!(error, StoreError::Failed { .. }), "{error}");
    assert!(store.failed().borrow().as_deref().unwrap().contains("damaged"));
    let mut batch = Batch::new();
    batch.put(&ROWS, &1, &vec![]);
    assert_eq!(store.commit(batch).await, Err(error.clone()));
    assert_eq!(store.get(&ROWS, &1).await, Err(error));
}

#[tokio::test]
async fn what_was_synced_survives_a_torn_end_of_the_log() {
    let directory = TempDir::new().unwrap();
    let copy = TempDir::new().unwrap();
    let store = Store::open_rocks(directory.path(), OPTIONS).await.unwrap();
    let put = |number: u64| {
        let mut batch = Batch::new();
        batch.put(&ROWS, &number, &vec![7; 100]);
        batch.log(1, number.to_string());
        batch
    };
    for number in 0..10 {
        store.commit(put(number)).await.unwrap();
    }
    // As the files would be found after the machine stopped: the last commit is half there.
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let mut logs = files(copy.path(), "log");
    logs.sort();
    let last = logs.pop().unwrap();
    let length = fs::metadata(&last).unwrap().len();
    fs::OpenOptions::new().write(true).open(&last).unwrap().set_len(length - 20).unwrap();

    let torn = Store::open_rocks(copy.path(), OPTIONS).await.unwrap();
    assert_eq!(torn.position().next(), store.position(), "one whole commit is missing");
    let rows = torn.scan(&ROWS, ROWS.all(), Page::first(99)).await.unwrap();
    assert_eq!(rows.len(), 9);
    assert_eq!(torn.read_log(Position::ZERO, 99).await.unwrap().len(), 9);
    assert_eq!(torn.commit(put(9)).await.unwrap(), store.position());
}
