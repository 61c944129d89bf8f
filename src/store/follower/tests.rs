use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    Family, MemoryEngine, Table,
    faults::{Fault, FaultyEngine},
};

const DONE: Table<u64, String> = Table::new(0x00f8, "done", Family::Main);

async fn write(store: &Store, number: u64) {
    let mut batch = Batch::new();
    batch.log(1, number.to_string());
    store.commit(batch).await.unwrap();
}

/// Does the work of up to `limit` rows: copies each into a table where it must not be yet.
async fn work(store: &Store, follower: &mut Follower, limit: usize) -> Result<(), StoreError> {
    let rows = follower.next(limit).await?;
    let mut batch = Batch::new();
    for row in &rows {
        let text = String::from_utf8(row.payload.to_vec()).unwrap();
        let number = text.parse().unwrap();
        batch.expect(&DONE, &number, None);
        batch.put(&DONE, &number, &text);
    }
    follower.advance(&mut batch, rows.last().unwrap());
    store.commit(batch).await.map(drop)
}

#[tokio::test]
async fn each_row_is_done_once_whatever_commit_fails() {
    for fault in [Fault::BeforeWrite, Fault::AfterWrite] {
        for commits in 0..4 {
            let inner = Arc::new(MemoryEngine::new());
            let store = Store::with_engine(Arc::<MemoryEngine>::clone(&inner));
            for number in 0..10 {
                write(&store, number).await;
            }
            let faulty = FaultyEngine::new(Arc::<MemoryEngine>::clone(&inner), commits, fault);
            let broken = Store::with_engine(Arc::new(faulty));
            let mut follower = Follower::new(broken.clone(), "copier").await.unwrap();
            while work(&broken, &mut follower, 3).await.is_ok() {}
            assert!(broken.failed().borrow().is_some());

            let mut follower = Follower::new(store.clone(), "copier").await.unwrap();
            while follower.position() < Position::new(10) {
                work(&store, &mut follower, 3).await.unwrap();
            }
            let done = store.scan(&DONE, DONE.all(), crate::Page::first(99)).await.unwrap();
            assert_eq!(done.len(), 10, "{fault:?} after {commits} commits");
        }
    }
}

#[tokio::test]
async fn a_follower_waits_for_rows_and_returns_them_again_until_it_advances() {
    let store = Store::memory();
    let mut follower = Follower::new(store.clone(), "one").await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(10), follower.next(5)).await;
    assert!(waited.is_err());
    write(&store, 1).await;
    write(&store, 2).await;
    let first = follower.next(5).await.unwrap();
    assert_eq!(first, follower.next(5).await.unwrap());
    let mut batch = Batch::new();
    follower.advance(&mut batch, &first[0]);
    let second = follower.next(5).await.unwrap();
    assert_eq!(second, first[1..]);
    follower.rewind().await.unwrap();
    assert_eq!(first, follower.next(5).await.unwrap());
    let late = Follower::starting_after(store.clone(), "late", store.position()).await.unwrap();
    assert_eq!(late.position(), store.position());
}
