//! Rows are found as they were put.

use std::ops::Bound;

use super::{Broken, COUNTER, EVENTS, INDEX, MAIN, Rig, from, same};
use crate::{Batch, Page, Position};

pub(super) async fn finds_what_was_put(rig: &dyn Rig) -> Result<(), Broken> {
    let store = rig.fresh().await?;
    let keys = ["a", "", "ab", "a\0b"].map(|name| (name.to_owned(), 7));
    let mut batch = Batch::new();
    for key in &keys {
        batch.put(&MAIN, key, &format!("value of {}", key.0));
    }
    let [first, empty, longer, zero] = keys;
    batch.put(&MAIN, &first, &"the last put holds".to_owned());
    batch.put(&COUNTER, &(), &1);
    batch.delete(&COUNTER, &());
    store.commit(batch).await?;

    let rule = "a row that was put is found";
    let missing = ("b".to_owned(), 7);
    same(rule, &store.get(&MAIN, &first).await?.as_deref(), &Some("the last put holds"))?;
    same("a deleted row is gone", &store.get(&COUNTER, &()).await?, &None)?;
    let wanted = [zero.clone(), missing.clone(), longer, empty.clone(), empty, first];
    let found = store.multi_get(&MAIN, &wanted).await?;
    let right = [
        Some("value of a\0b"),
        None,
        Some("value of ab"),
        Some("value of "),
        Some("value of "),
        Some("the last put holds"),
    ];
    let found: Vec<_> = found.iter().map(Option::as_deref).collect();
    same("rows are returned in the order of the keys", &found, &right.to_vec())?;

    let mut batch = Batch::new();
    batch.delete(&MAIN, &zero);
    batch.delete(&MAIN, &missing);
    store.commit(batch).await?;
    same("a deleted row is gone", &store.get(&MAIN, &zero).await?, &None)
}

pub(super) async fn scans_pages_both_ways(rig: &dyn Rig) -> Result<(), Broken> {
    let store = rig.fresh().await?;
    let mut batch = Batch::new();
    for room in [1, 2, 255, 256] {
        for position in 1..=10 {
            batch.put(&INDEX, &(room, Position::new(position), 0), &());
        }
    }
    store.commit(batch).await?;
    let positions = |rows: Vec<((u64, Position, u32), ())>| -> Vec<(u64, u64)> {
        rows.into_iter().map(|((room, position, _), ())| (room, position.get())).collect()
    };
    let at = |room: u64, position: u64| (room, Position::new(position));

    let rows = store.scan(&INDEX, INDEX.prefix(&255_u64), Page::first(3)).await?;
    same("a page begins with the smallest", &positions(rows), &vec![(255, 1), (255, 2), (255, 3)])?;
    let rows = store.scan(&INDEX, INDEX.prefix(&255_u64), Page::last(3)).await?;
    same("a page begins with the largest", &positions(rows), &vec![(255, 10), (255, 9), (255, 8)])?;
    let rows = store.scan(&INDEX, INDEX.prefix(&3_u64), Page::last(3)).await?;
    same("an empty prefix has no rows", &positions(rows), &vec![])?;
    let rows = store.scan(&INDEX, INDEX.all(), Page::first(1_000)).await?;
    same("the whole range has all rows", &rows.len(), &40)?;

    let rule = "bounds on leading parts take or skip all that begins with them";
    let (low, high) = (at(1, 9), at(2, 2));
    let range = INDEX.between(Bound::Excluded(&low), Bound::Included(&high));
    let rows = store.scan(&INDEX, range, Page::first(10)).await?;
    same(rule, &positions(rows), &vec![(1, 10), (2, 1), (2, 2)])?;
    let range = INDEX.between(from(&low), Bound::Excluded(&high));
    let rows = store.scan(&INDEX, range, Page::last(10)).await?;
    same(rule, &positions(rows), &vec![(2, 1), (1, 10), (1, 9)])?;
    let range = INDEX.between::<_, ()>(Bound::Excluded(&2_u64), Bound::Unbounded);
    let rows = store.scan(&INDEX, range, Page::first(1)).await?;
    same(rule, &positions(rows), &vec![(255, 1)])?;
    let range = INDEX.between(Bound::Included(&high), Bound::Excluded(&low));
    same(
        "a range turned around is empty",
        &store.scan(&INDEX, range, Page::first(9)).await?,
        &vec![],
    )?;
    let rows = store.scan(&INDEX, INDEX.all(), Page::first(0)).await?;
    same("a page of no rows is empty", &rows, &vec![])
}

