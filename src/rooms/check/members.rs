//! The current state of a room against the names of its keys and the tables of members.

use std::collections::HashMap;

use ruma::{
    UserId,
    events::{StateEventType, room::member::MembershipState},
};

use super::{pages::Pages, room::RoomCheck};
use crate::{
    error::Result,
    state::trie,
    tables::{
        EventNumber, MEMBERSHIPS, OUTSIDE, REMOTE_JOINS, ROOM_MEMBERS, STATE_KEY_NAMES, STATE_KEYS,
        StateKeyNumber,
    },
};

/// Members of a room, counted.
#[derive(Default)]
struct Members {
    all: u64,
    joined: u64,
    invited: u64,
}

impl RoomCheck<'_, '_> {
    /// Every key of the current state has a name and an event of that name, and the tables of
    /// members say what the member events say.
    pub(super) async fn members(&mut self) -> Result<()> {
        let (store, room) = (self.store, self.room.number);
        let entries = trie::walk(&self.nodes(), self.head.state).await?;
        let mut current: HashMap<StateKeyNumber, EventNumber> = entries.into_iter().collect();
        let mut members = Members::default();
        let mut names = 0;
        let mut pages = Pages::new(store, &STATE_KEY_NAMES, room);
        while let Some(page) = pages.next().await? {
            for ((_, key), name) in page {
                names += 1;
                let (kind, state_key) = name.0;
                let row = (room, kind.clone(), state_key.clone());
                if store.get(&STATE_KEYS, &row).await? != Some(key) {
                    self.say(format_args!("state key {key} is not found by its name"));
                }
                if key >= self.head.next_state_key {
                    self.say(format_args!("state key {key} is not given out yet"));
                }
                if let Some(event) = current.remove(&key) {
                    self.entry(kind.into(), &state_key, event, &mut members).await?;
                }
            }
        }
        for (key, event) in current {
            self.say(format_args!("state key {key}, with event {event}, has no name"));
        }
        self.outsiders().await?;
        let keys = Pages::new(store, &STATE_KEYS, room).count().await?;
        if keys != names {
            self.say(format_args!("{keys} names lead to {names} state keys"));
        }
        let rows = Pages::new(store, &ROOM_MEMBERS, room).count().await?;
        let Members { all, joined, invited } = members;
        for (what, found, expected) in [
            ("rows of members", rows, all),
            ("joined members in the head", self.head.joined, joined),
            ("invited members in the head", self.head.invited, invited),
        ] {
            let what = format!("room {}: {what}", self.room.room_id);
            self.check.report.same(what, found, expected);
        }
        Ok(())
    }

    /// One entry of the current state.
    async fn entry(
        &mut self,
        kind: StateEventType,
        key: &str,
        number: EventNumber,
        members: &mut Members,
    ) -> Result<()> {
        let Some(event) = self.event_at(number).await? else {
            self.say(format_args!("event {number} of the current state is missing"));
            return Ok(());
        };
        if event.pdu.state_entry() != Some((kind.clone(), key)) {
            self.say_of(&event, format_args!("stands in the state as ({kind}, {key})"));
        }
        if event.meta.rejected {
            self.say_of(&event, "is in the current state, although it was rejected");
        }
        let (StateEventType::RoomMember, Some(membership)) = (kind, event.pdu.membership()) else {
            return Ok(());
        };
        let Ok(user) = <&UserId>::try_from(key) else { return Ok(()) };
        members.all += 1;
        members.joined += u64::from(membership == MembershipState::Join);
        members.invited += u64::from(membership == MembershipState::Invite);
        let row = (self.room.number, membership.as_str().to_owned(), key.to_owned());
        if self.store.get(&ROOM_MEMBERS, &row).await? != Some(number) {
            self.say_of(&event, "is in the current state, but not in the table of members");
        }
        if user.server_name() != self.check.server_name {
            let row = self.store.get(&REMOTE_JOINS, &(key.to_owned(), self.room.number)).await?;
            if row.is_some() != (membership == MembershipState::Join) {
                self.say_of(&event, "is not what the joins of its user say");
            }
            return Ok(());
        }
        self.check.local_members += 1;
        let row = self.store.get(&MEMBERSHIPS, &(key.to_owned(), self.room.number)).await?;
        let Some(row) = row else {
            self.say_of(&event, "is not among the memberships of its user");
            return Ok(());
        };
        if self.store.get(&OUTSIDE, &(self.room.number, key.to_owned())).await?.is_some() {
            // What they are now is in no state that we have.
            return Ok(());
        }
        let (position, row) = (row.position, row.value.0);
        let same =
            row.event == number && row.membership == membership && row.room_id == self.room.room_id;
        if !same {
            self.say_of(&event, "is not what the memberships of its user say");
        } else if position < event.position {
            self.say_of(&event, "is newer than the memberships of its user say");
        }
        Ok(())
    }
}
