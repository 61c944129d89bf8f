use std::collections::HashMap;

use async_trait::async_trait;

use super::*;
use crate::{Family, Json, Writer, conformance};

/// JSON has no map whose keys are pairs.
type Unwritable = Json<HashMap<(u8, u8), u8>>;

const JSON: Table<u64, Unwritable> = Table::new(0x00fd, "json", Family::Main);
const TEXT: Table<u64, String> = Table::new(0x00fd, "text", Family::Main);
const BLOB: Table<u64, Vec<u8>> = Table::new(0x00fe, "blob", Family::Events);

/// Makes stores in memory, which outlive their handles.
struct Memory;

#[async_trait]
impl conformance::Rig for Memory {
    async fn fresh(&self) -> Result<Store, StoreError> {
        Store::open(Arc::new(MemoryEngine::new())).await
    }

    async fn reopen(&self, store: Store) -> Result<Store, StoreError> {
        Store::open(store.engine).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_memory_engine_conforms() {
    conformance::run(&Memory).await.unwrap();
}

#[tokio::test]
async fn what_has_no_stored_form_is_refused() {
    let store = Store::memory();
    let mut batch = Batch::new();
    batch.put(&TEXT, &1, &"x".to_owned());
    batch.put(&JSON, &2, &Json(HashMap::from([((1, 2), 3)])));
    let error = store.commit(batch).await.unwrap_err();
    assert!(matches!(error, StoreError::Encode { .. }), "{error}");
    assert_eq!(store.get(&TEXT, &1).await.unwrap(), None);
    let mut out = Writer::new();
    out.fail("no");
    assert!(out.into_bytes().is_err());
}

#[tokio::test]
async fn a_row_of_another_type_is_an_error_that_names_the_table() {
    let store = Store::memory();
    let mut batch = Batch::new();
    batch.put(&TEXT, &1, &"no JSON".to_owned());
    store.commit(batch).await.unwrap();
    let error = store.get(&JSON, &1).await.unwrap_err();
    assert!(error.to_string().contains("a value in table json"), "{error}");
}

#[tokio::test]
async fn a_batch_beyond_the_bound_is_refused() {
    let store = Store::memory();
    let mut batch = Batch::new();
    for number in 0..65 {
        batch.put(&BLOB, &number, &vec![0; 1024 * 1024]);
    }
    let error = store.commit(batch).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn an_extended_batch_does_what_both_would() {
    let store = Store::memory();
    let (mut one, mut other) = (Batch::new(), Batch::new());
    one.put(&TEXT, &1, &"one".to_owned());
    one.log(1, "first");
    other.put(&TEXT, &1, &"other".to_owned());
    other.expect(&TEXT, &1, None);
    other.log(1, "second");
    one.extend(other);
    let position = store.commit(one).await.unwrap();
    assert_eq!(store.get(&TEXT, &1).await.unwrap().as_deref(), Some("other"));
    let rows = store.read_log(Position::ZERO, 9).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.position, row.index)).collect::<Vec<_>>(),
        [(position, 0), (position, 1)]
    );
}
