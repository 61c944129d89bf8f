use super::*;
use crate::MemoryEngine;

fn row(position: u64, index: u32, size: usize) -> LogEntry {
    LogEntry { position: Position::new(position), index, topic: 1, payload: vec![0; size].into() }
}

#[test]
fn memory_reaches_back_only_so_far() {
    let recent = Recent::new(Position::new(5));
    let place = |position| LogPlace::after(Position::new(position));
    assert!(recent.after(place(4)).is_none());
    assert!(recent.after(place(5)).unwrap().is_empty());
    recent.publish(Position::new(6), vec![]);
    assert!(recent.after(place(5)).unwrap().is_empty());
    assert_eq!(recent.position(), Position::new(6));
    recent.publish(Position::new(8), vec![row(7, 0, 9), row(7, 1, 9), row(8, 0, 9)]);
    recent.publish(Position::new(9), vec![]);
    recent.publish(Position::new(10), vec![row(10, 0, 9)]);
    assert_eq!(recent.position(), Position::new(10));
    assert_eq!(recent.after(place(5)).unwrap().len(), 3);
    assert_eq!(recent.after(place(6)).unwrap().len(), 3);
    let middle = LogPlace { position: Position::new(7), index: 0 };
    assert_eq!(recent.after(middle).unwrap()[..], [row(7, 1, 9), row(8, 0, 9)]);
    assert_eq!(recent.read(middle, 9).unwrap(), [row(7, 1, 9), row(8, 0, 9), row(10, 0, 9)]);
    assert_eq!(recent.read(middle, 1).unwrap(), [row(7, 1, 9)]);
    assert_eq!(recent.after(place(8)).unwrap()[..], [row(10, 0, 9)]);
    assert!(recent.after(place(9)).unwrap().len() == 1);
    assert!(recent.after(place(10)).unwrap().is_empty());
}

#[test]
fn memory_forgets_the_oldest_beyond_its_bounds() {
    let recent = Recent::new(Position::ZERO);
    for position in 1..=40 {
        recent.publish(Position::new(position), vec![row(position, 0, 1024 * 1024)]);
    }
    assert!(recent.after(LogPlace::after(Position::new(31))).is_none());
    assert_eq!(recent.read(LogPlace::after(Position::new(32)), 100).unwrap().len(), 8);
}

#[tokio::test]
async fn a_slow_tail_falls_back_to_disk_and_loses_nothing() {
    let store = Store::memory();
    let mut tail = store.tail(Position::ZERO);
    for number in 0..20_u32 {
        let mut batch = Batch::new();
        batch.log(1, [&number.to_be_bytes()[..], &vec![0; 1024 * 1024]].concat());
        batch.log(2, number.to_be_bytes().to_vec());
        store.commit(batch).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 40 {
        seen.extend(tail.next().await.unwrap().iter().cloned());
    }
    for (number, pair) in seen.chunks(2).enumerate() {
        let number = u32::try_from(number).unwrap().to_be_bytes();
        assert_eq!(pair[0].payload[..4], number);
        assert_eq!(pair[1].payload[..], number);
    }
}

#[tokio::test]
async fn a_tail_ends_with_the_failure_of_the_store() {
    let engine = Arc::new(MemoryEngine::new());
    let store = Store::with_engine(Arc::<MemoryEngine>::clone(&engine));
    let mut tail = store.tail(Position::ZERO);
    let waiting = tokio::spawn(async move { tail.next().await });
    tokio::task::yield_now().await;
    engine.poison().fail("the disk is gone");
    let error = StoreError::Failed { reason: "the disk is gone".to_owned() };
    assert_eq!(waiting.await.unwrap().unwrap_err(), error);
    assert_eq!(store.failed().borrow().as_deref(), Some("the disk is gone"));
}

#[tokio::test]
async fn trimming_keeps_what_a_follower_has_not_done() {
    let store = Store::memory();
    let mut follower = crate::Follower::new(store.clone(), "slow").await.unwrap();
    for number in 0..10 {
        let mut batch = Batch::new();
        batch.log(1, number.to_string());
        store.commit(batch).await.unwrap();
    }
    let rows = follower.next(4).await.unwrap();
    let mut batch = Batch::new();
    follower.advance(&mut batch, &rows[3]);
    store.commit(batch).await.unwrap();
    store.trim_log(store.position()).await.unwrap();
    let rows = store.scan(&LOG, LOG.all(), Page::first(100)).await.unwrap();
    assert_eq!(rows.first().unwrap().0.0, Position::new(4));
    assert_eq!(rows.len(), 7);
    assert_eq!(follower.next(100).await.unwrap().len(), 6);
}
