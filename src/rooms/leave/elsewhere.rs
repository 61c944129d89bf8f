//! Ending an invite or a knock of a room that this server is not in.

use std::{collections::BTreeMap, sync::Arc};

use event::{Draft, Pdu};
use ruma::{
    MilliSecondsSinceUnixEpoch, ServerName, UInt,
    events::{TimelineEventType, room::member::MembershipState},
};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    membership::{
        MemberContent,
        handshake::{Prepared, Setback, Turn, Wish},
        outside::Outsider,
    },
    new_event::to_raw,
    room::Room,
};

impl Rooms {
    /// Leaves with the help of other servers, and without them where none helps.
    pub(super) async fn leave_elsewhere(&self, room: &Arc<Room>, wish: Wish) -> Result<()> {
        let servers = self.helpers(&wish.user, &wish.room_id, &[]).await?;
        let mut turn = Turn::brief(self, servers);
        while let Some(server) = turn.next_server() {
            if turn.ask(self.leave_through(&server, &wish)).await?.is_some() {
                return Ok(());
            }
        }
        let error = turn.give_up();
        tracing::info!(room.id = %room.room_id, %error, "an invite is rejected without its server");
        self.leave_alone(room, &wish).await
    }

    async fn leave_through(&self, server: &ServerName, wish: &Wish) -> Result<(), Setback> {
        let Prepared { room, event } = self.prepare_with(server, wish).await?;
        self.inner.config.remote.send_leave(server, &room, &event).await?;
        let entrance = self.enter_any(&room.room_id, &room.version).await;
        let entrance = entrance.map_err(|error| Setback::blame(server, error))?;
        let outsider = Outsider {
            user: wish.user.clone(),
            event,
            server: server.to_owned(),
            state: Vec::new(),
        };
        // Where we have come into the room meanwhile, the leave comes with its events.
        self.put_outsider(entrance, outsider).await?;
        Ok(())
    }

    /// Ends an invite or a knock for us alone: the room does not hear of it.
    async fn leave_alone(&self, room: &Arc<Room>, wish: &Wish) -> Result<()> {
        let row = self.outside_row(room, &wish.user).await?;
        let row = row.ok_or(RoomsError::NotFound { what: "invite" })?;
        let old = self.load_event(room, row.event).await?;
        let event = self.lone_leave(room, &old.pdu, wish)?;
        let entrance = self.enter_any(&room.room_id, &room.version).await?;
        let outsider =
            Outsider { user: wish.user.clone(), event, server: row.server, state: Vec::new() };
        if self.put_outsider(entrance, outsider).await? {
            return Ok(());
        }
        self.leave_here(&wish.user, &wish.room_id, wish.reason.clone()).await
    }

    /// A leave that follows nothing but the invite or the knock that it ends.
    fn lone_leave(&self, room: &Room, old: &Pdu, wish: &Wish) -> Result<Pdu> {
        let content = MemberContent::new(MembershipState::Leave).reason(wish.reason.clone());
        let reference_hashes =
            BTreeMap::from([(old.event_id.clone(), old.reference_hash(&room.rules)?)]);
        let draft = Draft {
            room_id: Some(room.room_id.clone()),
            sender: wish.user.clone(),
            kind: TimelineEventType::RoomMember,
            state_key: Some(wish.user.to_string()),
            content: to_raw(&content)?,
            redacts: None,
            prev_events: vec![old.event_id.clone()],
            auth_events: vec![old.event_id.clone()],
            reference_hashes,
            depth: UInt::new_saturating(u64::from(old.depth).saturating_add(1)),
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(self.now_ms())),
        };
        let config = &self.inner.config;
        Ok(event::build(draft, &config.server_name, &config.key, &room.rules)?)
    }
}
