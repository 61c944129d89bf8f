//! Which events a client wants.

use event::Pdu;
use ruma::{
    RoomId,
    api::client::filter::{LazyLoadOptions, RoomEventFilter, UrlFilter},
};
use serde::{Deserialize, de::IgnoredAny};
use wildmatch::WildMatchPattern;

/// A type in which `*` stands for any characters, and nothing else is special.
type TypePattern = WildMatchPattern<'*', '\0'>;

/// A client's filter of room events, ready to be asked.
///
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#filtering)
#[derive(Clone, Debug)]
pub struct EventFilter {
    filter: RoomEventFilter,
    types: Option<Vec<TypePattern>>,
    not_types: Vec<TypePattern>,
}

impl EventFilter {
    /// Makes a client's filter ready.
    #[must_use]
    pub fn new(filter: RoomEventFilter) -> Self {
        let ready = |patterns: &Vec<String>| -> Vec<TypePattern> {
            patterns.iter().map(|p| TypePattern::new(p)).collect()
        };
        let types = filter.types.as_ref().map(ready);
        let not_types = ready(&filter.not_types);
        Self { filter, types, not_types }
    }

    /// Whether nothing of a room is wanted.
    #[must_use]
    pub fn excludes_room(&self, room: &RoomId) -> bool {
        let listed = self.filter.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|r| r == room));
        !listed || self.filter.not_rooms.iter().any(|r| r == room)
    }

    /// Whether no event can pass.
    #[must_use]
    pub fn excludes_all(&self) -> bool {
        let none = |empty: Option<bool>| empty == Some(true);
        none(self.filter.types.as_ref().map(Vec::is_empty))
            || none(self.filter.senders.as_ref().map(Vec::is_empty))
    }

    /// Whether an event is wanted, apart from its room.
    #[must_use]
    pub fn allows(&self, pdu: &Pdu) -> bool {
        let filter = &self.filter;
        let is_sender = |user: &ruma::OwnedUserId| *user == pdu.sender;
        if filter.not_senders.iter().any(is_sender)
            || filter.senders.as_ref().is_some_and(|senders| !senders.iter().any(is_sender))
        {
            return false;
        }
        if self.types.is_some() || !self.not_types.is_empty() {
            let kind = pdu.kind.to_string();
            let matches = |patterns: &[TypePattern]| patterns.iter().any(|p| p.matches(&kind));
            if matches(&self.not_types) || self.types.as_ref().is_some_and(|types| !matches(types))
            {
                return false;
            }
        }
        match filter.url_filter {
            None => true,
            Some(UrlFilter::EventsWithUrl) => has_url(pdu),
            Some(UrlFilter::EventsWithoutUrl) => !has_url(pdu),
        }
    }

    /// Whether only those members are wanted whose events are shown.
    #[must_use]
    pub fn lazy_members(&self) -> bool {
        matches!(self.filter.lazy_load_options, LazyLoadOptions::Enabled { .. })
    }
}

fn has_url(pdu: &Pdu) -> bool {
    #[derive(Deserialize)]
    struct Content {
        url: Option<IgnoredAny>,
    }
    pdu.content_as::<Content>().is_ok_and(|content| content.url.is_some())
}
