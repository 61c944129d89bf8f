//! Parts of a state.

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use event::Pdu;
use ruma::events::StateEventType;
use store::{Key, KeyRange, Page};

use crate::{
    Rooms,
    error::Result,
    room::Room,
    state::{StoredNodes, trie},
    tables::{EventNumber, RoomNumber, STATE_KEYS, StateKeyNumber, StateRoot},
};

/// How many state keys are read from the store at a time.
const KEYS_PAGE_LEN: usize = 1024;

/// Which events of a state are wanted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StateSelect {
    /// All of them.
    All,
    /// Those of some types.
    Types(BTreeSet<StateEventType>),
    /// Those of all other types. What is left out is not even read.
    NotTypes(BTreeSet<StateEventType>),
    /// Those at some keys.
    Keys(Vec<(StateEventType, String)>),
}

impl StateSelect {
    /// The events of one type.
    #[must_use]
    pub fn kind(kind: StateEventType) -> Self {
        Self::Types(BTreeSet::from([kind]))
    }

    /// All but the members.
    #[must_use]
    pub fn without_members() -> Self {
        Self::NotTypes(BTreeSet::from([StateEventType::RoomMember]))
    }

    /// The member events of some users.
    pub fn members<U: ToString>(users: impl IntoIterator<Item = U>) -> Self {
        let key = |user: U| (StateEventType::RoomMember, user.to_string());
        Self::Keys(users.into_iter().map(key).collect())
    }
}

impl Rooms {
    /// The selected events of a state, the oldest first.
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn state_events(
        &self,
        room: &Room,
        root: StateRoot,
        select: &StateSelect,
    ) -> Result<Vec<Arc<Pdu>>> {
        let numbers = self.select_state(room, root, select).await?;
        let events = self.events(room, &numbers).await?;
        Ok(events.into_iter().map(|event| Arc::clone(&event.pdu)).collect())
    }

    /// The numbers of the selected events of a state, the oldest first.
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn select_state(
        &self,
        room: &Room,
        root: StateRoot,
        select: &StateSelect,
    ) -> Result<Vec<EventNumber>> {
        let nodes = StoredNodes { rooms: self, room: room.number };
        let found: Vec<Option<EventNumber>> = match select {
            StateSelect::All => {
                trie::walk(&nodes, root).await?.into_iter().map(|(_, event)| Some(event)).collect()
            }
            StateSelect::Keys(keys) => self.state_numbers(room, root, keys).await?,
            StateSelect::Types(kinds) => {
                let mut keys = Vec::new();
                for kind in kinds {
                    let all = (room.number, kind.to_string());
                    let range = STATE_KEYS.prefix(&all);
                    self.read_state_keys(range, Bound::Included(&all), &mut keys).await?;
                }
                trie::find(&nodes, root, &keys).await?
            }
            StateSelect::NotTypes(kinds) => {
                let keys = self.state_keys_without(room, kinds).await?;
                trie::find(&nodes, root, &keys).await?
            }
        };
        let mut numbers: Vec<EventNumber> = found.into_iter().flatten().collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The state keys of all types but some, by jumping over those.
    async fn state_keys_without(
        &self,
        room: &Room,
        kinds: &BTreeSet<StateEventType>,
    ) -> Result<Vec<StateKeyNumber>> {
        let mut keys = Vec::new();
        let skipped: BTreeSet<String> = kinds.iter().map(ToString::to_string).collect();
        let all = room.number;
        let mut after: Option<(RoomNumber, String)> = None;
        for kind in skipped {
            let skip = (room.number, kind);
            let end = Bound::Excluded(&skip);
            let range = match &after {
                None => STATE_KEYS.between(Bound::Included(&all), end),
                Some(after) => STATE_KEYS.between(Bound::Excluded(after), end),
            };
            self.read_state_keys(range, end, &mut keys).await?;
            after = Some(skip);
        }
        let end = Bound::Included(&all);
        let range = match &after {
            None => STATE_KEYS.prefix(&all),
            Some(after) => STATE_KEYS.between(Bound::Excluded(after), end),
        };
        self.read_state_keys(range, end, &mut keys).await?;
        Ok(keys)
    }

    /// Reads a range, page by page, up to its end.
    async fn read_state_keys<E: Key>(
        &self,
        range: KeyRange,
        end: Bound<&E>,
        keys: &mut Vec<StateKeyNumber>,
    ) -> Result<()> {
        let mut range = range;
        loop {
            let rows = self.store().scan(&STATE_KEYS, range, Page::first(KEYS_PAGE_LEN)).await?;
            keys.extend(rows.iter().map(|(_, number)| *number));
            match rows.last() {
                Some((last, _)) if rows.len() == KEYS_PAGE_LEN => {
                    range = STATE_KEYS.between(Bound::Excluded(last), end);
                }
                _ => return Ok(()),
            }
        }
    }
}
