//! What was acknowledged survives SIGKILL: this test program starts itself again, and kills it.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{Batch, Family, Page, Position, RocksOptions, Stamped, Store, Table};

/// Tells the program that it is to be killed, and where its store is.
const DIRECTORY: &str = "NATTERJACK_STORE_KILL_TEST";
const WRITERS: u64 = 8;
const KILLS: u64 = 12;

/// What each writer wrote last.
const LAST: Table<u64, u64> = Table::new(0x00e0, "kill_last", Family::Main);
/// What each writer wrote, and when.
const ROWS: Table<(u64, u64), Stamped<Vec<u8>>> = Table::new(0x00e1, "kill_rows", Family::Events);
/// The same by position.
const ORDER: Table<(Position, u64), u64> = Table::new(0x00e2, "kill_order", Family::Index);

async fn open(directory: &std::path::Path) -> Store {
    Store::open_rocks(directory, RocksOptions { cache_mib: 8, sync_writes: true }).await.unwrap()
}

/// Writes on and on, and says on the standard output what was acknowledged.
async fn write_on(store: Store, writer: u64) {
    let mut number = store.get(&LAST, &writer).await.unwrap().unwrap_or_default();
    loop {
        let before = (number > 0).then_some(number);
        number += 1;
        let mut batch = Batch::new();
        batch.expect(&LAST, &writer, before.as_ref());
        batch.put(&LAST, &writer, &number);
        batch.put(&ROWS, &(writer, number), &Stamped::pending(vec![7; 2_000]));
        batch.put(&ORDER, &(Position::PENDING, writer), &number);
        batch.log(1, format!("{writer} {number}"));
        let position = store.commit(batch).await.unwrap();
        // Straight to the pipe: what the test harness catches would be lost.
        writeln!(std::io::stdout().lock(), "acknowledged {writer} {number} {position}").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs until it is killed, by the test below"]
async fn writes_until_it_is_killed() {
    let directory = PathBuf::from(std::env::var(DIRECTORY).unwrap());
    let store = open(&directory).await;
    let writers = (0..WRITERS).map(|writer| tokio::spawn(write_on(store.clone(), writer)));
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// Runs the writers for a while, kills them, and returns what was acknowledged.
fn run_and_kill(directory: &TempDir, commits: usize) -> Vec<(u64, u64, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["rocks::kill_tests::writes_until_it_is_killed", "--exact", "--ignored"])
        .arg("--nocapture")
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let numbers: Vec<u64> =
            line.split(' ').skip(1).filter_map(|number| number.parse().ok()).collect();
        if let (true, [writer, number, position]) = (line.starts_with("ack"), &numbers[..]) {
            acknowledged.push((*writer, *number, *position));
            if acknowledged.len() == commits {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    acknowledged
}

#[tokio::test]
async fn what_was_acknowledged_survives_being_killed() {
    let directory = TempDir::new().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        let commits = usize::try_from(1 + round * 37 % 150).unwrap();
        acknowledged.extend(run_and_kill(&directory, commits));
        let store = open(directory.path()).await;
        for (writer, number, position) in &acknowledged {
            let row = store.get(&ROWS, &(*writer, *number)).await.unwrap().unwrap();
            assert_eq!(row.position.get(), *position);
            let key = (row.position, *writer);
            assert_eq!(store.get(&ORDER, &key).await.unwrap(), Some(*number));
        }
        let rows = store.scan(&ROWS, ROWS.all(), Page::first(usize::MAX)).await.unwrap();
        let order = store.scan(&ORDER, ORDER.all(), Page::first(usize::MAX)).await.unwrap();
        let log = store.read_log(Position::ZERO, usize::MAX).await.unwrap();
        let rows: BTreeSet<_> =
            rows.iter().map(|((writer, number), row)| (row.position, *writer, *number)).collect();
        let order: Vec<_> = order
            .iter()
            .map(|((position, writer), number)| (*position, *writer, *number))
            .collect();
        assert!(rows.iter().eq(&order), "no batch is half there");
        assert_eq!(log.len(), order.len());
        for (entry, (position, writer, number)) in log.iter().zip(&order) {
            assert_eq!(entry.position, *position);
            assert_eq!(entry.payload, format!("{writer} {number}"));
        }
        assert_eq!(log.last().map(|entry| entry.position), Some(store.position()));
        for writer in 0..WRITERS {
            let own: Vec<_> = order.iter().filter(|row| row.1 == writer).map(|row| row.2).collect();
            assert!(own.iter().copied().zip(1..).all(|(found, right)| found == right));
            let last = store.get(&LAST, &writer).await.unwrap().unwrap_or_default();
            assert_eq!(usize::try_from(last).unwrap(), own.len());
        }
    }
    assert!(acknowledged.len() > 500, "{}", acknowledged.len());
}
