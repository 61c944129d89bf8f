//! The way of a message into the store, and the states of a large room.
//!
//! Sending is measured on RocksDB with an fsync for each commit: from the wish for an event to its
//! ID, by one sender in one room and by 64 in as many rooms, whose commits are gathered.

use std::{error::Error, hint::black_box, path::Path, sync::Arc, time::Duration};

use clock::SystemClock;
use criterion::{Criterion, Throughput};
use event::ServerKey;
use rooms::{NewEvent, NewRoom, RoomPreset, Rooms, RoomsConfig, StateSelect};
use ruma::{
    OwnedRoomId, OwnedUserId, RoomVersionId, UserId, events::StateEventType, server_name, user_id,
};
use serde_json::{json, value::to_raw_value};
use store::{RocksOptions, Store};
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn alice() -> &'static UserId {
    user_id!("@alice:localhost")
}

const ROOMS: usize = 64;
const MEMBERS: usize = 10_000;

async fn open(path: &Path, sync_writes: bool) -> Result<Rooms> {
    let options = RocksOptions { sync_writes, ..RocksOptions::default() };
    let store = Store::open_rocks(path, options).await?;
    let key = Arc::new(ServerKey::from_parts([1; 32], "bench")?);
    let config = RoomsConfig::new(server_name!("localhost").to_owned(), RoomVersionId::V12, key);
    Ok(Rooms::open(store, config, Arc::new(SystemClock)).await?)
}

fn message() -> Result<NewEvent> {
    let content = json!({ "msgtype": "m.text", "body": "A message of about usual length." });
    Ok(NewEvent::message("m.room.message".into(), to_raw_value(&content)?))
}

async fn public_room(rooms: &Rooms) -> Result<OwnedRoomId> {
    let wish = NewRoom { preset: Some(RoomPreset::PublicChat), ..NewRoom::default() };
    Ok(rooms.create(alice(), wish).await?)
}

/// Sends one message into each of the rooms, all at once.
async fn send_all(rooms: &Rooms, ids: &[OwnedRoomId], event: &NewEvent) {
    let sends = ids.iter().map(|id| {
        let (rooms, id, event) = (rooms.clone(), id.clone(), event.clone());
        tokio::spawn(async move { rooms.send(alice(), &id, event).await })
    });
    for send in sends.collect::<Vec<_>>() {
        black_box(send.await).ok();
    }
}

fn bench_send(criterion: &mut Criterion, runtime: &Runtime) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rooms = runtime.block_on(open(dir.path(), true))?;
    let event = message()?;
    let mut ids = Vec::new();
    for _ in 0..ROOMS {
        ids.push(runtime.block_on(public_room(&rooms))?);
    }
    let mut group = criterion.benchmark_group("send");
    group.measurement_time(Duration::from_secs(10));
    for count in [1, ROOMS] {
        let ids: Vec<OwnedRoomId> = ids.iter().take(count).cloned().collect();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{count} rooms at once"), |bencher| {
            bencher.to_async(runtime).iter(|| send_all(&rooms, &ids, &event));
        });
    }
    group.finish();
    runtime.block_on(rooms.stop());
    Ok(())
}

/// A room of 10,000 members, which join one after the other.
async fn large_room(rooms: &Rooms) -> Result<OwnedRoomId> {
    let id = public_room(rooms).await?;
    let content = to_raw_value(&json!({ "membership": "join" }))?;
    for number in 1..MEMBERS {
        let user: OwnedUserId = format!("@member{number}:localhost").try_into()?;
        let join = NewEvent::state(StateEventType::RoomMember, user.as_str(), content.clone());
        rooms.send(&user, &id, join).await?;
    }
    Ok(id)
}

fn bench_state(criterion: &mut Criterion, runtime: &Runtime) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rooms = runtime.block_on(open(dir.path(), false))?;
    let id = runtime.block_on(large_room(&rooms))?;
    let room = runtime.block_on(rooms.room(&id))?.ok_or("the room is there")?;
    let root = runtime.block_on(rooms.current_state(&room))?;
    let name = to_raw_value(&json!({ "name": "x" }))?;
    let mut group = criterion.benchmark_group("a room of 10,000 members");
    let member = StateEventType::RoomMember;
    group.bench_function("one member", |bencher| {
        bencher
            .to_async(runtime)
            .iter(|| rooms.state_event(&room, root, &member, "@member7000:localhost"));
    });
    group.bench_function("the whole state", |bencher| {
        bencher.to_async(runtime).iter(|| rooms.select_state(&room, root, &StateSelect::All));
    });
    group.bench_function("the whole state with its events", |bencher| {
        bencher.to_async(runtime).iter(|| rooms.state_events(&room, root, &StateSelect::All));
    });
    group.bench_function("everything but the members", |bencher| {
        let select = StateSelect::without_members();
        let (rooms, room) = (&rooms, &room);
        bencher.to_async(runtime).iter(|| {
            let select = select.clone();
            async move { rooms.state_events(room, root, &select).await }
        });
    });
    let mut number = 0_u64;
    group.bench_function("one more state event, without fsync", |bencher| {
        bencher.iter(|| {
            number += 1;
            let kind = StateEventType::from("org.example.bench");
            let event = NewEvent::state(kind, number.to_string(), name.clone());
            runtime.block_on(rooms.send(alice(), &id, event)).ok()
        });
    });
    group.finish();
    runtime.block_on(rooms.stop());
    Ok(())
}

fn main() -> Result<()> {
    let runtime = Runtime::new()?;
    let mut criterion = Criterion::default().configure_from_args();
    bench_send(&mut criterion, &runtime)?;
    bench_state(&mut criterion, &runtime)?;
    criterion.final_summary();
    Ok(())
}
