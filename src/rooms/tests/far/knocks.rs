use ruma::{RoomVersionId, events::room::member::MembershipState};
use serde_json::json;

use super::Far;
use crate::{Profile, Received, RoomsError};

#[tokio::test]
async fn a_knock_crosses_over_and_is_answered_or_refused() {
    for version in [RoomVersionId::V7, RoomVersionId::V10, RoomVersionId::V12] {
        let far = Far::new(2).await;
        let (alice, bob) = (far.net.user("alice", 0), far.net.user("bob", 1));
        let room = far.private_room(version).await;
        let rooms = &far.net.nodes[1].rooms;
        let via = far.via(&[0]);
        let refused = rooms.knock(&bob, &room, &via, Profile::default(), None).await;
        assert!(matches!(refused, Err(RoomsError::Servers { .. })), "{refused:?}");
        far.set_join_rule(&room, json!({ "join_rule": "knock" })).await;
        let reason = Some("let me in".to_owned());
        rooms.knock(&bob, &room, &via, Profile::default(), reason).await.unwrap();
        assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Knock));
        assert_eq!(far.seen(0, &bob, &room).await, Some(MembershipState::Knock));
        // Taken back, and made again.
        far.leave(("bob", 1), &room).await.unwrap();
        assert_eq!(far.seen(0, &bob, &room).await, Some(MembershipState::Leave));
        rooms.knock(&bob, &room, &via, Profile::default(), None).await.unwrap();
        // Refused.
        far.net.nodes[0].rooms.kick(&alice, &room, &bob, None).await.unwrap();
        let kick = far.member_event(0, &bob, &room).await.unwrap();
        let kick = far.net.event(0, &room, &kick).await;
        let known = rooms.load_room(&room).await.unwrap();
        let kick = far.net.verified(&kick, &known);
        assert!(rooms.receive_outside(&far.net.nodes[0].name, kick).await.unwrap());
        assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Leave));
        // Answered.
        rooms.knock(&bob, &room, &via, Profile::default(), None).await.unwrap();
        far.invite(("alice", 0), &room, ("bob", 1)).await.unwrap();
        assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Invite));
        let again = rooms.knock(&bob, &room, &via, Profile::default(), None).await;
        assert!(matches!(again, Err(RoomsError::Forbidden { .. })), "{again:?}");
        far.join(("bob", 1), &room, &[]).await.unwrap();
        far.are_sound().await;
    }
}

#[tokio::test]
async fn users_of_other_servers_are_moderated_like_ours() {
    let far = Far::new(2).await;
    let (alice, bob) = (far.net.user("alice", 0), far.net.user("bob", 1));
    let room = far.net.room(RoomVersionId::V12).await;
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    let here = &far.net.nodes[0].rooms;
    here.kick(&alice, &room, &bob, Some("out".to_owned())).await.unwrap();
    assert_eq!(far.tell((0, 1), &bob, &room).await, Received::Accepted);
    assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Leave));
    assert!(far.net.nodes[1].try_say(&bob, &room, "still here?").await.is_err());
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    here.ban(&alice, &room, &bob, None).await.unwrap();
    far.tell((0, 1), &bob, &room).await;
    here.unban(&alice, &room, &bob, None).await.unwrap();
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    far.are_sound().await;
}
