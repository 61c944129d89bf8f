use ruma::{
    OwnedRoomId, RoomId, RoomVersionId,
    events::{StateEventType, room::member::MembershipState},
};
use serde_json::{Value as JsonValue, json};

use crate::{
    NewRoom, RoomsError,
    tests::life::{Home, membership},
};

/// A room into which the members of another may come.
async fn restricted_room(home: &Home, rule: &str, club: &RoomId) -> OwnedRoomId {
    let room = home.private_room("alice").await;
    let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
    let content = json!({ "join_rule": rule, "allow": allow });
    home.set("alice", &room, "m.room.join_rules", "", content).await;
    room
}

async fn member_content(home: &Home, room: &RoomId, user: &str) -> JsonValue {
    let room = home.room(room).await;
    let root = home.rooms.current_state(&room).await.unwrap();
    let (kind, user) = (StateEventType::RoomMember, home.user(user));
    let event = home.rooms.state_event(&room, root, &kind, user.as_str()).await.unwrap();
    event.unwrap().content_as().unwrap()
}

#[tokio::test]
async fn a_private_room_lets_only_the_invited_in() {
    let home = Home::new().await;
    let room = home.private_room("alice").await;
    let refused = home.join("bob", &room).await;
    assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
    home.invite("alice", &room, "bob").await.unwrap();
    home.join("bob", &room).await.unwrap();
    assert_eq!(membership(&home, "bob", &room).await, Some(MembershipState::Join));
}

#[tokio::test]
async fn an_unknown_room_is_not_found() {
    let home = Home::new().await;
    let room = RoomId::parse("!nowhere:home.example").unwrap();
    let refused = home.join("bob", &room).await;
    assert!(matches!(refused, Err(RoomsError::NotFound { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_restricted_room_lets_members_of_the_other_room_in_by_an_inviter() {
    for rule in ["restricted", "knock_restricted"] {
        let home = Home::new().await;
        let club = home.public_room("carol").await;
        let room = restricted_room(&home, rule, &club).await;
        let refused = home.join("bob", &room).await;
        assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
        home.join("bob", &club).await.unwrap();
        home.join("bob", &room).await.unwrap();
        let content = member_content(&home, &room, "bob").await;
        assert_eq!(content["join_authorised_via_users_server"], "@alice:home.example");
    }
}

#[tokio::test]
async fn leaving_the_other_room_closes_the_door_again() {
    let home = Home::new().await;
    let club = home.public_room("carol").await;
    let room = restricted_room(&home, "restricted", &club).await;
    home.join("bob", &club).await.unwrap();
    home.leave("bob", &club).await.unwrap();
    let refused = home.join("bob", &room).await;
    assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
}

#[tokio::test]
async fn an_invited_user_joins_a_restricted_room_without_an_inviter() {
    let home = Home::new().await;
    let club = home.public_room("carol").await;
    let room = restricted_room(&home, "restricted", &club).await;
    home.invite("alice", &room, "bob").await.unwrap();
    home.join("bob", &room).await.unwrap();
    let content = member_content(&home, &room, "bob").await;
    assert_eq!(content.get("join_authorised_via_users_server"), None);
}

#[tokio::test]
async fn a_restricted_room_that_nobody_can_invite_to_lets_nobody_in() {
    let home = Home::new().await;
    let club = home.public_room("carol").await;
    home.join("bob", &club).await.unwrap();
    let room = restricted_room(&home, "restricted", &club).await;
    home.leave("alice", &room).await.unwrap();
    let refused = home.join("bob", &room).await;
    assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
}

#[tokio::test]
async fn anybody_may_be_the_inviter_where_anybody_may_invite() {
    let home = Home::new().await;
    let club = home.public_room("carol").await;
    home.join("bob", &club).await.unwrap();
    let room = restricted_room(&home, "restricted", &club).await;
    home.invite("alice", &room, "dave").await.unwrap();
    home.join("dave", &room).await.unwrap();
    home.leave("alice", &room).await.unwrap();
    home.join("bob", &room).await.unwrap();
    let content = member_content(&home, &room, "bob").await;
    assert_eq!(content["join_authorised_via_users_server"], "@dave:home.example");
}

#[tokio::test]
async fn a_creator_of_version_12_is_an_inviter() {
    let home = Home::new().await;
    let club = home.public_room("carol").await;
    home.join("bob", &club).await.unwrap();
    let wish = NewRoom { version: Some(RoomVersionId::V12), ..NewRoom::default() };
    let room = home.create("alice", wish).await;
    let levels = json!({ "invite": 100, "users": {} });
    home.set("alice", &room, "m.room.power_levels", "", levels).await;
    let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
    let content = json!({ "join_rule": "restricted", "allow": allow });
    home.set("alice", &room, "m.room.join_rules", "", content).await;
    home.join("bob", &room).await.unwrap();
    let content = member_content(&home, &room, "bob").await;
    assert_eq!(content["join_authorised_via_users_server"], "@alice:home.example");
}
