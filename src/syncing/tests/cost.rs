//! What a sync costs where there is nothing new.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use store::{
    Batch, Engine, Family, KeyRange, MemoryEngine, Page, Poison, Position, Reads, Recent, RowBytes,
    Snapshot, Store, StoreError,
};

use super::{Home, client::Client, user};

/// Counts what is read from another engine.
#[derive(Debug)]
struct Counting {
    inner: MemoryEngine,
    reads: Arc<AtomicU64>,
}

impl Counting {
    fn count(&self) {
        self.reads.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Reads for Counting {
    async fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.count();
        self.inner.get(family, key).await
    }

    async fn multi_get(
        &self,
        family: Family,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.count();
        self.inner.multi_get(family, keys).await
    }

    async fn scan(
        &self,
        family: Family,
        range: &KeyRange,
        page: Page,
    ) -> Result<Vec<RowBytes>, StoreError> {
        self.count();
        self.inner.scan(family, range, page).await
    }
}

#[async_trait]
impl Engine for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    async fn commit(&self, batch: Batch) -> Result<Position, StoreError> {
        self.inner.commit(batch).await
    }

    fn recent(&self) -> &Arc<Recent> {
        self.inner.recent()
    }

    fn poison(&self) -> &Arc<Poison> {
        self.inner.poison()
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.inner.snapshot().await
    }

    async fn disk_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.inner.disk_bytes().await
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}

#[tokio::test]
async fn an_empty_sync_reads_nothing() {
    let reads = Arc::new(AtomicU64::new(0));
    let engine = Counting { inner: MemoryEngine::new(), reads: Arc::clone(&reads) };
    let home = Home::on(Store::with_engine(Arc::new(engine))).await;
    let (alice, bob) = (user("alice"), user("bob"));
    for _ in 0..20 {
        let room = home.room(&alice).await;
        home.join(&bob, &room).await.unwrap();
    }
    let mut client = Client::new(&bob, json!({}));
    client.sync(&home).await;
    // What others do elsewhere does not matter.
    home.room(&alice).await;
    home.syncing.position().await;
    let before = reads.load(Ordering::SeqCst);
    let response = client.sync(&home).await;
    assert!(response.rooms.is_empty());
    assert_eq!(reads.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn one_event_costs_the_same_in_one_room_and_in_fifty() {
    let mut costs = Vec::new();
    for others in [0, 50] {
        let reads = Arc::new(AtomicU64::new(0));
        let engine = Counting { inner: MemoryEngine::new(), reads: Arc::clone(&reads) };
        let home = Home::on(Store::with_engine(Arc::new(engine))).await;
        let alice = user("alice");
        let room = home.room(&alice).await;
        for _ in 0..others {
            home.room(&alice).await;
        }
        let mut client = Client::new(&alice, json!({}));
        client.sync(&home).await;
        home.say(&alice, &room, "hi").await;
        home.syncing.position().await;
        let before = reads.load(Ordering::SeqCst);
        let response = client.sync(&home).await;
        assert_eq!(response.rooms.join.len(), 1);
        costs.push(reads.load(Ordering::SeqCst) - before);
    }
    assert_eq!(costs[0], costs[1]);
}
