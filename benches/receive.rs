//! What an event costs before it touches the store: making, reading, verifying, allowing, showing
//! it; and what it costs to take one that another server sent.

use std::{
    collections::BTreeMap,
    error::Error,
    hint::black_box,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use clock::SystemClock;
use criterion::Criterion;
use event::{Draft, Pdu, ServerKey, VerifiedPdu, build, rules};
use rooms::{NewRoom, Received, RoomPreset, Rooms, RoomsConfig, StateSelect};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, RoomId, RoomVersionId, ServerName, UInt, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
    server_name, user_id,
};
use serde_json::{Value, json, value::to_raw_value};
use store::{RocksOptions, Store};
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn server() -> &'static ServerName {
    server_name!("localhost")
}

fn elsewhere() -> &'static ServerName {
    server_name!("elsewhere.example")
}

fn alice() -> &'static UserId {
    user_id!("@alice:localhost")
}

fn bob() -> &'static UserId {
    user_id!("@bob:elsewhere.example")
}

/// A room of one member, as far as authorisation needs it.
struct Room {
    rules: RoomVersionRules,
    key: ServerKey,
    state: Vec<Arc<Pdu>>,
}

impl Room {
    fn new() -> Result<Self> {
        let rules = rules(&RoomVersionId::V12).ok_or("room version 12 is known")?;
        let key = ServerKey::from_parts([1; 32], "bench")?;
        let mut room = Self { rules, key, state: Vec::new() };
        for (kind, state_key, content) in [
            ("m.room.create", "", json!({ "room_version": "12" })),
            ("m.room.member", alice().as_str(), json!({ "membership": "join" })),
            ("m.room.power_levels", "", json!({ "users": {} })),
        ] {
            let event = build(
                room.draft(kind, Some(state_key), content)?,
                server(),
                &room.key,
                &room.rules,
            )?;
            room.state.push(Arc::new(event));
        }
        Ok(room)
    }

    fn room_id(&self) -> Option<&RoomId> {
        self.state.first().map(|create| &*create.room_id)
    }

    fn draft(&self, kind: &str, state_key: Option<&str>, content: Value) -> Result<Draft> {
        Ok(Draft {
            room_id: self.room_id().map(ToOwned::to_owned),
            sender: alice().to_owned(),
            kind: TimelineEventType::from(kind),
            state_key: state_key.map(ToOwned::to_owned),
            content: to_raw_value(&content)?,
            redacts: None,
            prev_events: self.state.last().map(|pdu| pdu.event_id.clone()).into_iter().collect(),
            auth_events: self.state.iter().skip(1).map(|pdu| pdu.event_id.clone()).collect(),
            reference_hashes: BTreeMap::new(),
            depth: UInt::from(10_u32),
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::from(1_700_000_000_u32)),
        })
    }

    fn message(&self) -> Result<Draft> {
        let body = "A frog on a log in a bog, and what it has to say of the weather.";
        self.draft("m.room.message", None, json!({ "msgtype": "m.text", "body": body }))
    }

    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.state.iter().find(|pdu| pdu.event_id == id).cloned()
    }

    fn state(&self, kind: &StateEventType, key: &str) -> Option<Arc<Pdu>> {
        self.state.iter().find(|pdu| pdu.state_entry() == Some((kind.clone(), key))).cloned()
    }
}

/// A room of ours with a user of another server in it.
struct Shared {
    rooms: Rooms,
    room: Arc<rooms::Room>,
    key: ServerKey,
    state: Vec<Arc<Pdu>>,
    last: Arc<Pdu>,
}

impl Shared {
    async fn new(path: &Path) -> Result<Self> {
        let options = RocksOptions { sync_writes: false, ..RocksOptions::default() };
        let store = Store::open_rocks(path, options).await?;
        let ours = Arc::new(ServerKey::from_parts([1; 32], "bench")?);
        let config = RoomsConfig::new(server().to_owned(), RoomVersionId::V11, ours);
        let rooms = Rooms::open(store, config, Arc::new(SystemClock)).await?;
        let wish = NewRoom { preset: Some(RoomPreset::PublicChat), ..NewRoom::default() };
        let id = rooms.create(alice(), wish).await?;
        let room = rooms.room(&id).await?.ok_or("the room is there")?;
        let root = rooms.current_state(&room).await?;
        let state = rooms.state_events(&room, root, &StateSelect::All).await?;
        let last = state.iter().max_by_key(|pdu| pdu.depth).cloned().ok_or("no events")?;
        let key = ServerKey::from_parts([2; 32], "bench")?;
        let mut shared = Self { rooms, room, key, state, last };
        let join =
            shared.next("m.room.member", Some(bob().as_str()), json!({ "membership": "join" }))?;
        shared.receive(join).await?;
        shared.state.push(Arc::clone(&shared.last));
        Ok(shared)
    }

