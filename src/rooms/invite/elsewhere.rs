//! Inviting a user of another server: their server signs the invite before it counts.

use std::sync::Arc;

use event::Pdu;
use futures_util::{StreamExt, stream};
use ruma::{
    OwnedEventId, OwnedUserId, RoomId, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::value::RawValue as RawJsonValue;

use crate::{
    Rooms,
    append::Assembly,
    error::{Result, RoomsError},
    membership::{MemberContent, Profile},
    new_event::{Content, NewEvent, to_raw},
    remote::RemoteError,
    room::Room,
};

/// How many users are invited at the same time when a room is created.
const INVITES_AT_ONCE: usize = 8;

/// An invite that is signed by us, but not yet by the server of the one invited.
struct Unanswered {
    room: Arc<Room>,
    event: Pdu,
    told: Vec<Box<RawJsonValue>>,
}

impl Rooms {
    /// Whom an event invites, if that is a user of another server, and its content.
    pub(crate) fn far_invite(&self, event: &NewEvent) -> Option<(OwnedUserId, Box<RawJsonValue>)> {
        #[derive(Deserialize)]
        struct Invite {
            membership: MembershipState,
        }
        let target = event.member().filter(|target| !self.is_local(target))?;
        let Content::Raw(content) = &event.content else { return None };
        let invite: Invite = serde_json::from_str(content.get()).ok()?;
        let invites = invite.membership == MembershipState::Invite;
        invites.then(|| (target, content.clone()))
    }

    /// Invites a user of another server. Goes on even if the one who asked for it goes away: the
    /// other server may have told its user already.
    pub(crate) async fn invite_elsewhere(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        target: &UserId,
        content: Box<RawJsonValue>,
    ) -> Result<OwnedEventId> {
        let invite = match self.prepare_invite(sender, room_id, target, content).await? {
            Ok(invite) => invite,
            Err(same) => return Ok(same),
        };
        let (rooms, target) = (self.clone(), target.to_owned());
        self.see_through(async move {
            let closing = rooms.inner.closing.clone();
            let sending = rooms.send_invite(invite, &target);
            closing.run_until_cancelled(sending).await.ok_or(RoomsError::Stopping)?
        })
        .await
    }

    /// Makes an invite in the lane. The ID of the old one where it says the same.
    async fn prepare_invite(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        target: &UserId,
        content: Box<RawJsonValue>,
    ) -> Result<Result<Unanswered, OwnedEventId>> {
        let lane = self.enter(room_id).await?;
        self.check_may_invite(&lane, sender, target).await?;
        let room = Arc::clone(lane.room());
        let mut assembly = Assembly::new(self, Arc::clone(&room), Arc::clone(&lane.head));
        let new = NewEvent::state(StateEventType::RoomMember, target, content);
        let event = match assembly.invite(sender, new).await? {
            Ok(event) => event,
            Err(same) => return Ok(Err(same)),
        };
        let told = self.state_for_outsider(&room, lane.state(), &event).await?;
        Ok(Ok(Unanswered { room, event, told }))
    }

    /// Has an invite signed by the other server, and puts it into the room.
    async fn send_invite(&self, invite: Unanswered, target: &UserId) -> Result<OwnedEventId> {
        let Unanswered { room, event, told } = invite;
        let event = self.policed(&room, event).await?;
        let server = target.server_name();
        let remote = &self.inner.config.remote;
        let answer = remote.send_invite(server, &room, &event, &told).await;
        let failed = |failure| RoomsError::Servers { failures: vec![failure] };
        let signed = answer.map_err(failed)?.into_pdu();
        if !is_same(&event, &signed) {
            let why = "it gave back another event than the invite".to_owned();
            return Err(failed(RemoteError::BadAnswer { server: server.to_owned(), why }));
        }
        let mut lane = self.enter(&room.room_id).await?;
        let event_id = signed.event_id.clone();
        if self.event_by_id(&room, &event_id).await?.is_none() {
            self.place_known(&mut lane, signed, false).await?;
        }
        Ok(event_id)
    }

    /// Invites users of other servers into a room that was just created. Whoever cannot be invited
    /// is passed over: the room is there.
    pub(crate) async fn invite_all_elsewhere(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        invites: Vec<(OwnedUserId, Profile)>,
        is_direct: bool,
    ) {
        let mut inviting = Vec::with_capacity(invites.len());
        for (target, profile) in invites {
            inviting.push(async move {
                let content =
                    MemberContent::new(MembershipState::Invite).profile(profile).direct(is_direct);
                let content = to_raw(&content)?;
                self.invite_elsewhere(sender, room_id, &target, content).await
            });
        }
        let mut invited = stream::iter(inviting).buffer_unordered(INVITES_AT_ONCE);
        while let Some(done) = invited.next().await {
            if let Err(error) = done {
                tracing::warn!(room.id = %room_id, %error, "a user was not invited");
            }
        }
    }
}

/// Whether two events are the same but for their signatures. The ID says so, but in room versions 1
/// and 2, where the event states it.
fn is_same(ours: &Pdu, theirs: &Pdu) -> bool {
    ours.event_id == theirs.event_id
        && ours.room_id == theirs.room_id
        && ours.kind == TimelineEventType::RoomMember
        && ours.kind == theirs.kind
        && ours.sender == theirs.sender
        && ours.state_key == theirs.state_key
        && ours.content.get() == theirs.content.get()
        && ours.prev_events == theirs.prev_events
        && ours.auth_events == theirs.auth_events
}
