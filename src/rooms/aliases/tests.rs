use ruma::{OwnedRoomAliasId, OwnedRoomId, RoomAliasId, events::StateEventType};
use serde_json::{json, value::to_raw_value};

use super::DeletedBy;
use crate::{NewEvent, Result, RoomsError, tests::life::Home};

fn alias(text: &str) -> OwnedRoomAliasId {
    RoomAliasId::parse(text).unwrap()
}

async fn set_canonical(home: &Home, room: &OwnedRoomId, aliases: &[&str]) -> Result<()> {
    let content = match aliases {
        [first, others @ ..] => json!({ "alias": first, "alt_aliases": others }),
        [] => json!({}),
    };
    let kind = StateEventType::RoomCanonicalAlias;
    let event = NewEvent::state(kind, "", to_raw_value(&content).unwrap());
    home.rooms.send(&home.user("alice"), room, event).await.map(|_| ())
}

#[tokio::test]
async fn an_alias_points_to_one_room_until_it_is_deleted() {
    let home = Home::new().await;
    let (room, other) = (home.public_room("alice").await, home.public_room("alice").await);
    let alice = home.user("alice");
    let name = alias("#name:home.example");
    home.rooms.create_alias(&alice, &name, &room).await.unwrap();
    let taken = home.rooms.create_alias(&alice, &name, &other).await;
    assert!(matches!(taken, Err(RoomsError::AliasTaken { .. })), "{taken:?}");
    let (found, servers) = home.rooms.resolve_alias(&name).await.unwrap().unwrap();
    assert_eq!(found, room);
    assert_eq!(servers, [home.rooms.server_name()]);
    assert_eq!(home.rooms.aliases(&alice, &room).await.unwrap(), std::slice::from_ref(&name));
    home.rooms.delete_alias(&alice, &name, DeletedBy::User).await.unwrap();
    assert!(home.rooms.resolve_alias(&name).await.unwrap().is_none());
    assert!(home.rooms.aliases(&alice, &room).await.unwrap().is_empty());
    let again = home.rooms.delete_alias(&alice, &name, DeletedBy::User).await;
    assert!(matches!(again, Err(RoomsError::NotFound { .. })), "{again:?}");
    home.rooms.create_alias(&alice, &name, &other).await.unwrap();
}

#[tokio::test]
async fn aliases_of_other_servers_and_overlong_ones_are_refused() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let long = format!("#{}:home.example", "x".repeat(250));
    for text in ["#name:elsewhere.example", &long, "#a\u{1}b:home.example"] {
        let Ok(alias) = RoomAliasId::parse(text) else { continue };
        let refused = home.rooms.create_alias(&home.user("alice"), &alias, &room).await;
        assert!(matches!(refused, Err(RoomsError::InvalidParam { .. })), "{text}: {refused:?}");
    }
}

#[tokio::test]
async fn an_alias_is_deleted_by_its_maker_by_power_or_by_an_administrator() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let (alice, bob, carol) = (home.user("alice"), home.user("bob"), home.user("carol"));
    home.join("bob", &room).await.unwrap();
    home.join("carol", &room).await.unwrap();
    let daves = alias("#daves:home.example");
    let stranger = home.rooms.create_alias(&home.user("dave"), &daves, &room).await;
    assert!(matches!(stranger, Err(RoomsError::Forbidden { .. })), "{stranger:?}");
    for (deleter, by) in
        [(&bob, DeletedBy::User), (&alice, DeletedBy::User), (&carol, DeletedBy::Admin)]
    {
        let name = alias("#bobs:home.example");
        home.rooms.create_alias(&bob, &name, &room).await.unwrap();
        let refused = home.rooms.delete_alias(&carol, &name, DeletedBy::User).await;
        assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
        home.rooms.delete_alias(deleter, &name, by).await.unwrap();
    }
}

#[tokio::test]
async fn canonical_aliases_must_point_to_the_room_when_they_are_new() {
    let home = Home::new().await;
    let (room, other) = (home.public_room("alice").await, home.public_room("alice").await);
    let alice = home.user("alice");
    home.rooms.create_alias(&alice, &alias("#here:home.example"), &room).await.unwrap();
    home.rooms.create_alias(&alice, &alias("#there:home.example"), &other).await.unwrap();
    for aliases in [
        &["#there:home.example"][..],
        &["#here:home.example", "#nowhere:home.example"],
        &["#x:elsewhere.example"],
    ] {
        let refused = set_canonical(&home, &room, aliases).await;
        assert!(matches!(refused, Err(RoomsError::BadAlias { .. })), "{aliases:?}: {refused:?}");
    }
    let malformed = set_canonical(&home, &room, &["here"]).await;
    assert!(matches!(malformed, Err(RoomsError::InvalidParam { .. })), "{malformed:?}");
    set_canonical(&home, &room, &["#here:home.example"]).await.unwrap();
    home.rooms.create_alias(&alice, &alias("#two:home.example"), &room).await.unwrap();
    set_canonical(&home, &room, &["#here:home.example", "#two:home.example"]).await.unwrap();
}

#[tokio::test]
async fn a_deleted_alias_goes_from_the_canonical_ones_too() {
    let home = Home::new().await;
    let id = home.public_room("alice").await;
    let alice = home.user("alice");
    for name in ["#one:home.example", "#two:home.example"] {
        home.rooms.create_alias(&alice, &alias(name), &id).await.unwrap();
    }
    set_canonical(&home, &id, &["#one:home.example", "#two:home.example"]).await.unwrap();
    let content = async || {
        let kind = StateEventType::RoomCanonicalAlias;
        let event = home.rooms.state_event_for(&alice, &id, &kind, "").await.unwrap();
        event.event.pdu.content_as::<serde_json::Value>().unwrap()
    };
    home.rooms.delete_alias(&alice, &alias("#two:home.example"), DeletedBy::User).await.unwrap();
    assert_eq!(content().await, json!({ "alias": "#one:home.example", "alt_aliases": [] }));
    home.rooms.delete_alias(&alice, &alias("#one:home.example"), DeletedBy::User).await.unwrap();
    assert_eq!(content().await, json!({ "alt_aliases": [] }));
}
