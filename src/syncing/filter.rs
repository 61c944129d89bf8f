//! Which events a client wants, as its filter says.

use std::{collections::BTreeSet, num::NonZeroUsize};

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UserId,
    api::client::filter::{Filter, LazyLoadOptions, RoomEventFilter, RoomFilter, UrlFilter},
};
use serde::Deserialize;
use serde_json::{Value as JsonValue, value::RawValue as RawJsonValue};

/// How many events a timeline has where the filter says nothing.
pub const TIMELINE_LIMIT_DEFAULT: usize = 20;

/// Most events of a timeline. A larger `limit` is cut to this.
pub const TIMELINE_LIMIT_MAX: usize = 500;

/// What a filter looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) kind: &'a str,
    pub(crate) sender: Option<&'a UserId>,
    pub(crate) content: &'a RawJsonValue,
}

/// A filter of events, with or without rooms.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventFilter {
    types: Option<Vec<String>>,
    not_types: Vec<String>,
    senders: Option<BTreeSet<OwnedUserId>>,
    not_senders: BTreeSet<OwnedUserId>,
    rooms: RoomChoice,
    with_url: Option<bool>,
    limit: Option<usize>,
    lazy: Option<LazyMembers>,
}

/// Member events are sent only of those who appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LazyMembers {
    /// Each once, as long as it does not change.
    Once,
    /// In every response in which they appear.
    Redundantly,
}

impl EventFilter {
    pub(crate) fn of_room_events(filter: &RoomEventFilter) -> Self {
        Self {
            types: filter.types.clone(),
            not_types: filter.not_types.clone(),
            senders: filter.senders.as_ref().map(|users| users.iter().cloned().collect()),
            not_senders: filter.not_senders.iter().cloned().collect(),
            rooms: RoomChoice::new(filter.rooms.as_deref(), &filter.not_rooms),
            with_url: filter.url_filter.map(|url| url == UrlFilter::EventsWithUrl),
            limit: filter.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            lazy: match filter.lazy_load_options {
                LazyLoadOptions::Disabled => None,
                LazyLoadOptions::Enabled { include_redundant_members: false } => {
                    Some(LazyMembers::Once)
                }
                LazyLoadOptions::Enabled { include_redundant_members: true } => {
                    Some(LazyMembers::Redundantly)
                }
            },
        }
    }

    pub(crate) fn of_others(filter: &Filter) -> Self {
        Self {
            types: filter.types.clone(),
            not_types: filter.not_types.clone(),
            senders: filter.senders.as_ref().map(|users| users.iter().cloned().collect()),
            not_senders: filter.not_senders.iter().cloned().collect(),
            limit: filter.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            ..Self::default()
        }
    }

    /// Whether an event may pass at all.
    pub(crate) fn takes_some(&self) -> bool {
        self.types.as_ref().is_none_or(|types| !types.is_empty())
            && self.senders.as_ref().is_none_or(|senders| !senders.is_empty())
    }

    /// Whether an event of a room may pass.
    pub(crate) fn takes_some_of(&self, room_id: &RoomId) -> bool {
        self.takes_some() && self.rooms.takes(room_id)
    }

    /// Whether an event passes. Its room is [`Self::takes_some_of`]'s matter.
    pub(crate) fn takes(&self, event: Candidate<'_>) -> bool {
        self.takes_type(event.kind)
            && self.takes_sender(event.sender)
            && self.with_url.is_none_or(|wanted| has_url(event.content) == wanted)
    }

    /// Whether events of a type may pass.
    pub(crate) fn takes_type(&self, kind: &str) -> bool {
        self.types.as_ref().is_none_or(|types| types.iter().any(|glob| matches(glob, kind)))
            && !self.not_types.iter().any(|glob| matches(glob, kind))
    }

    fn takes_sender(&self, sender: Option<&UserId>) -> bool {
        match sender {
            Some(sender) => {
                self.senders.as_ref().is_none_or(|senders| senders.contains(sender))
                    && !self.not_senders.contains(sender)
            }
            None => true,
        }
    }

    /// How many events a timeline has at most; `None` where it may have none at all.
    pub(crate) fn timeline_limit(&self) -> Option<NonZeroUsize> {
        let limit = self.limit.unwrap_or(TIMELINE_LIMIT_DEFAULT).min(TIMELINE_LIMIT_MAX);
        NonZeroUsize::new(limit)
    }

    /// How many events there are at most.
    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(usize::MAX)
    }

    pub(crate) fn lazy_members(&self) -> Option<LazyMembers> {
        self.lazy
    }
}

/// Some rooms, or all.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoomChoice {
    only: Option<BTreeSet<OwnedRoomId>>,
    not: BTreeSet<OwnedRoomId>,
}

impl RoomChoice {
    fn new(only: Option<&[OwnedRoomId]>, not: &[OwnedRoomId]) -> Self {
        let only = only.map(|rooms| rooms.iter().cloned().collect());
        Self { only, not: not.iter().cloned().collect() }
    }

