//! Walks through hierarchies that clients take page by page.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use rand::{Rng as _, distr::Alphanumeric};
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId, room::RoomSummary};

use crate::hierarchy::{Child, HierarchyQuery};

/// Most walks that are kept; the oldest are forgotten.
const WALKS_MAX: usize = 500;

/// Most rooms that one walk comes to.
const ROOMS_MAX: usize = 5_000;

/// Most memory for what was told of rooms that are still to come, in bytes, and what each takes
/// besides its texts.
const TOLD_BYTES_MAX: usize = 256 * 1024;
const ROOM_BYTES: usize = 512;

/// Characters of a token.
const TOKEN_LEN: usize = 24;

/// A room to come to.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) room_id: OwnedRoomId,
    pub(crate) via: Vec<OwnedServerName>,
    /// How many levels below the first room.
    pub(crate) depth: u64,
}

/// What two requests must have in common to be of one walk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    user: OwnedUserId,
    room_id: OwnedRoomId,
    max_depth: Option<u64>,
    suggested_only: bool,
}

/// A walk under way.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    question: Question,
    /// What is still to come, the next one last.
    ahead: Vec<Step>,
    seen: HashSet<OwnedRoomId>,
    told: HashMap<OwnedRoomId, RoomSummary>,
    /// How much memory that takes, about.
    told_bytes: usize,
}

impl Walk {
    pub(super) fn begin(user: &UserId, room_id: &RoomId, query: &HierarchyQuery) -> Self {
        let first = Step { room_id: room_id.to_owned(), via: Vec::new(), depth: 0 };
        Self {
            question: Question::new(user, room_id, query),
            ahead: vec![first],
            seen: HashSet::from([room_id.to_owned()]),
            told: HashMap::new(),
            told_bytes: 0,
        }
    }

    /// The next room to come to.
    pub(super) fn next(&mut self) -> Option<Step> {
        self.ahead.pop()
    }

    pub(super) fn is_done(&self) -> bool {
        self.ahead.is_empty()
    }

    pub(super) fn suggested_only(&self) -> bool {
        self.question.suggested_only
    }

    /// Whether the walk goes to the children of a room at a depth.
    pub(super) fn goes_below(&self, depth: u64) -> bool {
        self.question.max_depth.is_none_or(|max| depth < max)
    }

    /// Notes the children of a room that was come to. A room is told once, where it is met first.
    pub(super) fn descend(&mut self, from: &Step, children: Vec<Child>) {
        if !self.goes_below(from.depth) {
            return;
        }
        for Child { room_id, via } in children.into_iter().rev() {
            if self.seen.len() < ROOMS_MAX && self.seen.insert(room_id.clone()) {
                self.ahead.push(Step { room_id, via, depth: from.depth.saturating_add(1) });
            }
        }
    }

    /// What was told of a room with its parent.
    pub(super) fn told(&self, room_id: &RoomId) -> Option<RoomSummary> {
        self.told.get(room_id).cloned()
    }

    pub(super) fn note_told(&mut self, summary: RoomSummary) {
        let texts = [&summary.name, &summary.topic];
        let bytes: usize = texts.into_iter().flatten().map(String::len).sum();
        self.told_bytes = self.told_bytes.saturating_add(bytes.saturating_add(ROOM_BYTES));
        if self.told_bytes <= TOLD_BYTES_MAX {
            self.told.insert(summary.room_id.clone(), summary);
        }
    }
}

impl Question {
    fn new(user: &UserId, room_id: &RoomId, query: &HierarchyQuery) -> Self {
        Self {
            user: user.to_owned(),
            room_id: room_id.to_owned(),
            max_depth: query.max_depth,
            suggested_only: query.suggested_only,
        }
    }
}

/// The walks that clients may go on with.
#[derive(Debug, Default)]
pub(crate) struct Walks {
    walks: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Each walk under its token, with its place in `by_age`.
    by_token: HashMap<String, (u64, Walk)>,
    by_age: BTreeMap<u64, String>,
    next: u64,
}

impl Walks {
    /// Keeps a walk. Gives the token by which it goes on.
    pub(super) fn keep(&self, walk: Walk) -> String {
        let token: String =
            rand::rng().sample_iter(Alphanumeric).take(TOKEN_LEN).map(char::from).collect();
        let mut kept = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.by_token.len() >= WALKS_MAX
            && let Some((_, oldest)) = kept.by_age.pop_first()
        {
            kept.by_token.remove(&oldest);
        }
        let age = kept.next;
        kept.next = age.wrapping_add(1);
        kept.by_age.insert(age, token.clone());
        kept.by_token.insert(token.clone(), (age, walk));
        token
    }

    /// A walk to go on with. It stays kept, so that a page can be asked for again.
    pub(super) fn resume(
        &self,
        token: &str,
        user: &UserId,
        room_id: &RoomId,
        query: &HierarchyQuery,
    ) -> Option<Walk> {
        let kept = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, walk) = kept.by_token.get(token)?;
        (walk.question == Question::new(user, room_id, query)).then(|| walk.clone())
    }
}
