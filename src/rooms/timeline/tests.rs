use ruma::events::room::member::MembershipState;
use serde_json::json;
use store::Position;

use crate::{
    MembersQuery, PageToken, RoomsError,
    tests::life::{Home, text},
};

fn texts(events: &[crate::ServedEvent]) -> Vec<String> {
    events.iter().filter_map(text).collect()
}

#[tokio::test]
async fn pages_meet_without_gap_or_overlap_both_ways() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    for number in 0..20 {
        home.say("alice", &room, &number.to_string()).await;
    }
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(home.texts("alice", &room).await, expected);
    let (mut from, mut forward, mut ids) = (None, Vec::new(), Vec::new());
    loop {
        let page = home.messages("alice", &room, (from, 'f', 4), json!({})).await.unwrap();
        forward.extend(texts(&page.chunk));
        ids.extend(page.chunk.iter().map(|event| event.event.pdu.event_id.clone()));
        match page.end {
            Some(end) => from = Some(end),
            None => break,
        }
    }
    assert_eq!(forward, expected);
    let len = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), len);
}

#[tokio::test]
async fn the_page_that_holds_the_last_event_is_the_last_page() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let all = home.messages("alice", &room, (None, 'b', 100), json!({})).await.unwrap();
    let count = all.chunk.len();
    assert_eq!(all.end, None);
    for dir in ['b', 'f'] {
        let exact = home.messages("alice", &room, (None, dir, count), json!({})).await.unwrap();
        assert_eq!((exact.chunk.len(), exact.end), (count, None));
        let less = home.messages("alice", &room, (None, dir, count - 1), json!({})).await.unwrap();
        assert_eq!(less.chunk.len(), count - 1);
        let rest = home.messages("alice", &room, (less.end, dir, 10), json!({})).await.unwrap();
        assert_eq!((rest.chunk.len(), rest.end), (1, None));
    }
}

#[tokio::test]
async fn a_sync_token_is_a_place_in_the_timeline() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.say("alice", &room, "before").await;
    let token: PageToken = format!("s{}_1_2_3", home.rooms.store().position()).parse().unwrap();
    home.say("alice", &room, "after").await;
    let forward = home.messages("alice", &room, (Some(token), 'f', 9), json!({})).await.unwrap();
    assert_eq!(texts(&forward.chunk), ["after"]);
    let backward = home.messages("alice", &room, (Some(token), 'b', 1), json!({})).await.unwrap();
    assert_eq!(texts(&backward.chunk), ["before"]);
}

#[tokio::test]
async fn a_page_stops_where_it_is_told() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.say("alice", &room, "one").await;
    let to = PageToken::after_all(home.rooms.store().position());
    home.say("alice", &room, "two").await;
    home.say("alice", &room, "three").await;
    let query = crate::MessagesQuery {
        from: None,
        to: Some(to),
        direction: ruma::api::Direction::Backward,
        limit: 10,
        filter: Default::default(),
    };
    let page = home.rooms.messages(&home.user("alice"), &room, query).await.unwrap();
    assert_eq!(texts(&page.chunk), ["three", "two"]);
    assert_eq!(page.end, None);
}

#[tokio::test]
async fn filters_choose_by_type_sender_and_link() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.join("bob", &room).await.unwrap();
    home.say("alice", &room, "from alice").await;
    home.say("bob", &room, "from bob").await;
    let image = json!({ "msgtype": "m.image", "body": "picture", "url": "mxc://home.example/1" });
    home.send("bob", &room, "m.room.message", image).await;
    home.send("bob", &room, "org.example.other", json!({ "body": "other" })).await;
    let found = async |filter| {
        let page = home.messages("alice", &room, (None, 'f', 50), filter).await.unwrap();
        texts(&page.chunk)
    };
    let bob = "@bob:home.example";
    let message = "m.room.message";
    assert_eq!(found(json!({ "types": [message] })).await, ["from alice", "from bob", "picture"]);
    assert_eq!(found(json!({ "types": ["org.*"] })).await, ["other"]);
    assert_eq!(found(json!({ "types": ["org?example*"] })).await, Vec::<String>::new());
    assert_eq!(found(json!({ "not_types": ["m.*"] })).await, ["other"]);
    assert_eq!(found(json!({ "not_senders": [bob] })).await, ["from alice"]);
    let bobs = json!({ "senders": [bob], "types": [message] });
    assert_eq!(found(bobs).await, ["from bob", "picture"]);
    assert_eq!(found(json!({ "contains_url": true })).await, ["picture"]);
    let no_url = json!({ "contains_url": false, "types": [message] });
    assert_eq!(found(no_url).await, ["from alice", "from bob"]);
    assert_eq!(found(json!({ "types": [] })).await, Vec::<String>::new());
    assert_eq!(found(json!({ "not_rooms": [room] })).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_search_for_little_ends_after_so_many_rows_and_goes_on_from_there() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.send("alice", &room, "org.example.rare", json!({ "body": "rare" })).await;
    for number in 0..2_100 {
        home.say("alice", &room, &number.to_string()).await;
    }
    let filter = json!({ "types": ["org.example.rare"] });
    let first = home.messages("alice", &room, (None, 'b', 5), filter.clone()).await.unwrap();
    assert!(first.chunk.is_empty());
    let second = home.messages("alice", &room, (first.end, 'b', 5), filter).await.unwrap();
    assert_eq!(texts(&second.chunk), ["rare"]);
    assert_eq!(second.end, None);
}