    /// The next event of the other server's user.
    fn next(&mut self, kind: &str, state_key: Option<&str>, content: Value) -> Result<VerifiedPdu> {
        let kind = TimelineEventType::from(kind);
        let content = to_raw_value(&content)?;
        let rules = &self.room.rules;
        let keys = event::auth_types(&kind, bob(), state_key, &content, rules)?;
        let find = |(kind, key): &(StateEventType, String)| {
            self.state.iter().find(|pdu| pdu.state_entry() == Some((kind.clone(), key)))
        };
        let draft = Draft {
            room_id: Some(self.room.room_id.clone()),
            sender: bob().to_owned(),
            kind,
            state_key: state_key.map(ToOwned::to_owned),
            content,
            redacts: None,
            prev_events: vec![self.last.event_id.clone()],
            auth_events: keys.iter().filter_map(find).map(|pdu| pdu.event_id.clone()).collect(),
            reference_hashes: BTreeMap::new(),
            depth: self.last.depth + UInt::from(1_u32),
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::from(1_700_000_000_u32)),
        };
        let pdu = build(draft, elsewhere(), &self.key, rules)?;
        let verified = event::verify(&pdu.json, &self.key.public_keys(elsewhere()), rules)?;
        self.last = Arc::new(pdu);
        Ok(verified)
    }

    async fn receive(&self, event: VerifiedPdu) -> Result<()> {
        match self.rooms.receive_if_ready(elsewhere(), event).await? {
            Some(Received::Accepted) => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    }
}

fn bench_receiving(criterion: &mut Criterion) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let runtime = Runtime::new()?;
    let mut shared = runtime.block_on(Shared::new(dir.path()))?;
    let mut group = criterion.benchmark_group("receive");
    group.bench_function("a message of another server, verified, without fsync", |bencher| {
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            for _ in 0..count {
                let content = json!({ "msgtype": "m.text", "body": "hello from elsewhere" });
                let Ok(event) = shared.next("m.room.message", None, content) else { break };
                let begin = Instant::now();
                runtime.block_on(shared.receive(event)).ok();
                spent += begin.elapsed();
            }
            spent
        });
    });
    group.finish();
    runtime.block_on(shared.rooms.stop());
    Ok(())
}

fn main() -> Result<()> {
    let room = Room::new()?;
    let draft = room.message()?;
    let pdu = build(draft.clone(), server(), &room.key, &room.rules)?;
    let keys = room.key.public_keys(server());
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("event");
    group.bench_function("build and sign", |bencher| {
        bencher.iter(|| build(draft.clone(), server(), &room.key, &room.rules));
    });
    group.bench_function("verify", |bencher| {
        bencher.iter(|| event::verify(black_box(&pdu.json), &keys, &room.rules));
    });
    group.bench_function("authorise", |bencher| {
        bencher.iter(|| {
            event::authorise(
                black_box(&pdu),
                &room.rules,
                |id| room.event(id),
                |kind, key| room.state(kind, key),
            )
        });
    });
    group.bench_function("read from the store's form", |bencher| {
        bencher.iter(|| Pdu::from_stored(pdu.event_id.clone(), Arc::clone(&pdu.json), &room.rules));
    });
    group.bench_function("read and hash", |bencher| {
        bencher.iter(|| Pdu::from_json(Arc::clone(&pdu.json), &room.rules));
    });
    group.bench_function("encode for clients", |bencher| {
        bencher.iter_batched(
            || Pdu::from_stored(pdu.event_id.clone(), Arc::clone(&pdu.json), &room.rules),
            |pdu| pdu.map(|pdu| pdu.client_json()),
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("redact", |bencher| {
        bencher.iter(|| event::redact(black_box(&pdu), &room.rules));
    });
    group.finish();
    bench_receiving(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
