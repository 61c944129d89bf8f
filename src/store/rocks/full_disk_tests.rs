//! A disk that takes no more: this test program starts itself again, with a limit on file sizes.

use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::{Batch, Family, Page, Position, RocksOptions, Store, StoreError, Table};

/// Tells the limited program where its store is.
const DIRECTORY: &str = "NATTERJACK_STORE_FULL_DISK_TEST";
/// Told on its standard output.
const ACKNOWLEDGED: &str = "commits were acknowledged: ";

const ROWS: Table<u64, Vec<u8>> = Table::new(0x00e4, "full_disk_rows", Family::Events);

async fn open(directory: &std::path::Path) -> Store {
    Store::open_rocks(directory, RocksOptions { cache_mib: 8, sync_writes: true }).await.unwrap()
}

fn batch(number: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put(&ROWS, &number, &vec![7; 100_000]);
    batch.log(1, number.to_string());
    batch
}

#[tokio::test]
#[ignore = "needs a limit on file sizes, which the test below sets"]
async fn writes_until_the_disk_is_full() {
    let directory = PathBuf::from(std::env::var(DIRECTORY).unwrap());
    let store = open(&directory).await;
    let mut failed = store.failed();
    let mut tail = store.tail(Position::new(1_000_000));
    let waiting = tokio::spawn(async move { tail.next().await.map(|rows| rows.len()) });
    let mut number = 0;
    let error = loop {
        match store.commit(batch(number)).await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Failed { .. }), "{error}");
    failed.wait_for(Option::is_some).await.unwrap();
    assert_eq!(store.get(&ROWS, &0).await, Err(error.clone()), "it answers nothing any more");
    assert_eq!(store.commit(batch(0)).await, Err(error.clone()));
    assert_eq!(store.health().await, Err(error.clone()));
    assert_eq!(waiting.await.unwrap(), Err(error), "who waits is told");
    println!("{ACKNOWLEDGED}{number}");
}

#[tokio::test]
async fn a_full_disk_stops_the_store_and_loses_nothing_acknowledged() {
    let directory = TempDir::new().unwrap();
    let output = Command::new("sh")
        .args(["-c", "ulimit -f 4000; trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["rocks::full_disk_tests::writes_until_the_disk_is_full", "--exact", "--ignored"])
        .arg("--nocapture")
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let acknowledged = said.lines().find_map(|line| line.split_once(ACKNOWLEDGED));
    let acknowledged: usize = acknowledged.map(|(_, count)| count.parse().unwrap()).unwrap();
    assert!(output.status.success() && acknowledged > 5, "{said}");

    let store = open(directory.path()).await;
    let rows = store.scan(&ROWS, ROWS.all(), Page::first(usize::MAX)).await.unwrap();
    let log = store.read_log(Position::ZERO, usize::MAX).await.unwrap();
    assert!(rows.iter().map(|(number, _)| *number).eq(0..u64::try_from(rows.len()).unwrap()));
    assert_eq!(rows.len(), log.len());
    // The commit that failed may be there or not: its caller was told that nobody knows.
    assert!(rows.len() == acknowledged || rows.len() == acknowledged + 1, "{}", rows.len());
    store.commit(batch(1_000)).await.unwrap();
}
