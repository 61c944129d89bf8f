use ruma::{RoomVersionId, events::room::member::MembershipState};
use serde_json::{Value as JsonValue, json};

use super::Far;
use crate::{NewRoom, Profile, Received, RoomPreset, RoomsError};

#[tokio::test]
async fn an_invite_crosses_over_and_is_taken_up_in_every_version() {
    for version in event::SUPPORTED {
        let far = Far::new(2).await;
        let bob = far.net.user("bob", 1);
        let room = far.private_room(version).await;
        far.invite(("alice", 0), &room, ("bob", 1)).await.unwrap();
        assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Invite));
        assert_eq!(far.seen(0, &bob, &room).await, Some(MembershipState::Invite));
        far.are_sound().await;
        // Without `via`: the inviter's server helps.
        far.join(("bob", 1), &room, &[]).await.unwrap();
        assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Join));
        assert_eq!(far.net.nodes[0].state(&room).await, far.net.nodes[1].state(&room).await);
        far.are_sound().await;
    }
}

#[tokio::test]
async fn an_invite_tells_what_room_it_is() {
    for version in [RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
        let far = Far::new(2).await;
        let (alice, bob) = (far.net.user("alice", 0), far.net.user("bob", 1));
        let room = far.private_room(version).await;
        let name = json!({ "name": "secret" });
        far.net.nodes[0].set(&alice, &room, "m.room.name", "", name).await.unwrap();
        far.invite(("alice", 0), &room, ("bob", 1)).await.unwrap();
        let rooms = &far.net.nodes[1].rooms;
        let known = rooms.load_room(&room).await.unwrap();
        let record = rooms.memberships(&bob).await.unwrap().by_id(&room).unwrap().clone();
        let event = rooms.load_event(&known, record.event).await.unwrap();
        let told = rooms.stripped_state(&known, &event).await.unwrap();
        let told: Vec<JsonValue> =
            told.iter().map(|raw| serde_json::from_str(raw.json().get()).unwrap()).collect();
        let of = |kind: &str, key: &str| {
            told.iter().find(|event| event["type"] == kind && event["state_key"] == key)
        };
        assert_eq!(of("m.room.name", "").unwrap()["content"]["name"], "secret");
        assert!(of("m.room.name", "").unwrap().get("signatures").is_none());
        assert_eq!(of("m.room.member", bob.as_str()).unwrap()["content"]["membership"], "invite");
        let create = of("m.room.create", "").unwrap();
        assert!(create.get("origin_server_ts").is_some(), "{create}");
        assert!(rooms.messages(&bob, &room, crate::tests::far::page()).await.is_err());
        assert!(rooms.joined_members(&bob, &room).await.is_err());
    }
}

#[tokio::test]
async fn an_invite_is_rejected_also_when_nobody_hears_it() {
    for silent in [false, true] {
        let far = Far::new(2).await;
        let bob = far.net.user("bob", 1);
        let room = far.private_room(RoomVersionId::V11).await;
        far.invite(("alice", 0), &room, ("bob", 1)).await.unwrap();
        if silent {
            far.net.cut(0, 1);
        }
        far.leave(("bob", 1), &room).await.unwrap();
        far.leave(("bob", 1), &room).await.unwrap();
        assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Leave));
        let expected = if silent { MembershipState::Invite } else { MembershipState::Leave };
        assert_eq!(far.seen(0, &bob, &room).await, Some(expected));
        far.net.nodes[1].rooms.forget(&bob, &room).await.unwrap();
        far.net.heal();
        // Invited again, in other words.
        let alice = far.net.user("alice", 0);
        let rooms = &far.net.nodes[0].rooms;
        let reason = Some("please".to_owned());
        rooms.invite(&alice, &room, &bob, Profile::default(), reason, true).await.unwrap();
        assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Invite));
        far.join(("bob", 1), &room, &[]).await.unwrap();
        far.are_sound().await;
    }
}

#[tokio::test]
async fn an_invite_is_rejected_when_the_room_is_empty_by_then() {
    let far = Far::new(2).await;
    let room = far.private_room(RoomVersionId::V11).await;
    far.invite(("alice", 0), &room, ("bob", 1)).await.unwrap();
    far.leave(("alice", 0), &room).await.unwrap();
    far.leave(("bob", 1), &room).await.unwrap();
    assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Leave));
    far.are_sound().await;
}

