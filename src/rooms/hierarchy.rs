//! The rooms of a space, and those of the spaces in it.
//!
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#spaces)

pub(crate) mod remote;
mod walks;

use std::{collections::HashMap, sync::Arc, time::Duration};

use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId,
    events::{
        StateEventType,
        space::child::{HierarchySpaceChildEvent, SpaceChildOrd as _},
    },
    room::{RoomSummary, RoomType},
    serde::Raw,
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    Rooms,
    error::{Result, RoomsError},
    hierarchy::walks::{Step, Walk},
    preview::Asker,
    remote::RemoteResult,
    room::Room,
    state::StateSelect,
};

pub use self::remote::ServerHierarchy;
pub(crate) use self::walks::Walks;

/// Most rooms of a page.
const PAGE_ROOMS_MAX: usize = 100;

/// Rooms of a page where the client names no limit.
const PAGE_ROOMS: usize = 50;

/// How long a page may take, about.
const PAGE_TIME_MAX: Duration = Duration::from_secs(10);

/// Most children of one space that are looked at.
const CHILDREN_MAX: usize = 500;

/// A room of a hierarchy, with its children if it is a space.
#[derive(Clone, Debug)]
pub struct SpaceRoom {
    /// What is told of the room.
    pub summary: RoomSummary,
    /// The `m.space.child` events that name its children, in the order of the children.
    pub children: Vec<Raw<HierarchySpaceChildEvent>>,
}

/// Which part of a hierarchy is wanted.
#[derive(Clone, Debug, Default)]
pub struct HierarchyQuery {
    /// Where the page before ended.
    pub from: Option<String>,
    /// Most rooms wanted.
    pub limit: Option<usize>,
    /// How many levels below the space are wanted; all, if `None`.
    pub max_depth: Option<u64>,
    /// Whether only suggested children are wanted.
    pub suggested_only: bool,
}

/// A page of a hierarchy.
#[derive(Clone, Debug)]
pub struct HierarchyPage {
    /// The rooms, depth first.
    pub rooms: Vec<SpaceRoom>,
    /// Where the next page begins, if there is more.
    pub next_batch: Option<String>,
}

/// A child as a space names it.
struct Child {
    room_id: OwnedRoomId,
    via: Vec<OwnedServerName>,
}

impl Rooms {
    /// Walks a space and the spaces in it, depth first, and tells of every room that the user may
    /// know of.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy)
    ///
    /// # Errors
    /// - [`RoomsError::Forbidden`] when the user may not know of the room.
    /// - [`RoomsError::InvalidParam`] when `from` is none of ours, is too old, or came from another
    ///   query.
    pub async fn hierarchy(
        &self,
        user: &UserId,
        room_id: &RoomId,
        query: HierarchyQuery,
    ) -> Result<HierarchyPage> {
        let limit = query.limit.unwrap_or(PAGE_ROOMS).clamp(1, PAGE_ROOMS_MAX);
        let walks = &self.inner.walks;
        let mut walk = match &query.from {
            None => Walk::begin(user, room_id, &query),
            Some(token) => walks.resume(token, user, room_id, &query).ok_or_else(|| {
                RoomsError::invalid_param("from is unknown, too old, or of another query")
            })?,
        };
        let mut rooms = Vec::new();
        let until = Instant::now() + PAGE_TIME_MAX;
        // A page that takes long ends early; the next one goes on.
        while rooms.len() < limit
            && (rooms.is_empty() || Instant::now() < until)
            && let Some(step) = walk.next()
        {
            let first = step.depth == 0;
            match self.visit(user, step, &mut walk).await? {
                Some(room) => rooms.push(room),
                None if first => {
                    let why = "you may not see this room, or it does not exist";
                    return Err(RoomsError::forbidden(why));
                }
                None => {}
            }
        }
        let next_batch = (!walk.is_done()).then(|| walks.keep(walk));
        Ok(HierarchyPage { rooms, next_batch })
    }

    /// Tells of one room and notes its children. `None` where the user may not know of it.
    async fn visit(&self, user: &UserId, step: Step, walk: &mut Walk) -> Result<Option<SpaceRoom>> {
        let asker = Asker::User(user);
        let told = match self.known_state(&step.room_id).await? {
            Some(room) => {
                if !self.may_preview(asker, &room).await? {
                    return Ok(None);
                }
                self.space_room(&room, walk.suggested_only()).await?
            }
            None => match self.visit_remote(&step, walk).await {
                Some(told) if self.may_see_remote(asker, &told.summary).await? => told,
                _ => return Ok(None),
            },
        };
        walk.descend(&step, children_of(&told));
        Ok(Some(told))
    }

