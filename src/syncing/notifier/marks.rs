//! When each room and each user changed last, so that "is there anything new?" needs no disk.

use std::{collections::HashMap, hash::Hash};

use rooms::{Position, RoomNumber};
use ruma::{OwnedUserId, UserId};

/// Most rooms, and most users, whose last change is remembered one by one.
const MARKS_MAX: usize = 250_000;

/// The last changes of a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoomMark {
    /// The newest event.
    pub(crate) event: Position,
    /// The newest receipt.
    pub(crate) receipt: Position,
    /// The newest member event.
    pub(crate) member: Position,
}

/// The last changes of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UserMark {
    /// The newest account data.
    pub(crate) account_data: Position,
    /// When they last signed somebody's master key.
    signed: Position,
    /// When one of their fallback keys was last used for the first time.
    key_used: Position,
}

trait Newest {
    fn newest(&self) -> Position;
}

impl Newest for RoomMark {
    fn newest(&self) -> Position {
        self.event.max(self.receipt)
    }
}

impl Newest for UserMark {
    fn newest(&self) -> Position {
        self.account_data.max(self.signed).max(self.key_used)
    }
}

/// What changed since a baseline. Before it, anything may have changed.
#[derive(Debug)]
pub(crate) struct Marks {
    rooms: Since<RoomNumber, RoomMark>,
    users: Since<OwnedUserId, UserMark>,
    /// The newest change of anybody's devices.
    device_lists: Position,
}

impl Marks {
    /// Nothing is known of what happened up to the baseline.
    pub(crate) fn new(baseline: Position) -> Self {
        Self {
            rooms: Since::new(baseline, MARKS_MAX),
            users: Since::new(baseline, MARKS_MAX),
            device_lists: baseline,
        }
    }

    pub(crate) fn event(&mut self, room: RoomNumber, position: Position) {
        self.rooms.mark(room, |mark| mark.event = mark.event.max(position));
    }

    pub(crate) fn receipt(&mut self, room: RoomNumber, position: Position) {
        self.rooms.mark(room, |mark| mark.receipt = mark.receipt.max(position));
    }

    pub(crate) fn member(&mut self, room: RoomNumber, position: Position) {
        self.rooms.mark(room, |mark| mark.member = mark.member.max(position));
    }

    pub(crate) fn signed(&mut self, user_id: &UserId, position: Position) {
        self.users.mark(user_id.to_owned(), |mark| mark.signed = mark.signed.max(position));
    }

    pub(crate) fn key_used(&mut self, user_id: &UserId, position: Position) {
        self.users.mark(user_id.to_owned(), |mark| mark.key_used = mark.key_used.max(position));
    }

    pub(crate) fn device_list(&mut self, position: Position) {
        self.device_lists = self.device_lists.max(position);
    }

    /// The newest change of anybody's devices.
    pub(crate) const fn device_lists(&self) -> Position {
        self.device_lists
    }

    /// When a user last signed somebody's master key: not later than the baseline where that is not
    /// remembered.
    pub(crate) fn user_signed(&self, user_id: &UserId) -> Position {
        let mark = self.users.marks.get(user_id).copied().unwrap_or_default();
        mark.signed.max(self.users.baseline)
    }

    /// When a fallback key of a user was last used for the first time; zero where that is not
    /// remembered.
    pub(crate) fn user_key_used(&self, user_id: &UserId) -> Position {
        self.users.marks.get(user_id).copied().unwrap_or_default().key_used
    }

    pub(crate) fn account_data(&mut self, user_id: &UserId, position: Position) {
        let user_id = user_id.to_owned();
        self.users.mark(user_id, |mark| mark.account_data = mark.account_data.max(position));
    }

    /// The last changes of a room: not later than the baseline where none is remembered.
    pub(crate) fn room(&self, room: RoomNumber) -> RoomMark {
        let baseline = self.rooms.baseline;
        match self.rooms.marks.get(&room) {
            Some(mark) => RoomMark {
                event: mark.event.max(baseline),
                receipt: mark.receipt.max(baseline),
                member: mark.member.max(baseline),
            },
            None => RoomMark { event: baseline, receipt: baseline, member: baseline },
        }
    }

    /// The newest account data of a user: not later than the baseline where none is remembered.
    pub(crate) fn user_account_data(&self, user_id: &UserId) -> Position {
        let mark = self.users.marks.get(user_id).copied().unwrap_or_default();
        mark.account_data.max(self.users.baseline)
    }
}

/// Marks by key, of what changed after a baseline.
#[derive(Debug)]
struct Since<K, M> {
    baseline: Position,
    marks: HashMap<K, M>,
    len_max: usize,
}

impl<K: Eq + Hash, M: Newest + Default> Since<K, M> {
    fn new(baseline: Position, len_max: usize) -> Self {
        Self { baseline, marks: HashMap::new(), len_max }
    }

    fn mark(&mut self, key: K, with: impl FnOnce(&mut M)) {
        with(self.marks.entry(key).or_default());
        if self.marks.len() > self.len_max {
            self.forget_older_half();
        }
    }

    fn forget_older_half(&mut self) {
        let mut positions: Vec<Position> = self.marks.values().map(Newest::newest).collect();
        let middle = positions.len() / 2;
        if middle >= positions.len() {
            return;
        }
        let (_, median, _) = positions.select_nth_unstable(middle);
        self.baseline = self.baseline.max(*median);
        let baseline = self.baseline;
        self.marks.retain(|_, mark| mark.newest() > baseline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64) -> Position {
        Position::new(number)
    }

    #[test]
    fn a_room_without_a_mark_may_have_changed_up_to_the_baseline() {
        let mut marks = Marks::new(at(10));
        let room = RoomNumber::new(1);
        assert_eq!(marks.room(room).event, at(10));
        marks.receipt(room, at(12));
        assert_eq!(marks.room(room), RoomMark { event: at(10), receipt: at(12), member: at(10) });
        marks.event(room, at(13));
        assert_eq!(marks.room(room), RoomMark { event: at(13), receipt: at(12), member: at(10) });
    }

    #[test]
    fn forgetting_marks_never_makes_a_change_look_older() {
        let mut since: Since<u64, RoomMark> = Since::new(at(0), 100);
        for number in 1..=1_000_u64 {
            since.mark(number, |mark| mark.event = at(number));
            assert!(since.marks.len() <= 100);
        }
        for number in 1..=1_000_u64 {
            let known = since.marks.get(&number).map_or(since.baseline, |mark| mark.newest());
            assert!(known >= at(number), "{number}");
        }
    }
}
