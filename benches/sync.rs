//! What a sync costs, on a store on disk: everything at once, nothing new, one new event, and
//! waking many who wait.

use std::{
    error::Error,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use clock::SystemClock;
use criterion::{BenchmarkId, Criterion};
use event::ServerKey;
use rooms::{NewEvent, NewRoom, Profile, RoomPreset, Rooms, RoomsConfig};
use ruma::{
    OwnedRoomId, OwnedUserId, RoomVersionId, ServerName, UserId, events::TimelineEventType,
    presence::PresenceState,
};
use serde_json::{json, value::to_raw_value};
use store::{RocksOptions, Store};
use syncing::{SyncRequest, SyncToken, Syncing};
use tokio::{runtime::Runtime, sync::Mutex};
use users::{Users, UsersConfig};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Messages in each room before a measurement.
const MESSAGES: usize = 20;

/// Members of the room whose message wakes them all.
const MEMBERS: usize = 256;

/// A server without doors, and a user in many rooms.
struct Home {
    rooms: Rooms,
    syncing: Syncing,
    alice: OwnedUserId,
    room_ids: Vec<OwnedRoomId>,
    _directory: tempfile::TempDir,
}

impl Home {
    async fn new(room_count: usize) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let options = RocksOptions { cache_mib: 64, sync_writes: false };
        let store = Store::open_rocks(directory.path(), options).await?;
        let server_name = ServerName::parse("localhost")?;
        let clock = Arc::new(SystemClock);
        let key = Arc::new(ServerKey::from_parts([1; 32], "bench")?);
        let config = RoomsConfig::new(server_name.clone(), RoomVersionId::V12, key);
        let rooms = Rooms::open(store.clone(), config, Arc::clone(&clock) as _).await?;
        let config = UsersConfig {
            server_name,
            argon2_memory_kib: 8,
            argon2_iterations: 1,
            remote: Arc::new(users::Nobody),
        };
        let users = Users::open(store.clone(), config, Arc::clone(&clock) as _).await?;
        let syncing = Syncing::start(store, rooms.clone(), users, clock);
        let alice = UserId::parse("@alice:localhost")?;
        let mut home = Self { rooms, syncing, alice, room_ids: Vec::new(), _directory: directory };
        for _ in 0..room_count {
            let wish = NewRoom { preset: Some(RoomPreset::PublicChat), ..NewRoom::default() };
            let room_id = home.rooms.create(&home.alice, wish).await?;
            for name in ["@bob:localhost", "@carol:localhost"] {
                let profile = Profile::default();
                home.rooms.join(&UserId::parse(name)?, &room_id, &[], profile, None).await?;
            }
            for _ in 0..MESSAGES {
                home.say(&room_id).await?;
            }
            home.room_ids.push(room_id);
        }
        Ok(home)
    }

    async fn say(&self, room_id: &OwnedRoomId) -> Result<()> {
        let content = to_raw_value(&json!({ "msgtype": "m.text", "body": "Hello, world" }))?;
        let event = NewEvent::message(TimelineEventType::RoomMessage, content);
        self.rooms.send(&self.alice, room_id, event).await?;
        Ok(())
    }

    fn request(&self, since: Option<SyncToken>) -> SyncRequest {
        let request = SyncRequest::new(self.alice.clone(), "DEVICE".into());
        SyncRequest { since, set_presence: PresenceState::Offline, ..request }
    }

    async fn sync(&self, since: Option<SyncToken>) -> Result<SyncToken> {
        let response = self.syncing.sync(self.request(since)).await?;
        Ok(black_box(response).next_batch.parse()?)
    }
}

/// A member of the room, and up to where they have been told.
struct Member {
    request: SyncRequest,
}

impl Member {
    async fn new(home: &Home, number: usize) -> Result<Self> {
        let user_id = UserId::parse(format!("@user{number}:localhost"))?;
        let room_id = home.room_ids.first().ok_or("there is a room")?;
        home.rooms.join(&user_id, room_id, &[], Profile::default(), None).await?;
        let request = SyncRequest::new(user_id, "DEVICE".into());
        Ok(Self { request: SyncRequest { set_presence: PresenceState::Offline, ..request } })
    }

    /// Syncs until nothing is new.
    async fn catch_up(&mut self, home: &Home) -> Result<()> {
        let response = home.syncing.sync(self.request.clone()).await?;
        self.request.since = Some(response.next_batch.parse()?);
        Ok(())
    }
}

/// How long it takes from the sending of a message until all members who wait have it.
async fn wake_all(home: &Home, members: &mut [Member]) -> Result<Duration> {
    let room_id = home.room_ids.first().ok_or("there is a room")?;
    let mut waiting = Vec::with_capacity(members.len());
    for member in members {
        member.catch_up(home).await?;
        let request = SyncRequest { timeout_ms: 60_000, ..member.request.clone() };
        let syncing = home.syncing.clone();
        waiting.push(tokio::spawn(async move { syncing.sync(request).await }));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begin = Instant::now();
    home.say(room_id).await?;
    for waiting in waiting {
        black_box(waiting.await??);
    }
    Ok(begin.elapsed())
}

fn bench_waking(criterion: &mut Criterion, runtime: &Runtime) -> Result<()> {
    let home = runtime.block_on(Home::new(1))?;
    let mut members = Vec::new();
    for number in 0..MEMBERS {
        members.push(runtime.block_on(Member::new(&home, number))?);
    }
    let members = Mutex::new(members);
    let mut group = criterion.benchmark_group("sync");
    group.bench_function(BenchmarkId::new("wake", format!("{MEMBERS} members")), |bencher| {
        bencher.to_async(runtime).iter_custom(|times| {
            let (home, members) = (&home, &members);
            async move {
                let mut members = members.lock().await;
                let mut whole = Duration::ZERO;
                for _ in 0..times {
                    whole += wake_all(home, &mut members).await.unwrap_or(Duration::MAX);
                }
                whole
            }
        });
    });
    group.finish();
    Ok(())
}

fn main() -> Result<()> {
    let runtime = Runtime::new()?;
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let mut group = criterion.benchmark_group("sync");
    for room_count in [100, 1_000] {
        let home = runtime.block_on(Home::new(room_count))?;
        let since = runtime.block_on(home.sync(None))?;
        let named = |what: &str| BenchmarkId::new(what, format!("{room_count} rooms"));
        group.bench_function(named("initial"), |bencher| {
            bencher.to_async(&runtime).iter(|| home.sync(None));
        });
        group.bench_function(named("empty"), |bencher| {
            bencher.to_async(&runtime).iter(|| home.sync(Some(since)));
        });
        if let Some(room_id) = home.room_ids.first() {
            runtime.block_on(home.say(room_id))?;
        }
        group.bench_function(named("one event"), |bencher| {
            bencher.to_async(&runtime).iter(|| home.sync(Some(since)));
        });
    }
    group.finish();
    bench_waking(&mut criterion, &runtime)?;
    criterion.final_summary();
    Ok(())
}
