//! What is new in one room, as the response shows it.

use std::{collections::BTreeSet, sync::Arc};

use rooms::{EventNumber, Position, Room, ServedEvent, StoredEvent, Viewer};
use ruma::{
    OwnedUserId, UInt, UserId,
    api::client::sync::sync_events::v3::{
        Ephemeral, InviteState, InvitedRoom, JoinedRoom, KnockState, KnockedRoom, LeftRoom,
        RoomAccountData, RoomSummary, State, StateEvents, Timeline,
    },
    events::{StateEventType, room::member::MembershipState},
};
use serde::Deserialize;

use super::{
    Making, RoomNews, RoomUpdate, ephemeral,
    plan::{Joined, Part, RoomPlan},
};
use crate::{
    delta::{self, DeltaWish, RoomDelta, StatePlace, StateWish, WindowWish},
    error::Result,
    standing::{self, Standing},
};

/// Of how many members of a newly joined room the presence is told.
const NEWCOMERS_MAX: usize = 500;

/// How many of a user's member events are looked back at to find that they were joined.
const MEMBER_EVENTS_MAX: usize = 64;

/// Works on a room. `None` where nothing is new after all.
pub(super) async fn make(making: &Making<'_>, plan: RoomPlan) -> Result<Option<RoomNews>> {
    let rooms = &making.syncing.inner.rooms;
    let Some(room) = rooms.room(&plan.room_id).await? else { return Ok(None) };
    let nobody = BTreeSet::new;
    let made = match plan.part {
        Part::Joined(joined) => make_joined(making, &room, joined).await?,
        Part::Invited(event) => {
            make_invited(making, &room, event).await?.map(|update| (update, nobody()))
        }
        Part::Knocked(event) => Some((make_knocked(making, &room, event).await?, nobody())),
        Part::Left(standing) => {
            make_left(making, &room, &standing).await?.map(|update| (update, nobody()))
        }
    };
    let news = |(update, newcomers)| RoomNews { room_id: plan.room_id, update, newcomers };
    Ok(made.map(news))
}

async fn make_joined(
    making: &Making<'_>,
    room: &Arc<Room>,
    joined: Joined,
) -> Result<Option<(RoomUpdate, BTreeSet<OwnedUserId>)>> {
    let rooms = &making.syncing.inner.rooms;
    let delta = if joined.events {
        let wish = wish(making, joined.since, making.stretch.upto.position, None);
        delta::build(rooms, room, wish).await?
    } else {
        None
    };
    let is_whole = joined.since.is_none() || making.wish.request.full_state;
    let is_new = joined.since.is_none() && making.stretch.since.is_some();
    let delta = delta.filter(|delta| is_whole || !delta.is_empty());
    let mut update = JoinedRoom::new();
    update.ephemeral = Ephemeral::new();
    update.ephemeral.events = ephemeral::make(making, room, joined).await?;
    update.account_data = account_data(making, room, joined).await?;
    if delta.is_none() && update.ephemeral.is_empty() && update.account_data.is_empty() {
        return Ok(None);
    }
    update.state = state(making, delta.as_ref())?;
    let mut newcomers = BTreeSet::new();
    if let Some(delta) = &delta {
        update.timeline = timeline(making, delta, is_whole)?;
        // The timeline does not go on from what the client may have kept of an earlier stay.
        update.timeline.limited |= is_new;
        update.summary = summary(delta);
        newcomers = newcomers_in(making, room, joined, delta).await?;
    }
    Ok(Some((RoomUpdate::Joined(update), newcomers)))
}

async fn make_invited(
    making: &Making<'_>,
    room: &Arc<Room>,
    event: EventNumber,
) -> Result<Option<RoomUpdate>> {
    let rooms = &making.syncing.inner.rooms;
    let invite = rooms.load_event(room, event).await?;
    if making.ignored.contains(&invite.pdu.sender) {
        return Ok(None);
    }
    let events = rooms.stripped_state(room, &invite).await?;
    Ok(Some(RoomUpdate::Invited(InvitedRoom::from(InviteState::from(events)))))
}

