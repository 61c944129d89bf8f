use ruma::{RoomId, RoomVersionId, events::StateEventType};
use serde_json::{Value as JsonValue, json};

use super::Summary;
use crate::{NewRoom, tests::life::Home};

async fn summary(home: &Home, room: &RoomId, viewer: &str) -> Summary {
    let room = home.room(room).await;
    home.rooms.summary(&room, &home.user(viewer)).await.unwrap()
}

#[tokio::test]
async fn the_heroes_are_the_first_five_others() {
    let home = Home::new().await;
    let room = home.public_room("zoe").await;
    for user in ["f", "e", "d", "c", "b"] {
        home.join(user, &room).await.unwrap();
    }
    home.invite("zoe", &room, "a").await.unwrap();
    let zoe = summary(&home, &room, "zoe").await;
    let expected: Vec<_> = ["f", "e", "d", "c", "b"].map(|user| home.user(user)).into();
    assert_eq!(zoe, Summary { heroes: expected, joined_count: 6, invited_count: 1 });
    let heroes = summary(&home, &room, "f").await.heroes;
    assert_eq!(heroes, ["zoe", "e", "d", "c", "b"].map(|user| home.user(user)));
}

#[tokio::test]
async fn those_who_left_are_heroes_when_nobody_else_is_there() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    assert!(summary(&home, &room, "alice").await.heroes.is_empty());
    home.join("bob", &room).await.unwrap();
    home.leave("bob", &room).await.unwrap();
    home.ban("alice", &room, "carol").await.unwrap();
    let expected = ["bob", "carol"].map(|user| home.user(user));
    assert_eq!(summary(&home, &room, "alice").await.heroes, expected);
}

#[tokio::test]
async fn a_room_with_a_name_needs_no_heroes() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.join("bob", &room).await.unwrap();
    home.set("alice", &room, "m.room.name", "", json!({ "name": "Room" })).await;
    assert!(summary(&home, &room, "alice").await.heroes.is_empty());
    home.set("alice", &room, "m.room.name", "", json!({ "name": "" })).await;
    assert_eq!(summary(&home, &room, "alice").await.heroes, [home.user("bob")]);
}

#[tokio::test]
async fn an_invite_comes_with_the_room_in_short_and_its_whole_create_event() {
    let home = Home::new().await;
    let wish = NewRoom {
        version: Some(RoomVersionId::V12),
        name: Some("Party".to_owned()),
        topic: Some("Tonight".to_owned()),
        ..NewRoom::default()
    };
    let id = home.create("alice", wish).await;
    home.invite("alice", &id, "bob").await.unwrap();
    let room = home.room(&id).await;
    let bob = home.user("bob");
    let root = home.rooms.current_state(&room).await.unwrap();
    let entry = [(StateEventType::RoomMember, bob.to_string())];
    let found = home.rooms.state_numbers(&room, root, &entry).await.unwrap();
    let invite = home.rooms.load_event(&room, found[0].unwrap()).await.unwrap();
    let state = home.rooms.stripped_state(&room, &invite).await.unwrap();
    let state: Vec<JsonValue> =
        state.iter().map(|event| serde_json::from_str(event.json().get()).unwrap()).collect();
    let find = |kind: &str, key: &str| {
        state.iter().find(|event| event["type"] == kind && event["state_key"] == key)
    };
    let name = find("m.room.name", "").unwrap().as_object().unwrap();
    assert_eq!(name.len(), 4);
    assert_eq!(name["content"]["name"], "Party");
    assert!(find("m.room.topic", "").is_some());
    assert!(find("m.room.join_rules", "").is_some());
    assert!(find("m.room.power_levels", "").is_none());
    assert_eq!(find("m.room.member", bob.as_str()).unwrap()["content"]["membership"], "invite");
    assert!(find("m.room.member", "@alice:home.example").is_some());
    let create = find("m.room.create", "").unwrap();
    let hash = create["event_id"].as_str().unwrap().strip_prefix('$').unwrap();
    assert_eq!(id.as_str(), format!("!{hash}"));
}