    /// What others tell of a room that we are not in. What was told with its parent is enough,
    /// unless it is a space, whose children are wanted.
    async fn visit_remote(&self, step: &Step, walk: &mut Walk) -> Option<SpaceRoom> {
        if let Some(summary) = walk.told(&step.room_id)
            && (summary.room_type != Some(RoomType::Space) || !walk.goes_below(step.depth))
        {
            return Some(SpaceRoom { summary, children: Vec::new() });
        }
        let answer = self.remote_hierarchy(&step.room_id, &step.via, walk.suggested_only()).await?;
        for child in answer.children {
            walk.note_told(child);
        }
        Some(answer.room)
    }

    /// A space and its children, for another server.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid)
    ///
    /// # Errors
    /// [`RoomsError::NotFound`] when we do not have the room, or the server may not know of it.
    pub async fn hierarchy_for(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> Result<ServerHierarchy> {
        let asker = Asker::Server(server);
        let not_found = || RoomsError::NotFound { what: "room" };
        let room = self.known_state(room_id).await?.ok_or_else(not_found)?;
        if !self.may_preview(asker, &room).await? {
            return Err(not_found());
        }
        let told = self.space_room(&room, suggested_only).await?;
        let mut children = Vec::new();
        let mut inaccessible = Vec::new();
        for child in children_of(&told) {
            let Some(room) = self.known_state(&child.room_id).await? else { continue };
            if self.may_preview(asker, &room).await? {
                children.push(self.preview(&room).await?);
            } else {
                inaccessible.push(child.room_id);
            }
        }
        Ok(ServerHierarchy { room: told, children, inaccessible })
    }

    /// A room that we have, with its children in their order.
    async fn space_room(&self, room: &Arc<Room>, suggested_only: bool) -> Result<SpaceRoom> {
        let summary = self.preview(room).await?;
        if summary.room_type != Some(RoomType::Space) {
            return Ok(SpaceRoom { summary, children: Vec::new() });
        }
        let root = self.current_state(room).await?;
        let types = StateSelect::Types([StateEventType::SpaceChild].into());
        let mut children: Vec<(HierarchySpaceChildEvent, Raw<HierarchySpaceChildEvent>)> = self
            .state_events(room, root, &types)
            .await?
            .iter()
            .filter_map(|event| {
                let stripped = Raw::new(&json!({
                    "type": event.kind,
                    "state_key": event.state_key,
                    "content": event.content,
                    "sender": event.sender,
                    "origin_server_ts": event.origin_server_ts,
                }));
                let stripped = stripped.ok()?.cast_unchecked::<HierarchySpaceChildEvent>();
                let child = stripped.deserialize().ok()?;
                let wanted = child.content.suggested || !suggested_only;
                (wanted && !child.content.via.is_empty()).then_some((child, stripped))
            })
            .collect();
        children.sort_by(|a, b| a.0.cmp_space_child(&b.0));
        children.truncate(CHILDREN_MAX);
        Ok(SpaceRoom { summary, children: children.into_iter().map(|(_, raw)| raw).collect() })
    }

    /// Asks servers about a room, one after the other, those first that have a chance.
    pub(crate) async fn remote_hierarchy(
        &self,
        room_id: &RoomId,
        via: &[OwnedServerName],
        suggested_only: bool,
    ) -> Option<ServerHierarchy> {
        let remote = &self.inner.config.remote;
        let mut servers: Vec<&OwnedServerName> = Vec::new();
        for server in via.iter().filter(|server| *server != self.server_name()) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers.sort_by_key(|server| !remote.is_reachable(server));
        for server in servers.into_iter().take(crate::preview::SERVERS_ASKED_MAX) {
            let answer: RemoteResult<_> = remote.hierarchy(server, room_id, suggested_only).await;
            match answer.map(|json| ServerHierarchy::parse(&json, room_id)) {
                Ok(Some(hierarchy)) => return Some(hierarchy),
                Ok(None) => tracing::debug!(%server, %room_id, "a malformed hierarchy"),
                Err(error) => tracing::debug!(%error, %room_id, "no hierarchy"),
            }
        }
        None
    }
}

/// The children that a space names, in their order.
fn children_of(space: &SpaceRoom) -> Vec<Child> {
    let mut seen: HashMap<OwnedRoomId, ()> = HashMap::new();
    space
        .children
        .iter()
        .take(CHILDREN_MAX)
        .filter_map(|raw| raw.deserialize().ok())
        .filter(|child| seen.insert(child.state_key.clone(), ()).is_none())
        .map(|child| Child { room_id: child.state_key, via: child.content.via })
        .collect()
}
