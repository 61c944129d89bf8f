use ruma::{RoomVersionId, events::room::member::MembershipState};
use serde_json::json;

use super::Far;
use crate::{Received, RemoteError, RoomsError};

#[tokio::test]
async fn a_room_of_another_server_is_joined_in_every_version() {
    for version in event::SUPPORTED {
        let far = Far::new(2).await;
        let room = far.net.room(version.clone()).await;
        far.join(("bob", 1), &room, &[0]).await.unwrap();
        let bob = far.net.user("bob", 1);
        assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Join));
        assert_eq!(far.seen(0, &bob, &room).await, Some(MembershipState::Join));
        assert_eq!(far.net.nodes[0].state(&room).await, far.net.nodes[1].state(&room).await);
        assert_eq!(
            far.net.nodes[0].extremities(&room).await,
            far.net.nodes[1].extremities(&room).await
        );
        far.net.nodes[1].say(&bob, &room, "hello").await;
        far.catch_up(1, 0, &room).await;
        far.are_sound().await;
        let before = far.net.nodes[1].rooms.store().position();
        far.join(("bob", 1), &room, &[0]).await.unwrap();
        assert_eq!(far.net.nodes[1].rooms.store().position(), before, "{version}");
    }
}

#[tokio::test]
async fn the_second_user_of_a_server_joins_without_help() {
    let far = Far::new(2).await;
    let room = far.net.room(RoomVersionId::V11).await;
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    far.net.cut(0, 1);
    far.join(("carol", 1), &room, &[]).await.unwrap();
    assert_eq!(far.membership(("carol", 1), &room).await, Some(MembershipState::Join));
    far.are_sound().await;
}

#[tokio::test]
async fn servers_are_asked_in_turn_and_the_error_tells_what_each_said() {
    let far = Far::new(3).await;
    let room = far.net.room(RoomVersionId::V11).await;
    far.join(("bob", 1), &room, &[2, 0]).await.unwrap();
    let far = Far::new(3).await;
    let room = far.private_room(RoomVersionId::V11).await;
    let refused = far.join(("bob", 1), &room, &[2, 0]).await;
    let Err(RoomsError::Servers { failures }) = refused else { panic!("{refused:?}") };
    let statuses: Vec<u16> = failures
        .iter()
        .map(|failure| match failure {
            RemoteError::Refused { status, .. } => *status,
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(statuses, [404, 403]);
    far.net.cut(0, 1);
    let refused = far.join(("bob", 1), &room, &[0]).await;
    let Err(RoomsError::Servers { failures }) = refused else { panic!("{refused:?}") };
    assert!(matches!(&failures[..], [RemoteError::Unreachable { .. }]), "{failures:?}");
}

#[tokio::test]
async fn a_room_is_joined_again_after_everybody_had_left_it() {
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let far = Far::new(2).await;
        let (alice, bob) = (far.net.user("alice", 0), far.net.user("bob", 1));
        let room = far.net.room(version).await;
        far.join(("bob", 1), &room, &[0]).await.unwrap();
        far.leave(("bob", 1), &room).await.unwrap();
        far.tell((1, 0), &bob, &room).await;
        far.net.nodes[0].say(&alice, &room, "bob is away").await;
        let name = json!({ "name": "changed" });
        far.net.nodes[0].set(&alice, &room, "m.room.name", "", name).await.unwrap();
        far.join(("bob", 1), &room, &[0]).await.unwrap();
        assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Join));
        assert_eq!(far.net.nodes[0].state(&room).await, far.net.nodes[1].state(&room).await);
        assert_eq!(
            far.net.nodes[0].extremities(&room).await,
            far.net.nodes[1].extremities(&room).await
        );
        far.net.nodes[1].say(&bob, &room, "back").await;
        far.are_sound().await;
    }
}