    pub(crate) fn takes(&self, room_id: &RoomId) -> bool {
        self.only.as_ref().is_none_or(|rooms| rooms.contains(room_id))
            && !self.not.contains(room_id)
    }
}

/// The filters for what is said of rooms.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoomFilters {
    pub(crate) rooms: RoomChoice,
    pub(crate) timeline: EventFilter,
    pub(crate) state: EventFilter,
    pub(crate) ephemeral: EventFilter,
    pub(crate) account_data: EventFilter,
    /// How member events are sent; `None`: all of them.
    pub(crate) lazy: Option<LazyMembers>,
}

impl RoomFilters {
    pub(crate) fn new(filter: &RoomFilter) -> Self {
        let state = EventFilter::of_room_events(&filter.state);
        Self {
            rooms: RoomChoice::new(filter.rooms.as_deref(), &filter.not_rooms),
            timeline: EventFilter::of_room_events(&filter.timeline),
            lazy: state.lazy_members(),
            state,
            ephemeral: EventFilter::of_room_events(&filter.ephemeral),
            account_data: EventFilter::of_room_events(&filter.account_data),
        }
    }
}

fn has_url(content: &RawJsonValue) -> bool {
    #[derive(Deserialize)]
    struct Content {
        url: Option<JsonValue>,
    }
    serde_json::from_str::<Content>(content.get())
        .is_ok_and(|content| matches!(content.url, Some(JsonValue::String(_))))
}

/// Whether a text matches a pattern in which `*` stands for any characters.
fn matches(glob: &str, text: &str) -> bool {
    let Some((head, mut glob)) = glob.split_once('*') else { return glob == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    while let Some((part, rest)) = glob.split_once('*') {
        let Some(at) = text.find(part) else { return false };
        text = text.get(at + part.len()..).unwrap_or_default();
        glob = rest;
    }
    text.ends_with(glob)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn room_events(filter: JsonValue) -> EventFilter {
        EventFilter::of_room_events(&serde_json::from_value(filter).unwrap())
    }

    fn takes(filter: &EventFilter, kind: &str, sender: &str, content: &str) -> bool {
        let content: Box<RawJsonValue> = serde_json::from_str(content).unwrap();
        let sender: OwnedUserId = sender.try_into().unwrap();
        filter.takes(Candidate { kind, sender: Some(&sender), content: &content })
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (glob, text) in [
            ("m.room.message", "m.room.message"),
            ("m.*", "m.room"),
            ("*", ""),
            ("*", "x"),
            ("*.message", "m.room.message"),
            ("m.*.m*e", "m.room.message"),
            ("**", "x"),
            ("a*a", "aa"),
        ] {
            assert!(matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in
            [("m.*", "n.room"), ("a*a", "a"), ("", "x"), ("m.room", "m.room.x"), ("*b*c", "xcb")]
        {
            assert!(!matches(glob, text), "{glob} {text}");
        }
    }

    #[test]
    fn what_is_excluded_wins() {
        let filter = room_events(json!({
            "types": ["m.*"], "not_types": ["m.room.secret*"],
            "senders": ["@a:x", "@b:x"], "not_senders": ["@b:x"],
        }));
        assert!(takes(&filter, "m.room.message", "@a:x", "{}"));
        assert!(!takes(&filter, "m.room.message", "@b:x", "{}"));
        assert!(!takes(&filter, "m.room.message", "@c:x", "{}"));
        assert!(!takes(&filter, "m.room.secrets", "@a:x", "{}"));
        assert!(!takes(&filter, "org.other", "@a:x", "{}"));
    }

    #[test]
    fn urls_are_looked_for_in_the_content() {
        let (with, without) = (room_events(json!({"contains_url": true})), r#"{"body":"url"}"#);
        assert!(takes(&with, "m", "@a:x", r#"{"url":"mxc://x/y"}"#));
        assert!(!takes(&with, "m", "@a:x", without));
        assert!(!takes(&with, "m", "@a:x", r#"{"url":5}"#));
        assert!(takes(&room_events(json!({"contains_url": false})), "m", "@a:x", without));
    }

    #[test]
    fn limits_are_bounded() {
        let limit = |filter| room_events(filter).timeline_limit().map(NonZeroUsize::get);
        assert_eq!(limit(json!({})), Some(TIMELINE_LIMIT_DEFAULT));
        assert_eq!(limit(json!({"limit": 1_000_000})), Some(TIMELINE_LIMIT_MAX));
        assert_eq!(limit(json!({"limit": 0})), None);
    }

    #[test]
    fn rooms_can_be_chosen_and_excluded() {
        let filter = room_events(json!({"rooms": ["!a:x", "!b:x"], "not_rooms": ["!b:x"]}));
        assert!(filter.takes_some_of(ruma::room_id!("!a:x")));
        assert!(!filter.takes_some_of(ruma::room_id!("!b:x")));
        assert!(!filter.takes_some_of(ruma::room_id!("!c:x")));
    }
}
