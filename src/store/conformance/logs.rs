//! The log has every row, in order, once.

use super::{Broken, Rig, same, shared, together};
use crate::{Batch, LogEntry, Position};

/// Tasks that write side by side.
const WRITERS: u16 = 8;
/// Commits of each.
const ROUNDS: u16 = 50;

pub(super) async fn tails_every_row_once(rig: &dyn Rig) -> Result<(), Broken> {
    let store = rig.fresh().await?;
    let total = usize::from(WRITERS) * usize::from(ROUNDS) * 2;
    let tails = (0..3).map(|_| {
        let mut tail = store.tail(Position::ZERO);
        async move {
            let mut rows = Vec::new();
            while rows.len() < total {
                rows.extend(tail.next().await?.iter().cloned());
            }
            Ok(rows)
        }
    });
    let tails = tokio::spawn(together(tails.collect::<Vec<_>>()));
    together((0..WRITERS).map(|writer| {
        let store = shared(&store);
        async move {
            for round in 0..ROUNDS {
                let mut batch = Batch::new();
                batch.log(writer, round.to_string());
                batch.log(writer, format!("{round} again"));
                store.commit(batch).await?;
                store.commit(Batch::new()).await?;
            }
            Ok(())
        }
    }))
    .await?;
    let disk = store.read_log(Position::ZERO, usize::MAX).await?;
    same("the log has every row", &disk.len(), &total)?;
    let order = |rows: &[LogEntry]| rows.is_sorted_by_key(|row| (row.position, row.index));
    same("the log is in order", &order(&disk), &true)?;
    for writer in 0..WRITERS {
        let own = disk.iter().filter(|row| row.topic == writer);
        let own: Vec<_> =
            own.map(|row| String::from_utf8_lossy(&row.payload).into_owned()).collect();
        let right: Vec<_> =
            (0..ROUNDS).flat_map(|round| [round.to_string(), format!("{round} again")]).collect();
        same("a writer's rows are in the order of its commits", &own, &right)?;
    }
    let tails = tails.await.unwrap_or_else(|error| {
        Err(Broken::Rule { rule: "a tail gets every row", what: error.to_string() })
    })?;
    for rows in &tails {
        same("a tail gets every row once and in order", rows, &disk)?;
    }
    Ok(())
}

pub(super) async fn reads_the_log_from_anywhere(rig: &dyn Rig) -> Result<(), Broken> {
    let store = rig.fresh().await?;
    for size in [3, 1, 0, 5, 2] {
        let mut batch = Batch::new();
        for _ in 0..size {
            batch.log(size, vec![0; 10]);
        }
        store.commit(batch).await?;
    }
    let store = rig.reopen(store).await?;
    let all = store.read_log(Position::ZERO, 100).await?;
    same("the log has every row", &all.len(), &11)?;
    let topics = |rows: Vec<LogEntry>| rows.iter().map(|row| row.topic).collect::<Vec<_>>();
    let rule = "a page of the log has whole batches";
    same(rule, &topics(store.read_log(Position::ZERO, 4).await?), &vec![3, 3, 3, 1])?;
    same(rule, &topics(store.read_log(Position::ZERO, 6).await?), &vec![3, 3, 3, 1])?;
    same(rule, &topics(store.read_log(Position::ZERO, 1).await?), &vec![3, 3, 3])?;
    let third = all.get(2).map(|row| row.position).unwrap_or_default();
    same(rule, &topics(store.read_log(third, 2).await?), &vec![1])?;
    let mut tail = store.tail(third);
    let mut seen = Vec::new();
    while seen.len() < 8 {
        seen.extend(tail.next().await?.iter().map(|row| row.topic));
    }
    same("a tail begins on disk", &seen, &vec![1, 5, 5, 5, 5, 5, 2, 2])?;
    let mut batch = Batch::new();
    batch.log(9, "on");
    store.commit(batch).await?;
    let next = tail.next().await?;
    same("a tail goes on in memory", &topics(next.to_vec()), &vec![9])
}