#[tokio::test]
async fn lazy_loading_brings_the_members_who_spoke_and_no_others() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.join("bob", &room).await.unwrap();
    home.join("carol", &room).await.unwrap();
    home.say("bob", &room, "hello").await;
    let filter = json!({ "lazy_load_members": true });
    let page = home.messages("alice", &room, (None, 'b', 1), filter.clone()).await.unwrap();
    let keys: Vec<_> =
        page.state.iter().map(|event| event.event.pdu.state_key.clone().unwrap()).collect();
    assert_eq!(keys, ["@bob:home.example"]);
    let event_id = &page.chunk[0].event.pdu.event_id;
    let filter = serde_json::from_value(filter).unwrap();
    let alice = home.user("alice");
    let context = home.rooms.context(&alice, &room, event_id, 0, filter).await.unwrap();
    let members: Vec<_> = context
        .state
        .iter()
        .filter(|event| event.event.pdu.membership().is_some())
        .map(|event| event.event.pdu.state_key.clone().unwrap())
        .collect();
    assert_eq!(members, ["@bob:home.example"]);
    assert!(context.state.len() > members.len());
}

#[tokio::test]
async fn the_context_of_an_event_is_around_it_and_can_be_paged_on() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(home.say("alice", &room, &number.to_string()).await);
    }
    let alice = home.user("alice");
    let context = home.rooms.context(&alice, &room, &ids[5], 5, Default::default()).await.unwrap();
    assert_eq!(text(&context.event).unwrap(), "5");
    assert_eq!(texts(&context.before), ["4", "3"]);
    assert_eq!(texts(&context.after), ["6", "7", "8"]);
    let (start, end) = (Some(context.start), Some(context.end));
    let before = home.messages("alice", &room, (start, 'b', 2), json!({})).await.unwrap();
    assert_eq!(texts(&before.chunk), ["2", "1"]);
    let after = home.messages("alice", &room, (end, 'f', 2), json!({})).await.unwrap();
    assert_eq!(texts(&after.chunk), ["9"]);
    let alone = home.rooms.context(&alice, &room, &ids[5], 0, Default::default()).await.unwrap();
    assert!(alone.before.is_empty() && alone.after.is_empty());
}

#[tokio::test]
async fn the_newest_events_of_a_room_come_first_and_within_bounds() {
    let home = Home::new().await;
    let id = home.public_room("alice").await;
    let room = home.room(&id).await;
    let start = home.rooms.store().position();
    for number in 0..5 {
        home.say("alice", &id, &number.to_string()).await;
    }
    let upto = Position::new(start.get() + 4);
    let events = home.rooms.timeline(&room, start, upto, 3).await.unwrap();
    let bodies: Vec<_> = events.iter().map(|event| event.position.get() - start.get()).collect();
    assert_eq!(bodies, [4, 3, 2]);
    assert!(home.rooms.timeline(&room, upto, upto, 3).await.unwrap().is_empty());
    let first = home.rooms.timeline(&room, Position::ZERO, start, 100).await.unwrap();
    assert!(first.len() > 3, "all events of the creation are in one commit");
}

#[tokio::test]
async fn those_who_left_see_the_state_and_the_members_of_their_leave() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let bob = home.user("bob");
    home.join("bob", &room).await.unwrap();
    home.set("alice", &room, "m.room.topic", "", json!({ "topic": "old" })).await;
    home.leave("bob", &room).await.unwrap();
    home.set("alice", &room, "m.room.topic", "", json!({ "topic": "new" })).await;
    home.join("carol", &room).await.unwrap();
    let topic = home.rooms.state_event_for(&bob, &room, &"m.room.topic".into(), "").await.unwrap();
    assert!(topic.event.pdu.content.get().contains("old"));
    let state = home.rooms.state(&bob, &room).await.unwrap();
    let kinds: Vec<_> = state.iter().map(|event| event.event.pdu.kind.to_string()).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "m.room.member").count(), 2);
    let members = home.rooms.members(&bob, &room, MembersQuery::default()).await.unwrap();
    assert_eq!(members.len(), 2);
    let query = MembersQuery { membership: Some(MembershipState::Leave), ..Default::default() };
    let left = home.rooms.members(&bob, &room, query).await.unwrap();
    assert_eq!(left[0].event.pdu.state_key.as_deref(), Some(bob.as_str()));
    let none = home.rooms.state_event_for(&bob, &room, &"org.example.no".into(), "").await;
    assert!(matches!(none, Err(RoomsError::NotFound { .. })), "{none:?}");
    let stranger = home.rooms.state(&home.user("dave"), &room).await;
    assert!(matches!(stranger, Err(RoomsError::Forbidden { .. })), "{stranger:?}");
}
