use ruma::{
    OwnedRoomId,
    directory::{Filter, RoomTypeFilter},
};
use serde_json::json;

use super::{PublicRoomsPage, PublicRoomsQuery};
use crate::{NewRoom, RoomPreset, RoomsError, Visibility, tests::life::Home};

/// A published room with so many members.
async fn published(home: &Home, name: &str, members: usize) -> OwnedRoomId {
    let wish = NewRoom {
        name: Some(name.to_owned()),
        preset: Some(RoomPreset::PublicChat),
        visibility: Visibility::Public,
        ..NewRoom::default()
    };
    let room = home.create("alice", wish).await;
    for member in 1..members {
        home.join(&format!("member{member}"), &room).await.unwrap();
    }
    room
}

async fn page(home: &Home, since: Option<String>, limit: usize) -> PublicRoomsPage {
    let query = PublicRoomsQuery { since, limit: Some(limit), filter: Filter::default() };
    home.rooms.public_rooms(query).await.unwrap()
}

fn names(page: &PublicRoomsPage) -> Vec<&str> {
    page.chunk.iter().filter_map(|room| room.name.as_deref()).collect()
}

#[tokio::test]
async fn the_largest_rooms_come_first_and_pages_go_both_ways() {
    let home = Home::new().await;
    for (name, members) in [("three", 3), ("five", 5), ("one", 1), ("four", 4), ("two", 2)] {
        published(&home, name, members).await;
    }
    let first = page(&home, None, 2).await;
    assert_eq!(names(&first), ["five", "four"]);
    assert_eq!((first.prev_batch.clone(), first.total_estimate), (None, 5));
    let second = page(&home, first.next_batch, 2).await;
    assert_eq!(names(&second), ["three", "two"]);
    let third = page(&home, second.next_batch.clone(), 2).await;
    assert_eq!(names(&third), ["one"]);
    assert_eq!(third.next_batch, None);
    let back = page(&home, third.prev_batch, 2).await;
    assert_eq!(names(&back), ["three", "two"]);
    assert_eq!(back.next_batch, second.next_batch);
    let start = page(&home, back.prev_batch, 2).await;
    assert_eq!(names(&start), ["five", "four"]);
    assert_eq!(start.prev_batch, None);
    let bad = PublicRoomsQuery { since: Some("x".to_owned()), ..Default::default() };
    let refused = home.rooms.public_rooms(bad).await;
    assert!(matches!(refused, Err(RoomsError::InvalidParam { .. })), "{refused:?}");
}

#[tokio::test]
async fn rooms_are_searched_by_name_topic_alias_and_type() {
    let home = Home::new().await;
    let frogs = published(&home, "Frogs", 1).await;
    home.set("alice", &frogs, "m.room.topic", "", json!({ "topic": "Amphibians" })).await;
    let space = NewRoom {
        name: Some("Space of toads".to_owned()),
        alias_localpart: Some("toads".to_owned()),
        preset: Some(RoomPreset::PublicChat),
        visibility: Visibility::Public,
        creation_content: Some(
            serde_json::value::to_raw_value(&json!({ "type": "m.space" })).unwrap(),
        ),
        ..NewRoom::default()
    };
    home.create("alice", space).await;
    let found = async |term: Option<&str>, room_types: Vec<RoomTypeFilter>| {
        let mut filter = Filter::default();
        filter.generic_search_term = term.map(str::to_owned);
        filter.room_types = room_types;
        let query = PublicRoomsQuery { filter, ..PublicRoomsQuery::default() };
        let page = home.rooms.public_rooms(query).await.unwrap();
        names(&page).join(" ")
    };
    assert_eq!(found(Some("frog"), vec![]).await, "Frogs");
    assert_eq!(found(Some("AMPHI"), vec![]).await, "Frogs");
    assert_eq!(found(Some("#toads"), vec![]).await, "Space of toads");
    assert_eq!(found(Some("newt"), vec![]).await, "");
    assert_eq!(found(None, vec![RoomTypeFilter::Space]).await, "Space of toads");
    assert_eq!(found(None, vec![RoomTypeFilter::Default]).await, "Frogs");
}

#[tokio::test]
async fn an_entry_tells_what_the_room_is() {
    let home = Home::new().await;
    let room = published(&home, "Room", 2).await;
    home.set_visibility("alice", &room, "world_readable").await;
    let guests = json!({ "guest_access": "can_join" });
    home.set("alice", &room, "m.room.guest_access", "", guests).await;
    let page = page(&home, None, 10).await;
    let entry = serde_json::to_value(&page.chunk[0]).unwrap();
    let expected = json!({
        "guest_can_join": true,
        "name": "Room",
        "num_joined_members": 2,
        "room_id": room,
        "world_readable": true,
    });
    assert_eq!(entry, expected);
}

#[tokio::test]
async fn a_room_is_published_by_those_with_power() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.join("bob", &room).await.unwrap();
    let publish = async |user: &str, visibility: Visibility| {
        home.rooms.set_directory_visibility(&home.user(user), &room, visibility).await
    };
    for user in ["bob", "carol"] {
        let refused = publish(user, Visibility::Public).await;
        assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
    }
    publish("alice", Visibility::Public).await.unwrap();
    assert_eq!(home.rooms.directory_visibility(&room).await.unwrap(), Visibility::Public);
    assert_eq!(page(&home, None, 10).await.chunk.len(), 1);
    publish("alice", Visibility::Private).await.unwrap();
    assert_eq!(home.rooms.directory_visibility(&room).await.unwrap(), Visibility::Private);
    assert!(page(&home, None, 10).await.chunk.is_empty());
}
