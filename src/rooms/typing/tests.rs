use std::time::Duration;

use crate::{RoomsError, tests::life::Home};

#[tokio::test]
async fn typing_is_told_when_it_begins_and_ends() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let alice = home.user("alice");
    let mut changes = home.rooms.typing_changes();
    assert_eq!(home.rooms.typing(&room), (0, Vec::new()));
    home.rooms.set_typing(&alice, &room, Some(30_000)).await.unwrap();
    assert_eq!(home.rooms.typing(&room), (1, vec![alice.clone()]));
    assert_eq!(changes.recv().await.unwrap(), room);
    home.rooms.set_typing(&alice, &room, Some(30_000)).await.unwrap();
    assert!(changes.try_recv().is_err(), "saying it again is no change");
    home.rooms.set_typing(&alice, &room, None).await.unwrap();
    assert_eq!(home.rooms.typing(&room), (2, Vec::new()));
    assert_eq!(changes.recv().await.unwrap(), room);
    assert_eq!(home.rooms.typing_version(), 2);
}

#[tokio::test]
async fn typing_ends_by_itself() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let alice = home.user("alice");
    let mut changes = home.rooms.typing_changes();
    home.rooms.set_typing(&alice, &room, Some(20)).await.unwrap();
    changes.recv().await.unwrap();
    home.clock.advance(20);
    let told = tokio::time::timeout(Duration::from_secs(10), changes.recv()).await;
    assert_eq!(told.unwrap().unwrap(), room);
    assert_eq!(home.rooms.typing(&room), (2, Vec::new()));
}

#[tokio::test]
async fn one_who_leaves_or_is_thrown_out_types_no_more() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    for user in ["bob", "carol"] {
        home.join(user, &room).await.unwrap();
        home.rooms.set_typing(&home.user(user), &room, Some(30_000)).await.unwrap();
    }
    home.leave("bob", &room).await.unwrap();
    assert_eq!(home.rooms.typing(&room).1, [home.user("carol")]);
    home.kick("alice", &room, "carol").await.unwrap();
    assert!(home.rooms.typing(&room).1.is_empty());
}

#[tokio::test]
async fn only_members_type() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let refused = home.rooms.set_typing(&home.user("bob"), &room, Some(1_000)).await;
    assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
}

#[tokio::test]
async fn other_servers_tell_who_of_their_members_types_and_nothing_else() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let member = home.user("@a:one.example");
    crate::servers::tests::set_member(&home, &room, member.as_str(), "join").await;
    let tell = async |origin: &str, user: &str, is_typing: bool| {
        let origin = ruma::ServerName::parse(origin).unwrap();
        home.rooms.receive_typing(&origin, &room, &home.user(user), is_typing).await.unwrap();
        home.rooms.typing(&room).1
    };
    assert!(tell("two.example", "@a:one.example", true).await.is_empty(), "another's user");
    assert!(tell("home.example", "alice", true).await.is_empty(), "our own user");
    assert!(tell("one.example", "@b:one.example", true).await.is_empty(), "no member");
    assert_eq!(tell("one.example", "@a:one.example", true).await, [member]);
    assert!(tell("one.example", "@a:one.example", false).await.is_empty());
    let elsewhere = ruma::RoomId::parse("!unknown:one.example").unwrap();
    let origin = ruma::ServerName::parse("one.example").unwrap();
    let user = home.user("@a:one.example");
    home.rooms.receive_typing(&origin, &elsewhere, &user, true).await.unwrap();
    assert_eq!(home.rooms.typing(&elsewhere), (0, Vec::new()));
}