async fn make_knocked(
    making: &Making<'_>,
    room: &Arc<Room>,
    event: EventNumber,
) -> Result<RoomUpdate> {
    let rooms = &making.syncing.inner.rooms;
    let knock = rooms.load_event(room, event).await?;
    let mut state = KnockState::new();
    state.events = rooms.stripped_state(room, &knock).await?;
    Ok(RoomUpdate::Knocked(KnockedRoom::from(state)))
}

/// A room that the user has left: its timeline up to their leaving, that included.
async fn make_left(
    making: &Making<'_>,
    room: &Arc<Room>,
    standing: &Standing,
) -> Result<Option<RoomUpdate>> {
    let rooms = &making.syncing.inner.rooms;
    let since = making.stretch.since.map(|since| since.position);
    let mut update = LeftRoom::new();
    let departure = departure(making, room, standing, since).await?;
    if let Some(departure) = &departure {
        let since = match since {
            Some(since) => {
                let viewer = &making.wish.request.user_id;
                let then = standing::in_state(rooms, viewer, room, since).await?;
                let was_joined = then.is_some_and(|then| then.membership == MembershipState::Join);
                was_joined.then_some(since)
            }
            None => None,
        };
        let wish = wish(making, since, departure.position, Some(departure.number));
        let Some(delta) = delta::build(rooms, room, wish).await? else { return Ok(None) };
        update.timeline = timeline(making, &delta, true)?;
        update.state = state(making, Some(&delta))?;
    }
    // An invite that was rejected, or a ban of one who had left: the rest of the room is not
    // theirs, so that this event is all they get.
    if departure.is_none_or(|departure| departure.number != standing.event) {
        add_lone(making, room, standing.event, &mut update).await?;
    }
    let filter = &making.wish.room_filters.account_data;
    update.account_data.events = making.account_data.of_room(filter, &room.room_id)?;
    Ok(Some(RoomUpdate::Left(update)))
}

/// The event after a point by which the user ceased to be joined, if there is one.
async fn departure(
    making: &Making<'_>,
    room: &Arc<Room>,
    standing: &Standing,
    since: Option<Position>,
) -> Result<Option<Arc<StoredEvent>>> {
    let rooms = &making.syncing.inner.rooms;
    let keys = [(StateEventType::RoomMember, making.wish.request.user_id.to_string())];
    let mut event = rooms.load_event(room, standing.event).await?;
    for _ in 0..MEMBER_EVENTS_MAX {
        if since.is_some_and(|since| event.position <= since) {
            return Ok(None);
        }
        let before = rooms.state_numbers(room, event.state_before, &keys).await?;
        let Some(number) = before.into_iter().flatten().next() else { return Ok(None) };
        let before = rooms.load_event(room, number).await?;
        if before.pdu.membership() == Some(MembershipState::Join) {
            return Ok(Some(event));
        }
        event = before;
    }
    Ok(None)
}

/// Adds an event to the room of one who may see nothing else of it any more.
async fn add_lone(
    making: &Making<'_>,
    room: &Arc<Room>,
    event: EventNumber,
    update: &mut LeftRoom,
) -> Result<()> {
    let rooms = &making.syncing.inner.rooms;
    let wish = making.wish;
    let event = rooms.load_event(room, event).await?;
    let filter = &wish.room_filters.timeline;
    let is_wanted = filter.takes_some_of(&room.room_id) && delta::takes(filter, &event);
    let served = rooms.serve_all(&wish.request.user_id, room, vec![event]).await?;
    let (shape, viewer) = (&wish.shape, viewer(making));
    for event in served.iter().filter(|_| is_wanted) {
        update.timeline.events.push(shape.timeline_event(event, viewer, making.now_ms)?);
    }
    if wish.state_place() == StatePlace::End {
        let mut events = state_events(making, &served)?;
        if let State::After(before) = &mut update.state {
            events.events.splice(0..0, before.events.drain(..));
        }
        update.state = State::After(events);
    }
    Ok(())
}

fn wish<'a>(
    making: &'a Making<'_>,
    since: Option<Position>,
    upto: Position,
    always: Option<EventNumber>,
) -> DeltaWish<'a> {
    let wish = making.wish;
    let filters = &wish.room_filters;
    DeltaWish {
        viewer: &wish.request.user_id,
        since,
        upto,
        window: WindowWish {
            limit: filters.timeline.timeline_limit(),
            filter: &filters.timeline,
            always,
        },
        state: StateWish {
            filter: &filters.state,
            place: wish.state_place(),
            whole: wish.request.full_state,
            lazy: filters.lazy,
            known: wish.known,
        },
        ignored: &making.ignored,
        // Who has left a room is told no more of its members.
        summary: always.is_none(),
    }
}

