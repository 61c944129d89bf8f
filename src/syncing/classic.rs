//! `/v3/sync`: one response with all that is new for a user.
//!
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync)

mod account_data;
mod e2ee;
mod ephemeral;
mod plan;
mod presence;
mod room;

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream};
use rooms::Memberships;
use ruma::{
    OwnedRoomId, OwnedUserId,
    api::client::{
        filter::FilterDefinition,
        sync::sync_events::v3::{
            GlobalAccountData, InvitedRoom, JoinedRoom, KnockedRoom, LeftRoom, Presence, Response,
            Rooms as RoomUpdates,
        },
    },
};

use self::account_data::AccountData;
use crate::{
    Syncing,
    delta::StatePlace,
    error::Result,
    filter::{EventFilter, RoomFilters},
    ignored::IgnoredUsers,
    request::SyncRequest,
    sent_members::KnownMembers,
    shape::Shape,
    token::SyncToken,
};

/// Rooms of one response that are worked on at the same time.
const ROOMS_AT_ONCE: usize = 16;

/// What one request wants, made ready once for all responses that are tried.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) request: &'a SyncRequest,
    pub(crate) room_filters: RoomFilters,
    pub(crate) account_data_filter: EventFilter,
    pub(crate) presence_filter: EventFilter,
    pub(crate) include_leave: bool,
    pub(crate) shape: Shape,
    pub(crate) known: &'a KnownMembers,
}

impl<'a> Wish<'a> {
    pub(crate) fn new(request: &'a SyncRequest, known: &'a KnownMembers) -> Self {
        let filter: &FilterDefinition = &request.filter;
        Self {
            request,
            room_filters: RoomFilters::new(&filter.room),
            account_data_filter: EventFilter::of_others(&filter.account_data),
            presence_filter: EventFilter::of_others(&filter.presence),
            include_leave: filter.room.include_leave,
            shape: Shape::new(filter),
            known,
        }
    }

    fn state_place(&self) -> StatePlace {
        if self.request.use_state_after { StatePlace::End } else { StatePlace::Start }
    }
}

/// The stretch that one response is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    /// Where the client stands; `None` where it has nothing.
    pub(crate) since: Option<SyncToken>,
    /// Up to where it is told. Fixed before anything is read.
    pub(crate) upto: SyncToken,
}

/// What is new in one room.
#[derive(Debug)]
enum RoomUpdate {
    Joined(JoinedRoom),
    Invited(InvitedRoom),
    Knocked(KnockedRoom),
    Left(LeftRoom),
}

/// What is new in one room, and who came into it.
#[derive(Debug)]
struct RoomNews {
    room_id: OwnedRoomId,
    update: RoomUpdate,
    newcomers: BTreeSet<OwnedUserId>,
}

/// Everything that building a response needs at hand.
struct Making<'a> {
    syncing: &'a Syncing,
    wish: &'a Wish<'a>,
    stretch: Stretch,
    now_ms: u64,
    ignored: IgnoredUsers,
    memberships: Arc<Memberships>,
    account_data: AccountData,
}

impl Making<'_> {
    fn is_initial(&self) -> bool {
        self.stretch.since.is_none()
    }
}

/// Whether a response tells nothing.
pub(crate) fn is_empty(response: &Response) -> bool {
    response.rooms.is_empty()
        && response.presence.is_empty()
        && response.account_data.is_empty()
        && response.to_device.is_empty()
        && response.device_lists.is_empty()
}

/// Builds the response for a stretch, and the token that goes with it.
pub(crate) async fn respond(
    syncing: &Syncing,
    wish: &Wish<'_>,
    stretch: Stretch,
) -> Result<(Response, SyncToken)> {
    let inner = &syncing.inner;
    let viewer = &wish.request.user_id;
    let memberships = inner.rooms.memberships(viewer).await?;
    let account_data = AccountData::load(syncing, viewer, stretch).await?;
    let plans = plan::make(syncing, wish, stretch, &memberships, &account_data).await?;
    let is_quiet = plans.is_empty() && stretch.presence_since() == stretch.upto.presence;
    let ignored = if is_quiet {
        IgnoredUsers::default()
    } else {
        IgnoredUsers::load(&inner.users, viewer).await?
    };
    let now_ms = inner.clock.now_ms();
    let making = Making { syncing, wish, stretch, now_ms, ignored, memberships, account_data };
    let news: Vec<RoomNews> = stream::iter(plans)
        .map(|plan| room::make(&making, plan))
        .buffered(ROOMS_AT_ONCE)
        .try_filter_map(|news| std::future::ready(Ok(news)))
        .try_collect()
        .await?;
    let mut rooms = RoomUpdates::new();
    let mut newcomers = BTreeSet::new();
    for news in news {
        newcomers.extend(news.newcomers);
        add(&mut rooms, news.room_id, news.update);
    }
    let mut response = Response::new(stretch.upto.to_string());
    response.rooms = rooms;
    response.account_data = GlobalAccountData::new();
    response.account_data.events = making.account_data.global(&wish.account_data_filter)?;
    response.presence = Presence::new();
    response.presence.events = presence::make(&making, newcomers).await?;
    let memberships = &making.memberships;
    let next = e2ee::add(syncing, wish, stretch, memberships, &mut response).await?;
    Ok((response, next))
}

fn add(rooms: &mut RoomUpdates, room_id: OwnedRoomId, update: RoomUpdate) {
    match update {
        RoomUpdate::Joined(room) => drop(rooms.join.insert(room_id, room)),
        RoomUpdate::Invited(room) => drop(rooms.invite.insert(room_id, room)),
        RoomUpdate::Knocked(room) => drop(rooms.knock.insert(room_id, room)),
        RoomUpdate::Left(room) => drop(rooms.leave.insert(room_id, room)),
    }
}
