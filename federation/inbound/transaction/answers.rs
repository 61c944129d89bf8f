//! The answers to transactions, kept so that the same one gets the same answer.

use ruma::ServerName;
use store::{Batch, Page, Position, Stamped, Store, StoreError};

use crate::inbound::tables::{ANSWERS, ANSWERS_BY_POSITION};

/// How many answers are kept for each origin. A server sends one transaction at a time, and the
/// same one until it is answered.
const KEPT_MAX: usize = 16;

/// How many old answers are looked for at a time.
const PAGE_LEN: usize = 64;

/// The answer that a transaction got before.
pub(super) async fn given(
    store: &Store,
    origin: &ServerName,
    txn_id: &str,
) -> Result<Option<String>, StoreError> {
    let key = (origin.as_str().to_owned(), txn_id.to_owned());
    Ok(store.get(&ANSWERS, &key).await?.map(|answer| answer.value))
}

/// Keeps the answer to a transaction, and forgets the oldest ones of its origin.
pub(super) async fn keep(
    store: &Store,
    origin: &ServerName,
    txn_id: &str,
    answer: &str,
) -> Result<(), StoreError> {
    let origin = origin.as_str().to_owned();
    let mut batch = Batch::new();
    let range = ANSWERS_BY_POSITION.prefix(&origin);
    let rows = store.scan(&ANSWERS_BY_POSITION, range, Page::first(PAGE_LEN)).await?;
    let too_many = (rows.len() + 1).saturating_sub(KEPT_MAX);
    for (key, old) in rows.into_iter().take(too_many) {
        batch.delete(&ANSWERS, &(origin.clone(), old));
        batch.delete(&ANSWERS_BY_POSITION, &key);
    }
    let stamped = Stamped::pending(answer.to_owned());
    batch.put(&ANSWERS, &(origin.clone(), txn_id.to_owned()), &stamped);
    batch.put(&ANSWERS_BY_POSITION, &(origin, Position::PENDING), &txn_id.to_owned());
    store.commit(batch).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[tokio::test]
    async fn the_newest_answers_of_each_origin_are_kept() {
        let store = Store::memory();
        let (one, two) = (server_name!("one.test"), server_name!("two.test"));
        keep(&store, two, "0", "two's").await.unwrap();
        for number in 0..40 {
            keep(&store, one, &number.to_string(), &format!("answer {number}")).await.unwrap();
        }
        let answer = async |origin, txn: &str| given(&store, origin, txn).await.unwrap();
        assert_eq!(answer(one, "39").await.as_deref(), Some("answer 39"));
        assert_eq!(answer(one, "24").await.as_deref(), Some("answer 24"));
        assert_eq!(answer(one, "23").await, None);
        assert_eq!(answer(two, "0").await.as_deref(), Some("two's"));
        assert_eq!(answer(two, "39").await, None);
        let rows = store.scan(&ANSWERS, ANSWERS.all(), Page::first(100)).await.unwrap();
        assert_eq!(rows.len(), KEPT_MAX + 1);
    }
}
