use super::*;

const OUTBOX: Outbox<String, String> = Outbox::new(0x00f9, 0x00fa, "test_outbox");
const BACKOFF: Backoff = Backoff { first_ms: 1_000, longest_ms: 60_000 };

fn name(text: &str) -> String {
    text.to_owned()
}

#[tokio::test]
async fn items_wait_in_order_until_they_are_removed() {
    let store = Store::memory();
    for commit in 0..3 {
        let mut batch = Batch::new();
        for item in 0..2 {
            OUTBOX.push(&mut batch, &name("one.example"), &format!("{commit}.{item}"));
        }
        OUTBOX.push(&mut batch, &name("two.example"), &format!("{commit}"));
        store.commit(batch).await.unwrap();
    }
    let items = OUTBOX.peek(&store, &name("one.example"), 4).await.unwrap();
    let values: Vec<_> = items.iter().map(|item| item.value.as_str()).collect();
    assert_eq!(values, ["0.0", "0.1", "1.0", "1.1"]);
    let mut batch = Batch::new();
    OUTBOX.remove(&mut batch, &name("one.example"), &items);
    store.commit(batch).await.unwrap();
    let items = OUTBOX.peek(&store, &name("one.example"), 4).await.unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(OUTBOX.peek(&store, &name("two.example"), 9).await.unwrap().len(), 3);
}

#[tokio::test]
async fn destinations_are_those_with_items() {
    let store = Store::memory();
    let mut batch = Batch::new();
    for destination in ["b", "a", "ab", "c"] {
        for _ in 0..3 {
            OUTBOX.push(&mut batch, &name(destination), &name("x"));
        }
    }
    store.commit(batch).await.unwrap();
    let items = OUTBOX.peek(&store, &name("b"), 9).await.unwrap();
    let mut batch = Batch::new();
    OUTBOX.remove(&mut batch, &name("b"), &items);
    store.commit(batch).await.unwrap();
    assert_eq!(OUTBOX.destinations(&store, None, 9).await.unwrap(), ["a", "ab", "c"]);
    assert_eq!(OUTBOX.destinations(&store, Some(&name("a")), 1).await.unwrap(), ["ab"]);
}

#[tokio::test]
async fn retry_times_are_kept_and_forgotten_with_success() {
    let store = Store::memory();
    let destination = name("one.example");
    let mut retry = OUTBOX.retry(&store, &destination).await.unwrap();
    assert_eq!(retry, Retry::default());
    for _ in 0..2 {
        retry = retry.after_failure(10_000, BACKOFF);
    }
    assert_eq!(retry, Retry { failures: 2, not_before_ms: 12_000 });
    let mut batch = Batch::new();
    OUTBOX.set_retry(&mut batch, &destination, retry);
    store.commit(batch).await.unwrap();
    assert_eq!(OUTBOX.retry(&store, &destination).await.unwrap(), retry);
    let mut batch = Batch::new();
    OUTBOX.remove(&mut batch, &destination, &[]);
    store.commit(batch).await.unwrap();
    assert_eq!(OUTBOX.retry(&store, &destination).await.unwrap(), Retry::default());
}

#[test]
fn the_wait_after_failures_has_a_bound() {
    let mut retry = Retry::default();
    for _ in 0..200 {
        retry = retry.after_failure(0, BACKOFF);
        assert!(retry.not_before_ms <= 60_000);
    }
    assert_eq!(retry.not_before_ms, 60_000);
}
