use std::sync::Arc;

use super::*;
use crate::{
    Family, Json, MemoryEngine,
    faults::{Fault, FaultyEngine},
};

/// Version 1: names by number.
const OLD: Table<u64, String> = Table::new(0x00fb, "names_1", Family::Main);
/// Version 2: JSON by name.
const NEW: Table<String, Json<u64>> = Table::new(0x00fc, "names_2", Family::Main);

const STEPS: [Step; 1] = [Step {
    to: 2,
    name: "names become keys",
    run: |store| Box::pin(move_rows(store, &OLD, &NEW, |number, name| Ok((name, Json(*number))))),
}];

async fn old_store(rows: u64) -> Arc<MemoryEngine> {
    let engine = Arc::new(MemoryEngine::new());
    let store = Store::with_engine(Arc::<MemoryEngine>::clone(&engine));
    run(&store, "names", 1, &[]).await.unwrap();
    let mut batch = Batch::new();
    for number in 0..rows {
        batch.put(&OLD, &number, &format!("name {number}"));
    }
    store.commit(batch).await.unwrap();
    engine
}

#[tokio::test]
async fn an_old_store_is_brought_to_the_newest_version_whatever_commit_fails() {
    for fault in [Fault::BeforeWrite, Fault::AfterWrite] {
        for commits in 0..4 {
            let engine = old_store(2_500).await;
            let inner: Arc<MemoryEngine> = Arc::clone(&engine);
            let broken = Store::with_engine(Arc::new(FaultyEngine::new(inner, commits, fault)));
            run(&broken, "names", 2, &STEPS).await.unwrap_err();

            let store = Store::with_engine(engine);
            run(&store, "names", 2, &STEPS).await.unwrap();
            let rows = store.scan(&NEW, NEW.all(), Page::first(9_999)).await.unwrap();
            assert_eq!(rows.len(), 2_500, "{fault:?} after {commits} commits");
            let rows = store.scan(&OLD, OLD.all(), Page::first(1)).await.unwrap();
            assert_eq!(rows, []);
            let found = store.get(&NEW, &"name 1234".to_owned()).await.unwrap();
            assert_eq!(found, Some(Json(1_234)));
            assert_eq!(store.get(&SCHEMA, &"names".to_owned()).await.unwrap(), Some(2));
        }
    }
}

#[tokio::test]
async fn a_store_of_a_newer_program_is_refused() {
    let store = Store::memory();
    run(&store, "names", 3, &[]).await.unwrap();
    let component = "names".to_owned();
    let error = StoreError::SchemaTooNew { component, found: 3, known: 2 };
    assert_eq!(run(&store, "names", 2, &STEPS).await, Err(error));
}

#[tokio::test]
async fn a_missing_step_is_an_error() {
    let store = Store::with_engine(old_store(1).await);
    let error = run(&store, "names", 2, &[]).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}
