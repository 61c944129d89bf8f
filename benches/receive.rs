//! What an event costs before it touches the store: making, reading, verifying, allowing, showing
//! it.

use std::{error::Error, hint::black_box, sync::Arc};

use criterion::Criterion;
use event::{Draft, Pdu, ServerKey, build, rules};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, RoomId, RoomVersionId, ServerName, UInt, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
    server_name, user_id,
};
use serde_json::{Value, json, value::to_raw_value};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn server() -> &'static ServerName {
    server_name!("localhost")
}

fn alice() -> &'static UserId {
    user_id!("@alice:localhost")
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
    criterion.final_summary();
    Ok(())
}