#[tokio::test]
async fn a_room_whose_last_member_was_ours_is_still_ours() {
    let far = Far::new(2).await;
    let bob = far.net.user("bob", 1);
    let room = far.net.room(RoomVersionId::V11).await;
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    far.leave(("bob", 1), &room).await.unwrap();
    far.tell((1, 0), &bob, &room).await;
    far.leave(("alice", 0), &room).await.unwrap();
    far.net.cut(0, 1);
    far.join(("dave", 0), &room, &[]).await.unwrap();
    far.are_sound().await;
}

#[tokio::test]
async fn one_bad_event_in_the_answer_does_not_spoil_a_join() {
    let far = Far::new(2).await;
    let alice = far.net.user("alice", 0);
    let room = far.net.room(RoomVersionId::V11).await;
    let topic = json!({ "topic": "spoilt" });
    let bad = far.net.nodes[0].set(&alice, &room, "m.room.topic", "", topic).await.unwrap();
    far.net.wires.spoilt.lock().unwrap().insert(bad);
    far.net.wires.no_state.store(true, std::sync::atomic::Ordering::Relaxed);
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    let key = ("m.room.topic".to_owned(), String::new());
    assert!(!far.net.nodes[1].state(&room).await.contains_key(&key));
    far.are_sound().await;
}

#[tokio::test]
async fn a_banned_user_is_let_in_by_nobody() {
    let far = Far::new(2).await;
    let (alice, bob) = (far.net.user("alice", 0), far.net.user("bob", 1));
    let room = far.net.room(RoomVersionId::V11).await;
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    far.net.nodes[0].rooms.ban(&alice, &room, &bob, None).await.unwrap();
    assert_eq!(far.tell((0, 1), &bob, &room).await, Received::Accepted);
    assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Ban));
    assert!(far.join(("bob", 1), &room, &[0]).await.is_err());
    far.net.nodes[0].rooms.unban(&alice, &room, &bob, None).await.unwrap();
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    far.are_sound().await;
}

#[tokio::test]
async fn two_users_of_a_server_join_at_the_same_time() {
    let far = Far::new(2).await;
    let room = far.net.room(RoomVersionId::V11).await;
    let (one, other) =
        tokio::join!(far.join(("bob", 1), &room, &[0]), far.join(("carol", 1), &room, &[0]));
    one.unwrap();
    other.unwrap();
    for user in ["bob", "carol"] {
        assert_eq!(far.membership((user, 1), &room).await, Some(MembershipState::Join));
        let user = far.net.user(user, 1);
        assert_eq!(far.seen(0, &user, &room).await, Some(MembershipState::Join));
    }
    far.are_sound().await;
}

#[tokio::test]
async fn a_room_that_is_not_as_deserted_as_we_believe_is_joined_where_the_others_are() {
    let far = Far::new(2).await;
    let (alice, bob) = (far.net.user("alice", 0), far.net.user("bob", 1));
    let room = far.net.room(RoomVersionId::V11).await;
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    // Two events that the other server never hears of.
    far.net.nodes[0].rooms.kick(&alice, &room, &bob, None).await.unwrap();
    far.leave(("alice", 0), &room).await.unwrap();
    far.net.nodes[1].say(&bob, &room, "anybody here?").await;
    far.join(("alice", 0), &room, &[]).await.unwrap();
    assert_eq!(far.membership(("alice", 0), &room).await, Some(MembershipState::Join));
    let join = far.member_event(0, &alice, &room).await.unwrap();
    assert_eq!(far.member_event(1, &alice, &room).await, Some(join));
    far.net.nodes[0].say(&alice, &room, "here").await;
    far.catch_up(0, 1, &room).await;
    assert_eq!(far.net.nodes[0].state(&room).await, far.net.nodes[1].state(&room).await);
    far.are_sound().await;
}

#[tokio::test]
async fn a_deserted_room_is_joined_at_once_where_nobody_else_ever_was() {
    let far = Far::new(2).await;
    let room = far.net.room(RoomVersionId::V11).await;
    far.leave(("alice", 0), &room).await.unwrap();
    far.join(("dave", 0), &room, &[]).await.unwrap();
    assert!(far.net.wires.asked.lock().unwrap().is_empty());
    far.are_sound().await;
}
