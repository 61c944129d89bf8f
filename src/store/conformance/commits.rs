//! Commits are whole, numbered, and seen in order.

use std::collections::BTreeSet;

use super::{Broken, COUNTER, EVENTS, INDEX, Rig, STAMPED, holds, same, shared, together};
use crate::{Batch, Page, Position, Stamped, StoreError};

/// Tasks that write side by side.
const WRITERS: u64 = 16;
/// Commits of each.
const ROUNDS: u64 = 20;

pub(super) async fn numbers_commits_without_gaps(rig: &dyn Rig) -> Result<(), Broken> {
    let store = rig.fresh().await?;
    let begin = store.position();
    let positions = together((0..WRITERS).map(|writer| {
        let store = shared(&store);
        async move {
            let mut positions = Vec::new();
            for round in 0..ROUNDS {
                let mut batch = Batch::new();
                batch.put(&EVENTS, &(writer * ROUNDS + round), &"x".into());
                let position = store.commit(batch).await?;
                let seen = store.position();
                holds("a commit is visible when it returns", seen >= position, || {
                    format!("{position} was committed, but only {seen} is visible")
                })?;
                positions.push(position);
            }
            Ok(positions)
        }
    }))
    .await?;
    for own in &positions {
        holds("later commits have later positions", own.is_sorted(), || format!("{own:?}"))?;
    }
    let all: BTreeSet<_> = positions.into_iter().flatten().map(Position::get).collect();
    let first = begin.next().get();
    let right: BTreeSet<_> = (first..first + WRITERS * ROUNDS).collect();
    same("each commit has its own position, without gaps", &all, &right)
}

pub(super) async fn fills_every_hole(rig: &dyn Rig) -> Result<(), Broken> {
    let store = rig.fresh().await?;
    let mut batch = Batch::new();
    batch.put(&INDEX, &(1, Position::PENDING, 1), &());
    batch.put(&INDEX, &(1, Position::PENDING, 2), &());
    batch.put(&STAMPED, &1, &Stamped::pending("stamped".to_owned()));
    batch.put(&STAMPED, &2, &Stamped { position: Position::new(3), value: "kept".to_owned() });
    let position = store.commit(batch).await?;
    let rows = store.scan(&INDEX, INDEX.all(), Page::first(9)).await?;
    let rule = "the commit's position is written into every hole";
    same(rule, &rows, &vec![((1, position, 1), ()), ((1, position, 2), ())])?;
    let found = store.get(&STAMPED, &1).await?.map(|stamped| stamped.position);
    same(rule, &found, &Some(position))?;
    let found = store.get(&STAMPED, &2).await?.map(|stamped| stamped.position);
    same("other positions stay as they are", &found, &Some(Position::new(3)))
}

pub(super) async fn writes_nothing_on_conflict(rig: &dyn Rig) -> Result<(), Broken> {
    let store = rig.fresh().await?;
    let mut batch = Batch::new();
    batch.put(&COUNTER, &(), &1);
    let newest = store.commit(batch).await?;
    for expected in [None, Some(&2)] {
        let mut batch = Batch::new();
        batch.expect(&COUNTER, &(), expected);
        batch.put(&COUNTER, &(), &3);
        batch.put(&EVENTS, &1, &"x".into());
        batch.log(1, "never");
        let result = store.commit(batch).await;
        let conflict = StoreError::Conflict { table: COUNTER.number() };
        same("a failed expectation is a conflict", &result, &Err(conflict))?;
    }
    let rule = "nothing of a batch is written on conflict";
    same(rule, &store.get(&COUNTER, &()).await?, &Some(1))?;
    same(rule, &store.get(&EVENTS, &1).await?, &None)?;
    same(rule, &store.position(), &newest)?;
    let mut batch = Batch::new();
    batch.expect(&COUNTER, &(), Some(&1));
    batch.expect(&EVENTS, &1, None);
    batch.put(&COUNTER, &(), &2);
    batch.put(&EVENTS, &1, &"x".into());
    same(
        "a batch whose expectations hold is written",
        &store.commit(batch).await?,
        &newest.next(),
    )?;
    same("a batch whose expectations hold is written", &store.get(&COUNTER, &()).await?, &Some(2))
}

pub(super) async fn lets_one_of_many_win(rig: &dyn Rig) -> Result<(), Broken> {
    let store = rig.fresh().await?;
    let counts = together((0..WRITERS).map(|_| {
        let store = shared(&store);
        async move {
            let mut won = 0_u64;
            while won < ROUNDS {
                let found = store.get(&COUNTER, &()).await?;
                let mut batch = Batch::new();
                batch.expect(&COUNTER, &(), found.as_ref());
                batch.put(&COUNTER, &(), &(found.unwrap_or_default() + 1));
                match store.commit(batch).await {
                    Ok(_) => won += 1,
                    Err(StoreError::Conflict { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(won)
        }
    }))
    .await?;
    let total = counts.into_iter().sum();
    same(
        "no increment under an expectation is lost",
        &store.get(&COUNTER, &()).await?,
        &Some(total),
    )
}

pub(super) async fn shows_commits_in_order(rig: &dyn Rig) -> Result<(), Broken> {
    let store = rig.fresh().await?;
    let begin = store.position();
    let reader = {
        let store = shared(&store);
        tokio::spawn(async move {
            let mut seen = begin;
            while seen.get() < begin.get() + WRITERS * ROUNDS {
                seen = store.position();
                let range = INDEX.all();
                let rows = store.scan(&INDEX, range, Page::first(usize::MAX)).await?;
                let count = u64::try_from(rows.len()).unwrap_or_default();
                let visible = seen.get() - begin.get();
                holds("everything up to the position can be read", count >= visible, || {
                    format!("{visible} commits should be seen, but only {count} are")
                })?;
                tokio::task::yield_now().await;
            }
            Ok::<_, Broken>(())
        })
    };
    together((0..WRITERS).map(|writer| {
        let store = shared(&store);
        async move {
            for _ in 0..ROUNDS {
                let mut batch = Batch::new();
                batch.put(&INDEX, &(writer, Position::PENDING, 0), &());
                store.commit(batch).await?;
            }
            Ok(())
        }
    }))
    .await?;
    reader.await.map_err(|error| Broken::Rule {
        rule: "everything up to the position can be read",
        what: error.to_string(),
    })?
}

pub(super) async fn refuses_after_closing(rig: &dyn Rig) -> Result<(), Broken> {
    let store = rig.fresh().await?;
    let mut batch = Batch::new();
    batch.put(&COUNTER, &(), &1);
    store.commit(batch.clone()).await?;
    let mut tail = store.tail(store.position());
    let waiting = tokio::spawn(async move { tail.next().await.map(|rows| rows.len()) });
    store.close().await?;
    let rule = "a closed store refuses";
    same(rule, &store.commit(batch).await, &Err(StoreError::Closed))?;
    same(rule, &store.get(&COUNTER, &()).await, &Err(StoreError::Closed))?;
    let waited = waiting.await.unwrap_or(Ok(0));
    same("closing ends what waits", &waited, &Err(StoreError::Closed))?;
    same("closing is no failure", &*store.failed().borrow(), &None)
}
