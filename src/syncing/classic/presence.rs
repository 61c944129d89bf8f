//! Whose presence is news to a client.

use std::collections::{BTreeMap, BTreeSet};

use rooms::{Memberships, Rooms};
use ruma::{
    OwnedUserId, UInt, UserId,
    events::presence::{PresenceEvent, PresenceEventContent},
    presence::PresenceState,
    serde::Raw,
};
use serde_json::value::RawValue as RawJsonValue;
use users::Presence;

use super::Making;
use crate::{error::Result, filter::Candidate};

/// The presence events that are new: of the user themselves and of those who share a room with
/// them.
pub(super) async fn make(
    making: &Making<'_>,
    newcomers: BTreeSet<OwnedUserId>,
) -> Result<Vec<Raw<PresenceEvent>>> {
    let filter = &making.wish.presence_filter;
    if !filter.takes_some() || !filter.takes_type("m.presence") {
        return Ok(Vec::new());
    }
    let inner = &making.syncing.inner;
    let (since, upto) = (making.stretch.presence_since(), making.stretch.upto.presence);
    let is_wanted = |presence: &Presence| {
        let sender = Some(&*presence.user_id);
        filter.takes(Candidate { kind: "m.presence", sender, content: RawJsonValue::NULL })
            && !making.ignored.contains(&presence.user_id)
    };
    let mut presences = BTreeMap::new();
    for presence in inner.users.presence_changes(since, upto) {
        // To a client that has nothing, everybody is offline.
        let is_known = making.is_initial() && presence.state == PresenceState::Offline;
        if !is_known && is_wanted(&presence) && is_seen(making, &presence.user_id).await? {
            presences.insert(presence.user_id.clone(), presence);
        }
    }
    for user_id in newcomers {
        if !presences.contains_key(&user_id) {
            presences.insert(user_id.clone(), inner.users.presence(&user_id).await?);
        }
    }
    let wanted = presences.values().filter(|presence| is_wanted(presence));
    let events = wanted.take(filter.limit());
    events.map(|presence| event(presence, making.now_ms)).collect()
}

/// Whether the user is told of another's presence.
async fn is_seen(making: &Making<'_>, user_id: &UserId) -> Result<bool> {
    if user_id == making.wish.request.user_id {
        return Ok(true);
    }
    share_a_room(&making.syncing.inner.rooms, &making.memberships, user_id).await
}

/// Whether somebody is in a room with the user of these memberships.
async fn share_a_room(rooms: &Rooms, mine: &Memberships, other: &UserId) -> Result<bool> {
    let theirs = rooms.rooms_of(other).await?;
    Ok(theirs.into_iter().any(|room| mine.is_joined(room)))
}

fn event(presence: &Presence, now_ms: u64) -> Result<Raw<PresenceEvent>> {
    let mut content = PresenceEventContent::new(presence.state.clone());
    let ago = presence.last_active_ms.map(|at| now_ms.saturating_sub(at));
    content.last_active_ago = ago.and_then(UInt::new);
    content.status_msg.clone_from(&presence.status_msg);
    if presence.state == PresenceState::Online {
        content.currently_active = Some(presence.currently_active);
    }
    Ok(Raw::new(&PresenceEvent { content, sender: presence.user_id.clone() })?)
}
