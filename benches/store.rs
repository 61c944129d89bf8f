//! What a durable commit and a read cost: alone, and among many.
//!
//! A commit of one writer is bounded by one sync of the disk; those of many share it. The store is
//! in the target directory: `/tmp` is often memory, which syncs for nothing.

use std::{
    error::Error,
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput};
use store::{Batch, Family, Page, Position, RocksOptions, Store, StoreError, Table};
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinSet};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// An event of usual size.
const EVENTS: Table<(u64, u64), Vec<u8>> = Table::new(0x7f01, "bench_events", Family::Events);
/// Its place in a timeline.
const TIMELINE: Table<(u64, Position, u32), u64> =
    Table::new(0x7f02, "bench_timeline", Family::Index);
/// A record that each event changes.
const HEADS: Table<u64, u64> = Table::new(0x7f03, "bench_heads", Family::Main);

const EVENT_BYTES: usize = 700;
const ROWS: u64 = 10_000;

/// Opens a store in a new directory.
fn open(runtime: &Runtime) -> Result<(TempDir, Store)> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let store = runtime.block_on(Store::open_rocks(dir.path(), RocksOptions::default()))?;
    Ok((dir, store))
}

/// Makes a batch like that of one message.
fn message(room: u64, number: u64) -> Batch {
    let byte = number.to_be_bytes()[7];
    let mut batch = Batch::new();
    batch.put(&EVENTS, &(room, number), &vec![byte; EVENT_BYTES]);
    batch.put(&TIMELINE, &(room, Position::PENDING, byte.into()), &number);
    batch.put(&HEADS, &room, &number);
    batch.log(1, vec![byte; 100]);
    batch
}

/// Lets this many writers commit side by side, each waiting for its own.
async fn write_all(store: &Store, writers: u64, first: u64, rounds: u64) {
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 0..rounds {
                store.commit(message(writer, first + round)).await?;
            }
            Ok::<_, StoreError>(())
        });
    }
    black_box(tasks.join_all().await);
}

fn bench_commits(criterion: &mut Criterion, runtime: &Runtime) -> Result<()> {
    let mut group = criterion.benchmark_group("commit");
    group.sample_size(20).measurement_time(Duration::from_secs(8));
    for writers in [1, 32, 64] {
        let (_dir, store) = open(runtime)?;
        let mut first = 0;
        group.throughput(Throughput::Elements(writers));
        group.bench_function(format!("{writers} writers"), |bencher| {
            bencher.iter_custom(|rounds| {
                let begin = Instant::now();
                runtime.block_on(write_all(&store, writers, first, rounds));
                first += rounds;
                begin.elapsed()
            });
        });
        runtime.block_on(store.close())?;
    }
    group.finish();
    Ok(())
}

/// Fills a store whose rows are in files, and in the cache once they were read.
async fn fill(store: &Store) -> Result<()> {
    for first in (0..ROWS).step_by(100) {
        let mut batch = Batch::new();
        for number in first..first + 100 {
            batch.extend(message(1, number));
        }
        store.commit(batch).await?;
    }
    Ok(store.flush().await?)
}

fn bench_reads(criterion: &mut Criterion, runtime: &Runtime) -> Result<()> {
    let (_dir, store) = open(runtime)?;
    let store = &store;
    runtime.block_on(fill(store))?;
    let mut group = criterion.benchmark_group("read");
    let mut next = 0;
    group.bench_function("get", |bencher| {
        bencher.to_async(runtime).iter(|| {
            next = (next + 7_919) % ROWS;
            let key = (1, next);
            async move { store.get(&EVENTS, &key).await }
        });
    });
    group.throughput(Throughput::Elements(50));
    group.bench_function("multi_get of 50", |bencher| {
        bencher.to_async(runtime).iter(|| {
            next = (next + 7_919) % ROWS;
            let keys: Vec<_> = (0..50).map(|step| (1, (next + step * 31) % ROWS)).collect();
            async move { store.multi_get(&EVENTS, &keys).await }
        });
    });
    group.bench_function("scan of 50", |bencher| {
        bencher
            .to_async(runtime)
            .iter(|| store.scan(&TIMELINE, TIMELINE.prefix(&1_u64), Page::last(50)));
    });
    group.finish();
    runtime.block_on(store.close())?;
    Ok(())
}

fn main() -> Result<()> {
    let runtime = Runtime::new()?;
    let mut criterion = Criterion::default().configure_from_args();
    bench_commits(&mut criterion, &runtime)?;
    bench_reads(&mut criterion, &runtime)?;
    criterion.final_summary();
    Ok(())
}
