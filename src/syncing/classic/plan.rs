//! Which rooms have something new for a user, before anything of them is read.

use rooms::{EventNumber, MembershipRecord, Memberships, Position};
use ruma::{OwnedRoomId, events::room::member::MembershipState};

use super::{AccountData, Stretch, Wish};
use crate::{
    Syncing,
    error::Result,
    notifier::marks::RoomMark,
    standing::{self, Standing},
};

/// A room to be worked on.
#[derive(Debug)]
pub(super) struct RoomPlan {
    pub(super) room_id: OwnedRoomId,
    pub(super) part: Part,
}

/// In which part of the response a room is, and what of it may be new.
#[derive(Debug)]
pub(super) enum Part {
    Joined(Joined),
    Invited(EventNumber),
    Knocked(EventNumber),
    Left(Standing),
}

/// What may be new in a joined room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joined {
    /// Up to where the client has the room; `None` where it has nothing of it.
    pub(super) since: Option<Position>,
    pub(super) events: bool,
    pub(super) receipts: bool,
    pub(super) typing: bool,
    pub(super) account_data: bool,
}

impl Stretch {
    /// The version of typing that the client has; `None` where what it has cannot be told any more.
    fn typing_since(&self) -> Option<u64> {
        match self.since {
            Some(since) if since.boot == self.upto.boot => Some(since.typing),
            // Somebody may have been typing when the server was stopped.
            Some(since) if since.typing > 0 => None,
            _ => Some(0),
        }
    }

    /// The version of presence that the client has.
    pub(super) fn presence_since(&self) -> u64 {
        match self.since {
            Some(since) if since.boot == self.upto.boot => since.presence,
            _ => 0,
        }
    }
}

/// What is known of a room without looking into it.
struct Glance<'a> {
    record: &'a MembershipRecord,
    mark: RoomMark,
    typing: bool,
    account_data: bool,
}

/// Finds the rooms with news.
pub(super) async fn make(
    syncing: &Syncing,
    wish: &Wish<'_>,
    stretch: Stretch,
    memberships: &Memberships,
    account_data: &AccountData,
) -> Result<Vec<RoomPlan>> {
    let mut plans = Vec::new();
    for glance in glances(syncing, wish, stretch, memberships, account_data) {
        if let Some(part) = part(syncing, wish, stretch, &glance).await? {
            plans.push(RoomPlan { room_id: glance.record.room_id.clone(), part });
        }
    }
    Ok(plans)
}

/// The rooms that may have news, found without waiting for anything.
fn glances<'a>(
    syncing: &Syncing,
    wish: &Wish<'_>,
    stretch: Stretch,
    memberships: &'a Memberships,
    account_data: &AccountData,
) -> Vec<Glance<'a>> {
    let rooms = &syncing.inner.rooms;
    let typing_is_new = stretch.typing_since() != Some(stretch.upto.typing);
    let marks = syncing.inner.notifier.marks();
    let mut glances = Vec::new();
    for record in memberships.iter() {
        let is_joined = record.membership == MembershipState::Join;
        let typing = is_joined && typing_is_new && {
            let (version, _) = rooms.typing(&record.room_id);
            stretch.typing_since().is_none_or(|since| version > since)
        };
        let account_data = account_data.concerns(&record.room_id);
        let glance = Glance { record, mark: marks.room(record.room), typing, account_data };
        if may_be_new(wish, stretch, &glance) && wish.room_filters.rooms.takes(&record.room_id) {
            glances.push(glance);
        }
    }
    glances
}

fn may_be_new(wish: &Wish<'_>, stretch: Stretch, glance: &Glance<'_>) -> bool {
    let Some(since) = stretch.since else { return true };
    if glance.record.position > since.position || glance.account_data {
        return true;
    }
    glance.record.membership == MembershipState::Join
        && (wish.request.full_state
            || glance.mark.event > since.position
            || glance.mark.receipt > since.position
            || glance.typing)
}

/// Where in the response a room belongs, if anywhere.
async fn part(
    syncing: &Syncing,
    wish: &Wish<'_>,
    stretch: Stretch,
    glance: &Glance<'_>,
) -> Result<Option<Part>> {
    let (rooms, viewer) = (&syncing.inner.rooms, &wish.request.user_id);
    let record = glance.record;
    let standing = standing::at(rooms, viewer, record, stretch.upto.position).await?;
    let Some(standing) = standing else { return Ok(None) };
    let since = stretch.since.map(|since| since.position);
    let is_new = since.is_none_or(|since| standing.position > since);
    Ok(match standing.membership {
        MembershipState::Join => {
            let since = match since {
                Some(since) if is_new => joined_since(syncing, wish, record, since).await?,
                since => since,
            };
            members_known(syncing, wish, record, since)
                .map(|since| Part::Joined(joined(wish, since, glance)))
        }
        MembershipState::Invite if is_new => Some(Part::Invited(standing.event)),
        MembershipState::Knock if is_new => Some(Part::Knocked(standing.event)),
        MembershipState::Leave | MembershipState::Ban if is_new => {
            let is_wanted = since.is_some() || (wish.include_leave && !record.forgotten);
            is_wanted.then_some(Part::Left(standing))
        }
        _ => None,
    })
}

/// The point where a client stands. One that wants all members at once is not shown a room whose
/// members we lack, and has it as new once we know them. `None` while it is not shown.
fn members_known(
    syncing: &Syncing,
    wish: &Wish<'_>,
    record: &MembershipRecord,
    since: Option<Position>,
) -> Option<Option<Position>> {
    if wish.room_filters.lazy.is_some() {
        return Some(since);
    }
    let whole = syncing.inner.rooms.whole_since(record.room)?;
    Some(since.filter(|since| *since >= whole))
}

/// The point where a client stands, if the user was joined there already.
async fn joined_since(
    syncing: &Syncing,
    wish: &Wish<'_>,
    record: &MembershipRecord,
    since: Position,
) -> Result<Option<Position>> {
    let rooms = &syncing.inner.rooms;
    let Some(room) = rooms.room(&record.room_id).await? else { return Ok(None) };
    let then = standing::in_state(rooms, &wish.request.user_id, &room, since).await?;
    let was_joined = then.is_some_and(|then| then.membership == MembershipState::Join);
    Ok(was_joined.then_some(since))
}

fn joined(wish: &Wish<'_>, since: Option<Position>, glance: &Glance<'_>) -> Joined {
    let is_after = |position: Position| since.is_none_or(|since| position > since);
    Joined {
        since,
        events: wish.request.full_state || is_after(glance.mark.event),
        receipts: is_after(glance.mark.receipt),
        typing: glance.typing || since.is_none(),
        account_data: glance.account_data || since.is_none(),
    }
}
