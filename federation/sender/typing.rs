//! Tells other servers who of our users types.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rooms::RoomsError;
use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};

use super::Shared;

/// How often it is said again that somebody types. Other servers forget it after a minute or less.
const AGAIN: Duration = Duration::from_secs(25);

/// Who of our users types, as other servers have been told.
type Told = BTreeMap<OwnedRoomId, BTreeSet<OwnedUserId>>;

/// Tells of each change of who types.
pub(super) async fn run(shared: Arc<Shared>, mut changes: broadcast::Receiver<OwnedRoomId>) {
    let mut again = tokio::time::interval_at(Instant::now() + AGAIN, AGAIN);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = Told::new();
    loop {
        let (rooms, repeat) = tokio::select! {
            change = changes.recv() => match change {
                Ok(room_id) => (BTreeSet::from([room_id]), false),
                Err(RecvError::Lagged(_)) => (all_rooms(&shared, &told), false),
                Err(RecvError::Closed) => return,
            },
            _ = again.tick() => (told.keys().cloned().collect(), true),
        };
        for room_id in rooms {
            if let Err(error) = tell(&shared, &mut told, &room_id, repeat).await {
                tracing::warn!(%error, "no other server is told who types");
            }
        }
    }
}

/// Every room where our users type, or did when it was told.
fn all_rooms(shared: &Shared, told: &Told) -> BTreeSet<OwnedRoomId> {
    let typing = shared.rooms.local_typing().into_iter().map(|(room_id, _)| room_id);
    typing.chain(told.keys().cloned()).collect()
}

async fn tell(
    shared: &Arc<Shared>,
    told: &mut Told,
    room_id: &RoomId,
    repeat: bool,
) -> Result<(), RoomsError> {
    let (_, typing) = shared.rooms.typing(room_id);
    let now: BTreeSet<_> = typing.into_iter().filter(|user| shared.rooms.is_local(user)).collect();
    let before = told.get(room_id).cloned().unwrap_or_default();
    let begun = now.iter().filter(|user| repeat || !before.contains(*user));
    let begun = begun.map(|user| (user.clone(), true));
    let ended = before.difference(&now).map(|user| (user.clone(), false));
    let changes: Vec<_> = begun.chain(ended).collect();
    if now.is_empty() {
        told.remove(room_id);
    } else {
        told.insert(room_id.to_owned(), now);
    }
    if changes.is_empty() {
        return Ok(());
    }
    let Some(room) = shared.rooms.room(room_id).await? else { return Ok(()) };
    let servers = shared.rooms.joined_servers(&room).await?;
    for server in servers.iter().filter(|server| shared.is_told(server)) {
        shared.touch_if_near(server, |destination| {
            if destination.is_well() {
                for (user, is_typing) in &changes {
                    destination.fleeting.add_typing(room_id.to_owned(), user.clone(), *is_typing);
                }
            }
        });
    }
    Ok(())
}