pub(super) async fn keeps_tables_and_families_apart(rig: &dyn Rig) -> Result<(), Broken> {
    let store = rig.fresh().await?;
    let mut batch = Batch::new();
    batch.put(&COUNTER, &(), &5);
    for number in 0..2_000 {
        batch.put(&EVENTS, &number, &vec![b'x'; 500].into());
    }
    batch.put(&MAIN, &("last".to_owned(), u64::MAX), &String::new());
    store.commit(batch).await?;
    let rows = store.scan(&EVENTS, EVENTS.all(), Page::first(5_000)).await?;
    same("a table ends where it ends", &rows.len(), &2_000)?;
    let rows = store.scan(&MAIN, MAIN.all(), Page::last(5)).await?;
    same("a table ends where it ends", &rows.len(), &1)?;
    let keys: Vec<_> = (0..2_000).rev().collect();
    let found = store.multi_get(&EVENTS, &keys).await?.into_iter().flatten().count();
    same("many rows are read at once", &found, &2_000)
}

pub(super) async fn keeps_a_snapshot_as_it_was(rig: &dyn Rig) -> Result<(), Broken> {
    let store = rig.fresh().await?;
    let mut batch = Batch::new();
    batch.put(&COUNTER, &(), &1);
    batch.put(&EVENTS, &1, &"old".into());
    let first = store.commit(batch).await?;
    let snapshot = store.snapshot().await?;
    let mut batch = Batch::new();
    batch.put(&COUNTER, &(), &2);
    batch.delete(&EVENTS, &1);
    batch.put(&EVENTS, &2, &"new".into());
    store.commit(batch).await?;
    store.flush().await?;

    let rule = "a snapshot stays as it was";
    same(rule, &snapshot.position(), &first)?;
    same(rule, &snapshot.get(&COUNTER, &()).await?, &Some(1))?;
    let found = snapshot.multi_get(&EVENTS, &[1, 2]).await?;
    same(rule, &found, &vec![Some("old".into()), None])?;
    let rows = snapshot.scan(&EVENTS, EVENTS.all(), Page::last(9)).await?;
    same(rule, &rows, &vec![(1, "old".into())])?;
    same("the store goes on", &store.get(&COUNTER, &()).await?, &Some(2))
}

pub(super) async fn reads_after_reopening(rig: &dyn Rig) -> Result<(), Broken> {
    let store = rig.fresh().await?;
    let mut newest = Position::ZERO;
    for number in 0..3 {
        let mut batch = Batch::new();
        batch.put(&COUNTER, &(), &number);
        batch.put(&EVENTS, &number, &format!("event {number}").into());
        batch.log(1, number.to_string());
        newest = store.commit(batch).await?;
        if number == 1 {
            store.flush().await?;
        }
    }
    let store = rig.reopen(store).await?;
    let rule = "what was committed is there after reopening";
    same(rule, &store.position(), &newest)?;
    same(rule, &store.get(&COUNTER, &()).await?, &Some(2))?;
    let rows = store.scan(&EVENTS, EVENTS.all(), Page::first(9)).await?;
    let rows: Vec<_> = rows.into_iter().map(|(number, _)| number).collect();
    same(rule, &rows, &vec![0, 1, 2])?;
    same(rule, &store.read_log(Position::ZERO, 9).await?.len(), &3)?;
    let mut batch = Batch::new();
    batch.put(&COUNTER, &(), &9);
    same("positions go on after reopening", &store.commit(batch).await?, &newest.next())
}
