use ruma::{RoomVersionId, events::room::member::MembershipState};
use serde_json::json;

use super::{Far, restricted_to};
use crate::{RemoteError, RoomsError};

fn codes(error: &RoomsError) -> Vec<String> {
    let RoomsError::Servers { failures } = error else { panic!("{error}") };
    let code = |failure: &RemoteError| match failure {
        RemoteError::Refused { errcode, .. } => errcode.clone(),
        other => panic!("{other}"),
    };
    failures.iter().map(code).collect()
}

#[tokio::test]
async fn a_member_of_the_named_room_is_let_in_by_a_resident_server() {
    for version in [RoomVersionId::V8, RoomVersionId::V10, RoomVersionId::V12] {
        let far = Far::new(2).await;
        let bob = far.net.user("bob", 1);
        let (club, room) = (far.net.room(version.clone()).await, far.net.room(version).await);
        far.set_join_rule(&room, restricted_to(&club)).await;
        let refused = far.join(("bob", 1), &room, &[0]).await.unwrap_err();
        assert_eq!(codes(&refused), ["M_FORBIDDEN"]);
        far.join(("bob", 1), &club, &[0]).await.unwrap();
        far.join(("bob", 1), &room, &[0]).await.unwrap();
        let id = far.member_event(1, &bob, &room).await.unwrap();
        let join = far.net.event(1, &room, &id).await;
        let alice = far.net.user("alice", 0);
        assert!(join.content.get().contains(&format!("_server\":\"{alice}\"")), "{}", join.json);
        assert!(join.json.contains("\"s0.test\":{\"ed25519"), "{}", join.json);
        assert_eq!(far.net.nodes[0].state(&room).await, far.net.nodes[1].state(&room).await);
        // The next one is ours to judge, but not ours to let in: only alice may invite.
        let levels = json!({ "invite": 50, "users": { alice.as_str(): 100 } });
        far.net.nodes[0].set(&alice, &room, "m.room.power_levels", "", levels).await.ok();
        far.catch_up(0, 1, &room).await;
        far.join(("carol", 1), &club, &[]).await.unwrap();
        let carol = far.net.user("carol", 1);
        far.tell((1, 0), &carol, &club).await;
        far.join(("carol", 1), &room, &[0]).await.unwrap();
        assert_eq!(far.membership(("carol", 1), &room).await, Some(MembershipState::Join));
        far.are_sound().await;
    }
}

#[tokio::test]
async fn a_server_that_cannot_tell_sends_one_on_to_the_next() {
    let far = Far::new(3).await;
    let (club, room) =
        (far.net.room(RoomVersionId::V11).await, far.net.room(RoomVersionId::V11).await);
    // The third server is in the room but not in the club.
    far.join(("mallory", 2), &room, &[0]).await.unwrap();
    far.set_join_rule(&room, restricted_to(&club)).await;
    far.catch_up(0, 2, &room).await;
    far.join(("bob", 1), &club, &[0]).await.unwrap();
    let refused = far.join(("dave", 1), &room, &[2]).await;
    far.join(("bob", 1), &room, &[2, 0]).await.unwrap();
    let codes = codes(&refused.unwrap_err());
    assert_eq!(codes[0], "M_UNABLE_TO_AUTHORISE_JOIN", "{codes:?}");
    far.are_sound().await;
}

#[tokio::test]
async fn a_mangled_list_of_conditions_fails_the_join_and_not_the_room() {
    let far = Far::new(2).await;
    let alice = far.net.user("alice", 0);
    for allow in [json!("club"), json!([]), json!([7, { "type": "m.room_membership" }])] {
        let room = far.net.room(RoomVersionId::V11).await;
        far.set_join_rule(&room, json!({ "join_rule": "restricted", "allow": allow })).await;
        let refused = far.join(("bob", 1), &room, &[0]).await.unwrap_err();
        assert_eq!(codes(&refused), ["M_FORBIDDEN"]);
        far.net.nodes[0].say(&alice, &room, "fine").await;
        far.invite(("alice", 0), &room, ("bob", 1)).await.unwrap();
        far.join(("bob", 1), &room, &[]).await.unwrap();
    }
    far.are_sound().await;
}