#[tokio::test]
async fn an_invite_is_taken_back_only_by_the_server_that_sent_it() {
    let far = Far::new(3).await;
    let (alice, bob) = (far.net.user("alice", 0), far.net.user("bob", 1));
    let mallory = far.net.user("mallory", 2);
    let room = far.net.room(RoomVersionId::V11).await;
    far.join(("mallory", 2), &room, &[0]).await.unwrap();
    far.invite(("alice", 0), &room, ("bob", 1)).await.unwrap();
    // Somebody else's kick.
    far.catch_up(0, 2, &room).await;
    let levels = json!({ "users": { alice.as_str(): 100, mallory.as_str(): 50 } });
    let set = far.net.nodes[0].set(&alice, &room, "m.room.power_levels", "", levels).await;
    set.unwrap();
    far.catch_up(0, 2, &room).await;
    far.net.nodes[2].rooms.kick(&mallory, &room, &bob, None).await.unwrap();
    let kick = far.member_event(2, &bob, &room).await.unwrap();
    let kick = far.net.event(2, &room, &kick).await;
    let rooms = &far.net.nodes[1].rooms;
    let known = rooms.load_room(&room).await.unwrap();
    let taken = |pdu| far.net.verified(pdu, &known);
    let mallorys = rooms.receive_outside(&far.net.nodes[2].name, taken(&kick)).await.unwrap();
    assert!(!mallorys);
    assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Invite));
    // The inviter's.
    far.net.nodes[0].rooms.kick(&alice, &room, &bob, None).await.unwrap();
    let kick = far.member_event(0, &bob, &room).await.unwrap();
    let kick = far.net.event(0, &room, &kick).await;
    assert_eq!(far.net.give(&kick, 0, 1).await.unwrap(), Received::NotOurs);
    assert!(rooms.receive_outside(&far.net.nodes[0].name, taken(&kick)).await.unwrap());
    assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Leave));
    assert!(!rooms.receive_outside(&far.net.nodes[0].name, taken(&kick)).await.unwrap());
    far.are_sound().await;
}

#[tokio::test]
async fn a_room_is_created_with_guests_from_afar() {
    for version in [RoomVersionId::V11, RoomVersionId::V12] {
        let far = Far::new(3).await;
        let alice = far.net.user("alice", 0);
        let guests = [far.net.user("bob", 1), far.net.user("carol", 2), far.net.user("dave", 0)];
        far.net.cut(0, 2);
        let invite = |user: &ruma::OwnedUserId| (user.clone(), Profile::default());
        let new = NewRoom {
            version: Some(version),
            preset: Some(RoomPreset::TrustedPrivateChat),
            invites: guests.iter().map(invite).collect(),
            is_direct: true,
            ..NewRoom::default()
        };
        let room = far.net.nodes[0].rooms.create(&alice, new).await.unwrap();
        assert_eq!(far.seen(0, &guests[0], &room).await, Some(MembershipState::Invite));
        assert_eq!(far.seen(0, &guests[1], &room).await, None);
        assert_eq!(far.seen(0, &guests[2], &room).await, Some(MembershipState::Invite));
        far.join(("bob", 1), &room, &[]).await.unwrap();
        far.are_sound().await;
    }
}

#[tokio::test]
async fn a_server_that_is_in_the_room_gets_the_invite_as_an_event() {
    let far = Far::new(2).await;
    let carol = far.net.user("carol", 1);
    let room = far.net.room(RoomVersionId::V11).await;
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    far.invite(("alice", 0), &room, ("carol", 1)).await.unwrap();
    assert_eq!(far.membership(("carol", 1), &room).await, None);
    assert_eq!(far.tell((0, 1), &carol, &room).await, Received::Accepted);
    assert_eq!(far.membership(("carol", 1), &room).await, Some(MembershipState::Invite));
    let again = far.invite(("alice", 0), &room, ("bob", 1)).await;
    assert!(matches!(again, Err(RoomsError::Forbidden { .. })), "{again:?}");
    far.are_sound().await;
}

#[tokio::test]
async fn an_invite_by_a_state_event_goes_the_same_way() {
    let far = Far::new(2).await;
    let (alice, bob) = (far.net.user("alice", 0), far.net.user("bob", 1));
    let room = far.private_room(RoomVersionId::V12).await;
    let content = json!({ "membership": "invite", "displayname": "Bob" });
    let set = far.net.nodes[0].set(&alice, &room, "m.room.member", bob.as_str(), content.clone());
    let first = set.await.unwrap();
    assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Invite));
    let set = far.net.nodes[0].set(&alice, &room, "m.room.member", bob.as_str(), content);
    assert_eq!(set.await.unwrap(), first);
}

#[tokio::test]
async fn two_are_invited_and_one_joins_before_the_other() {
    let far = Far::new(2).await;
    let carol = far.net.user("carol", 1);
    let room = far.private_room(RoomVersionId::V12).await;
    far.invite(("alice", 0), &room, ("bob", 1)).await.unwrap();
    far.invite(("alice", 0), &room, ("carol", 1)).await.unwrap();
    far.join(("bob", 1), &room, &[]).await.unwrap();
    assert_eq!(far.membership(("carol", 1), &room).await, Some(MembershipState::Invite));
    let rooms = &far.net.nodes[1].rooms;
    let known = rooms.load_room(&room).await.unwrap();
    let record = rooms.memberships(&carol).await.unwrap().by_id(&room).unwrap().clone();
    let event = rooms.load_event(&known, record.event).await.unwrap();
    let told = rooms.stripped_state(&known, &event).await.unwrap();
    assert!(told.len() > 3, "{told:?}");
    far.join(("carol", 1), &room, &[]).await.unwrap();
    far.are_sound().await;
}