fn viewer<'a>(making: &'a Making<'_>) -> Viewer<'a> {
    let request = making.wish.request;
    Viewer { user_id: &request.user_id, device_id: Some(&request.device_id) }
}

fn timeline(making: &Making<'_>, delta: &RoomDelta, is_whole: bool) -> Result<Timeline> {
    let window = &delta.window;
    let mut timeline = Timeline::new();
    timeline.limited = window.limited;
    if is_whole || window.limited || !window.events.is_empty() {
        timeline.prev_batch = Some(window.before.to_string());
    }
    let (shape, viewer) = (&making.wish.shape, viewer(making));
    timeline.events = (window.events.iter())
        .map(|event| shape.timeline_event(event, viewer, making.now_ms))
        .collect::<Result<_>>()?;
    Ok(timeline)
}

fn state(making: &Making<'_>, delta: Option<&RoomDelta>) -> Result<State> {
    let events = delta.map_or(&[][..], |delta| &delta.state);
    let events = state_events(making, events)?;
    Ok(match making.wish.state_place() {
        StatePlace::Start => State::Before(events),
        StatePlace::End => State::After(events),
    })
}

fn state_events(making: &Making<'_>, events: &[ServedEvent]) -> Result<StateEvents> {
    let (shape, viewer) = (&making.wish.shape, viewer(making));
    let events: Vec<_> = (events.iter())
        .map(|event| shape.state_event(event, viewer, making.now_ms))
        .collect::<Result<_>>()?;
    Ok(StateEvents::from(events))
}

fn summary(delta: &RoomDelta) -> RoomSummary {
    let mut summary = RoomSummary::new();
    if let Some(new) = &delta.summary {
        summary.heroes.clone_from(&new.heroes);
        summary.joined_member_count = UInt::new(new.joined_count);
        summary.invited_member_count = UInt::new(new.invited_count);
    }
    summary
}

async fn account_data(making: &Making<'_>, room: &Room, joined: Joined) -> Result<RoomAccountData> {
    let mut data = RoomAccountData::new();
    let filter = &making.wish.room_filters.account_data;
    if !joined.account_data {
        return Ok(data);
    }
    data.events = if joined.since.is_none() {
        let viewer = &making.wish.request.user_id;
        let (syncing, room_id) = (making.syncing, &room.room_id);
        making.account_data.all_of_room(syncing, viewer, filter, room_id).await?
    } else {
        making.account_data.of_room(filter, &room.room_id)?
    };
    Ok(data)
}

/// Who came into the view of the user by this delta: new members, or everybody where the user is
/// new.
async fn newcomers_in(
    making: &Making<'_>,
    room: &Room,
    joined: Joined,
    delta: &RoomDelta,
) -> Result<BTreeSet<OwnedUserId>> {
    if making.is_initial() {
        return Ok(BTreeSet::new());
    }
    if joined.since.is_none() {
        let users = making.syncing.inner.rooms.joined_users(room).await?;
        return Ok(users.iter().take(NEWCOMERS_MAX).cloned().collect());
    }
    let events = delta.window.events.iter().chain(&delta.state);
    Ok(events.filter_map(newcomer).take(NEWCOMERS_MAX).map(UserId::to_owned).collect())
}

/// The user whom a member event brought into the room.
fn newcomer(event: &ServedEvent) -> Option<&UserId> {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
    }
    let is_join = |membership: Option<MembershipState>| membership == Some(MembershipState::Join);
    let pdu = &event.event.pdu;
    if !is_join(pdu.membership()) {
        return None;
    }
    let before = event.prev_content.as_ref().and_then(|before| {
        serde_json::from_str::<Content>(before.content.get()).ok().map(|content| content.membership)
    });
    if is_join(before) {
        return None;
    }
    pdu.state_key.as_deref().and_then(|user_id| user_id.try_into().ok())
}
