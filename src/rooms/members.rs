//! The members of a room.

#[cfg(test)]
mod tests;

use std::{ops::Bound, sync::Arc};

use ruma::{
    OwnedUserId, RoomId, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use serde::Deserialize;
use store::Page;

use crate::{
    Rooms, ServedEvent,
    cache::JoinedUsers,
    error::{Result, RoomsError},
    membership::Profile,
    room::Room,
    state::StateSelect,
    stored_event::StoredEvent,
    tables::{EventNumber, ROOM_MEMBERS, StateRoot},
    timeline::PageToken,
    visibility::{Access, Lens},
};

/// How many members are read from the store at a time.
const MEMBERS_PAGE_LEN: usize = 1_024;

/// Which members are wanted. With both a wanted and an unwanted membership, one of them suffices.
#[derive(Clone, Debug, Default)]
pub struct MembersQuery {
    /// As of when; now if `None`.
    pub at: Option<PageToken>,
    /// Only those with this membership.
    pub membership: Option<MembershipState>,
    /// Only those without this membership.
    pub not_membership: Option<MembershipState>,
}

impl MembersQuery {
    fn wants(&self, event: &StoredEvent) -> bool {
        let Some(membership) = event.pdu.membership() else { return false };
        if self.membership.is_none() && self.not_membership.is_none() {
            return true;
        }
        self.membership.as_ref().is_some_and(|wanted| *wanted == membership)
            || self.not_membership.as_ref().is_some_and(|unwanted| *unwanted != membership)
    }
}

impl Rooms {
    /// Shows the member events of a room, now or at a place in its timeline; to those who left, at
    /// their leave at the latest.
    ///
    /// # Errors
    /// [`RoomsError::Forbidden`] when the viewer may not read the room, or not at that place.
    pub async fn members(
        &self,
        viewer: &UserId,
        room_id: &RoomId,
        query: MembersQuery,
    ) -> Result<Vec<ServedEvent>> {
        let (room, access) = self.open_state_for(viewer, room_id).await?;
        self.wait_until_whole(&room).await;
        let root = self.state_for_members(viewer, &room, &access, query.at).await?;
        let select = StateSelect::kind(StateEventType::RoomMember);
        let numbers = self.select_state(&room, root, &select).await?;
        let mut events = self.events(&room, &numbers).await?;
        events.retain(|event| query.wants(event));
        self.serve_all(viewer, &room, events).await
    }

    /// The state whose members a viewer may see.
    async fn state_for_members(
        &self,
        viewer: &UserId,
        room: &Room,
        access: &Access,
        at: Option<PageToken>,
    ) -> Result<StateRoot> {
        let latest = access.state(self.current_state(room).await?);
        let Some(at) = at else { return Ok(latest) };
        if let Access::Until(leave) = access
            && at > PageToken::before(leave)
        {
            return Ok(latest);
        }
        let Some(row) = self.row_before(room, at).await? else { return Ok(StateRoot::EMPTY) };
        let event = self.load_event(room, row.event).await?;
        if Lens::new(self, room, viewer).await?.shows(&event).await? {
            Ok(row.state)
        } else {
            Err(RoomsError::forbidden("you may not see the room as it was then"))
        }
    }

    /// The joined members of a room with their names and pictures there, for one who is joined too.
    ///
    /// # Errors
    /// [`RoomsError::Forbidden`] when the viewer is not joined.
    pub async fn joined_members(
        &self,
        viewer: &UserId,
        room_id: &RoomId,
    ) -> Result<Vec<(OwnedUserId, Profile)>> {
        let room = self.open_joined(viewer, room_id).await?;
        self.wait_until_whole(&room).await;
        let rows = self.members_with(&room, &MembershipState::Join, usize::MAX).await?;
        let numbers: Vec<_> = rows.iter().map(|(_, event)| *event).collect();
        let events = self.events(&room, &numbers).await?;
        Ok(rows
            .into_iter()
            .zip(events)
            .map(|((user, _), event)| (user, profile_in(&event)))
            .collect())
    }

    /// The users joined to a room, local and remote.
    ///
    /// # Errors
    /// [`RoomsError::Store`].
    pub async fn joined_users(&self, room: &Room) -> Result<Arc<JoinedUsers>> {
        let cache = &self.inner.caches.joined_users;
        if let Some(cached) = cache.get(&room.number) {
            return Ok(cached);
        }
        let ticket = cache.ticket(&room.number);
        let rows = self.members_with(room, &MembershipState::Join, usize::MAX).await?;
        let users = Arc::new(rows.into_iter().map(|(user, _)| user).collect::<JoinedUsers>());
        cache.fill(&room.number, &users, ticket);
        Ok(users)
    }

    /// A room in which the viewer is joined.
    pub(crate) async fn open_joined(&self, viewer: &UserId, room_id: &RoomId) -> Result<Arc<Room>> {
        let refused = || RoomsError::forbidden("you are not in this room");
        let room = self.room(room_id).await?.ok_or_else(refused)?;
        if self.is_joined(viewer, room.number).await? { Ok(room) } else { Err(refused()) }
    }

    /// Up to `limit` users of a membership with their member events, in the order of their IDs;
    /// read page by page.
    pub(crate) async fn members_with(
        &self,
        room: &Room,
        membership: &MembershipState,
        limit: usize,
    ) -> Result<Vec<(OwnedUserId, EventNumber)>> {
        let all = (room.number, membership.to_string());
        let mut range = ROOM_MEMBERS.prefix(&all);
        let mut members = Vec::new();
        loop {
            let page = Page::first(MEMBERS_PAGE_LEN.min(limit - members.len()));
            let rows = self.store().scan(&ROOM_MEMBERS, range, page).await?;
            let full = rows.len() == page.limit;
            let last = rows.last().map(|(key, _)| key.clone());
            members.extend(rows.into_iter().filter_map(|((_, _, user), event)| {
                OwnedUserId::try_from(user).ok().map(|user| (user, event))
            }));
            match last {
                Some(last) if full && members.len() < limit => {
                    range = ROOM_MEMBERS.between(Bound::Excluded(&last), Bound::Included(&all));
                }
                _ => return Ok(members),
            }
        }
    }
}

/// Name and picture in a member event.
pub(crate) fn profile_in(event: &StoredEvent) -> Profile {
    #[derive(Default, Deserialize)]
    struct Content {
        displayname: Option<serde_json::Value>,
        avatar_url: Option<serde_json::Value>,
    }
    let content: Content = event.pdu.content_as().unwrap_or_default();
    let text = |value: Option<serde_json::Value>| {
        value.and_then(|value| value.as_str().map(str::to_owned))
    };
    Profile { displayname: text(content.displayname), avatar_url: text(content.avatar_url) }
}
