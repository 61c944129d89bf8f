//! Account data, tags, filters, push rules.

use ruma::{
    api::client::filter::FilterDefinition,
    push::{Action, NewPatternedPushRule, NewPushRule, NewSimplePushRule, RuleKind},
    room_id,
};
use serde_json::{
    Value as JsonValue, json,
    value::{RawValue as RawJsonValue, to_raw_value},
};
use store::{Batch, Position};

use super::Home;
use crate::{
    RulePlace, RuleSwitch, UsersError,
    account_data::{CONTENT_BYTES_MAX, ROWS_MAX, stage_account_data},
    filters::FILTERS_MAX,
};

fn raw(value: &JsonValue) -> Box<RawJsonValue> {
    to_raw_value(value).unwrap()
}

#[tokio::test]
async fn account_data_is_kept_by_type_and_room() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let room = room_id!("!r:localhost");
    home.users.set_account_data(&alice, None, "t", &raw(&json!({"a": 1}))).await.unwrap();
    home.users.set_account_data(&alice, Some(room), "t", &raw(&json!({"a": 2}))).await.unwrap();
    let global = home.users.account_data(&alice, None, "t").await.unwrap().unwrap();
    assert_eq!(global.get(), r#"{"a":1}"#);
    let in_room = home.users.account_data(&alice, Some(room), "t").await.unwrap().unwrap();
    assert_eq!(in_room.get(), r#"{"a":2}"#);
    assert!(home.users.account_data(&alice, None, "u").await.unwrap().is_none());
    let no_object = home.users.set_account_data(&alice, None, "t", &raw(&json!([1]))).await;
    assert!(matches!(no_object, Err(UsersError::BadJson { .. })));
    let kinds: Vec<_> = home.users.list_account_data(&alice).await.unwrap();
    let kinds: Vec<_> = kinds.iter().map(|row| (row.room.is_some(), row.kind.as_str())).collect();
    assert_eq!(kinds, [(false, "m.push_rules"), (false, "t"), (true, "t")]);
}

#[tokio::test]
async fn changes_are_told_once_in_their_order() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let start = home.store.position();
    for (kind, number) in [("a", 1), ("b", 2), ("a", 3)] {
        let content = raw(&json!({ "n": number }));
        home.users.set_account_data(&alice, None, kind, &content).await.unwrap();
    }
    let end = home.store.position();
    let changes = home.users.account_data_changes(&alice, start, end).await.unwrap();
    let told: Vec<_> = changes.iter().map(|row| (row.kind.as_str(), row.content.get())).collect();
    assert_eq!(told, [("b", r#"{"n":2}"#), ("a", r#"{"n":3}"#)]);
    assert_eq!(changes.last().unwrap().position, end);
    let after_b = changes.first().unwrap().position;
    let later = home.users.account_data_changes(&alice, after_b, end).await.unwrap();
    assert_eq!(later.len(), 1);
    // What changed again after the end of the range is told in a later one.
    let before_a = home.users.account_data_changes(&alice, start, after_b).await.unwrap();
    assert_eq!(before_a.len(), 1);
    let none = home.users.account_data_changes(&alice, end, end).await.unwrap();
    assert!(none.is_empty());
    let all = home.users.account_data_changes(&alice, Position::ZERO, end).await.unwrap();
    assert_eq!(all.len(), 3);
}

#[tokio::test]
async fn tags_come_and_go() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let room = room_id!("!r:localhost");
    let info = raw(&json!({"order": 0.5}));
    home.users.set_tag(&alice, room, "m.favourite", &info).await.unwrap();
    home.users.set_tag(&alice, room, "u.work", &raw(&json!({}))).await.unwrap();
    let tags = home.users.tags(&alice, room).await.unwrap();
    assert_eq!(JsonValue::Object(tags), json!({"m.favourite": {"order": 0.5}, "u.work": {}}));
    home.users.delete_tag(&alice, room, "m.favourite").await.unwrap();
    let position = home.store.position();
    home.users.delete_tag(&alice, room, "m.favourite").await.unwrap();
    assert_eq!(home.store.position(), position, "nothing is written where nothing changes");
    let content = home.users.account_data(&alice, Some(room), "m.tag").await.unwrap().unwrap();
    assert_eq!(content.get(), r#"{"tags":{"u.work":{}}}"#);
}

#[tokio::test]
async fn tags_set_at_the_same_time_are_all_kept() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let tasks = (0..8).map(|number| {
        let (users, alice) = (home.users.clone(), alice.clone());
        tokio::spawn(async move {
            let room = room_id!("!r:localhost");
            let tag = format!("u.{number}");
            users.set_tag(&alice, room, &tag, &raw(&json!({}))).await.unwrap();
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let tags = home.users.tags(&alice, room_id!("!r:localhost")).await.unwrap();
    assert_eq!(tags.len(), 8);
}

#[tokio::test]
async fn the_same_filter_has_the_same_id() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let mut filter = FilterDefinition::default();
    filter.room.timeline.limit = Some(10_u32.into());
    let first = home.users.put_filter(&alice, &filter).await.unwrap();
    assert_eq!(home.users.put_filter(&alice, &filter).await.unwrap(), first);
    assert!(!first.starts_with('{'));
    let other = home.users.put_filter(&alice, &FilterDefinition::default()).await.unwrap();
    assert_ne!(other, first);
    let kept = home.users.filter(&alice, &first).await.unwrap().unwrap();
    assert_eq!(kept.room.timeline.limit, Some(10_u32.into()));
    assert!(home.users.filter(&alice, "none").await.unwrap().is_none());
}

#[tokio::test]
async fn push_rules_are_changed_one_by_one() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let room = room_id!("!r:localhost");
    let rule = NewPushRule::Room(NewSimplePushRule::new(room.to_owned(), vec![]));
    let place = RulePlace::default();
    home.users.put_push_rule(&alice, rule, place).await.unwrap();
    let switched =
        home.users.switch_push_rule(&alice, RuleKind::Override, ".m.rule.master", RuleSwitch::On);
    switched.await.unwrap();
    let actions = vec![Action::Notify];
    let set = home.users.set_push_rule_actions(&alice, RuleKind::Room, room.as_str(), actions);
    set.await.unwrap();
    let rules = home.reopened().await.push_rules(&alice).await.unwrap();
    assert!(rules.get(RuleKind::Override, ".m.rule.master").unwrap().enabled());
    assert_eq!(rules.get(RuleKind::Room, room).unwrap().actions().len(), 1);
    home.users.delete_push_rule(&alice, RuleKind::Room, room.as_str()).await.unwrap();
    let gone = home.users.delete_push_rule(&alice, RuleKind::Room, room.as_str()).await;
    assert!(matches!(gone, Err(UsersError::NotFound { .. })));
    let server = home.users.delete_push_rule(&alice, RuleKind::Override, ".m.rule.master").await;
    assert!(matches!(server, Err(UsersError::Invalid { .. })));
}

#[tokio::test]
async fn account_data_has_its_bounds() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let large = raw(&json!({ "a": "x".repeat(CONTENT_BYTES_MAX) }));
    let refused = home.users.set_account_data(&alice, None, "t", &large).await;
    assert!(matches!(refused, Err(UsersError::TooLarge { .. })));
    // One row is there from the start: the push rules.
    let mut batch = Batch::new();
    for number in 2..ROWS_MAX {
        let kind = format!("t{number}");
        stage_account_data(&mut batch, &alice, None, &kind, None, "{}".to_owned()).unwrap();
    }
    home.store.commit(batch).await.unwrap();
    let small = raw(&json!({ "a": 1 }));
    home.users.set_account_data(&alice, None, "last", &small).await.unwrap();
    let refused = home.users.set_account_data(&alice, None, "more", &small).await;
    assert!(matches!(refused, Err(UsersError::TooLarge { .. })));
    home.users.set_account_data(&alice, None, "last", &raw(&json!({}))).await.unwrap();
}

#[tokio::test]
async fn filters_are_not_kept_without_end() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let put = |limit: usize| {
        let mut filter = FilterDefinition::default();
        filter.room.timeline.limit = Some(u32::try_from(limit).unwrap().into());
        let (users, alice) = (home.users.clone(), alice.clone());
        async move { users.put_filter(&alice, &filter).await }
    };
    for limit in 1..=FILTERS_MAX {
        put(limit).await.unwrap();
    }
    assert!(matches!(put(FILTERS_MAX + 1).await, Err(UsersError::TooLarge { .. })));
    put(1).await.unwrap();
}

fn content_rule(rule_id: &str) -> NewPushRule {
    let (pattern, actions) = (rule_id.to_owned(), vec![Action::Notify]);
    NewPushRule::Content(NewPatternedPushRule::new(rule_id.to_owned(), pattern, actions))
}

#[tokio::test]
async fn a_push_rule_moves_to_every_place_and_stays_as_it_was_switched() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let put = |rule_id: &'static str, after: Option<&str>, before: Option<&str>| {
        let (users, alice) = (home.users.clone(), alice.clone());
        let place =
            RulePlace { after: after.map(str::to_owned), before: before.map(str::to_owned) };
        async move { users.put_push_rule(&alice, content_rule(rule_id), place).await }
    };
    for place in [(Some("A"), None), (None, Some("A"))] {
        let itself = put("A", place.0, place.1).await;
        assert!(matches!(itself, Err(UsersError::Invalid { .. })));
    }
    assert!(matches!(put("A", Some("B"), None).await, Err(UsersError::NotFound { .. })));
    put("B", None, None).await.unwrap();
    put("A", None, None).await.unwrap();
    home.users.switch_push_rule(&alice, RuleKind::Content, "A", RuleSwitch::Off).await.unwrap();
    for (after, before, expected) in [
        (None, None, ["A", "B"]),
        (Some("B"), None, ["B", "A"]),
        (Some("B"), None, ["B", "A"]),
        (None, Some("B"), ["A", "B"]),
        (None, Some("B"), ["A", "B"]),
    ] {
        put("A", after, before).await.unwrap();
        let rules = home.users.push_rules(&alice).await.unwrap();
        let own = rules.content.iter().filter(|rule| !rule.default);
        let order: Vec<_> = own.map(|rule| rule.rule_id.as_str()).collect();
        assert_eq!(order, expected, "after {after:?}, before {before:?}");
        assert!(!rules.get(RuleKind::Content, "A").unwrap().enabled());
        assert!(rules.get(RuleKind::Content, "B").unwrap().enabled());
    }
    assert!(matches!(put("A", Some("C"), None).await, Err(UsersError::NotFound { .. })));
    assert!(home.users.push_rules(&alice).await.unwrap().get(RuleKind::Content, "A").is_some());
}
