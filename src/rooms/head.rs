//! Where a room stands: its counters, its forward extremities and its current state.

use ruma::events::room::member::MembershipState;

use crate::{
    codec::{Cursor, Sink},
    error::{Result, RoomsError},
    tables::{EventNumber, NodeNumber, StateKeyNumber, StateRoot},
};

/// Most forward extremities that a new event of ours follows.
pub(crate) const PREV_EVENTS_MAX: usize = 20;

/// The head of a room. Changed under the room's lane only, in the same batch as what it speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The number that the next event gets.
    pub(crate) next_event: EventNumber,
    /// The number that the next new state key gets.
    pub(crate) next_state_key: StateKeyNumber,
    /// The number that the next new node of a state gets.
    pub(crate) next_node: NodeNumber,
    /// The newest accepted events that nothing follows, in the order of their numbers.
    pub(crate) extremities: Vec<EventNumber>,
    /// The current state: that after all extremities, resolved.
    pub(crate) state: StateRoot,
    /// The largest depth of an extremity.
    pub(crate) depth: u64,
    /// How many users are joined in the current state.
    pub(crate) joined: u64,
    /// How many users are invited in the current state.
    pub(crate) invited: u64,
}

const VERSION: u8 = 1;

impl Head {
    /// The head of a room without events.
    pub(crate) fn new() -> Self {
        Self { next_event: EventNumber::new(1), next_node: NodeNumber::new(1), ..Self::default() }
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> StateRoot {
        self.state
    }

    /// How many users are joined.
    #[must_use]
    pub fn joined_count(&self) -> u64 {
        self.joined
    }

    /// How many users are invited.
    #[must_use]
    pub fn invited_count(&self) -> u64 {
        self.invited
    }

    /// The newest accepted events that nothing follows.
    #[must_use]
    pub fn extremities(&self) -> &[EventNumber] {
        &self.extremities
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Sink::default();
        out.byte(VERSION);
        out.number(self.next_event.get());
        out.number(self.next_state_key.get());
        out.number(self.next_node.get());
        out.number(self.state.get());
        out.number(self.depth);
        out.number(self.joined);
        out.number(self.invited);
        for extremity in &self.extremities {
            out.number(extremity.get());
        }
        out.finish()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut input = Cursor::new(bytes, "a room's head");
        if input.byte()? != VERSION {
            return Err(RoomsError::BadRow { why: "a room's head of an unknown version" });
        }
        let mut head = Self {
            next_event: EventNumber::new(input.number()?),
            next_state_key: StateKeyNumber::new(input.number()?),
            next_node: NodeNumber::new(input.number()?),
            state: StateRoot::new(input.number()?),
            depth: input.number()?,
            joined: input.number()?,
            invited: input.number()?,
            extremities: Vec::new(),
        };
        while !input.is_empty() {
            head.extremities.push(EventNumber::new(input.number()?));
        }
        Ok(head)
    }

    pub(crate) fn take_event_number(&mut self) -> EventNumber {
        let number = self.next_event;
        self.next_event = number.next();
        number
    }

    pub(crate) fn take_state_key_number(&mut self) -> StateKeyNumber {
        let number = self.next_state_key;
        self.next_state_key = number.next();
        number
    }
}

impl Head {
    /// Counts a change of someone's membership.
    pub(crate) fn count(&mut self, from: Option<&MembershipState>, to: Option<&MembershipState>) {
        for (counter, membership) in [
            (&mut self.joined, MembershipState::Join),
            (&mut self.invited, MembershipState::Invite),
        ] {
            if from == Some(&membership) {
                *counter = counter.saturating_sub(1);
            }
            if to == Some(&membership) {
                *counter = counter.saturating_add(1);
            }
        }
    }
}
