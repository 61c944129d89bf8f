//! Knocking, and joining by being in another room.

use serde_json::{Value, json};

use crate::rooms_people::{Person, Town};

/// A room with this join rule, and rooms that open it.
async fn ruled(owner: &Person, rule: &str, open_to: &[&str]) -> String {
    let allow: Vec<Value> = open_to
        .iter()
        .map(|room| json!({ "type": "m.room_membership", "room_id": room }))
        .collect();
    let content = json!({ "join_rule": rule, "allow": allow });
    let state = json!([{ "type": "m.room.join_rules", "content": content }]);
    owner.create(json!({ "initial_state": state })).await
}

#[tokio::test]
async fn a_knock_is_answered_with_an_invite_or_not() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    for rule in ["knock", "knock_restricted"] {
        let room = ruled(&alice, rule, &[]).await;
        bob.join(&room).await.refused(403, "M_FORBIDDEN");
        let body = json!({ "reason": "let me in" });
        assert_eq!(bob.post(&format!("/knock/{room}"), body).await.ok()["room_id"], room);
        let member = alice.state(&room, "m.room.member", &bob.id).await.ok();
        assert_eq!(member["membership"], "knock");
        assert_eq!(member["reason"], "let me in");
        bob.join(&room).await.refused(403, "M_FORBIDDEN");
        alice.invite(&room, &bob).await.ok();
        bob.join(&room).await.ok();
        bob.post(&format!("/knock/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");

        carol.post_text(&format!("/knock/{room}"), "").await.ok();
        carol.leave(&room).await.ok();
        assert_eq!(alice.membership(&room, &carol).await, "leave");
        carol.post(&format!("/knock/{room}"), json!({})).await.ok();
        alice.post(&format!("/rooms/{room}/kick"), json!({ "user_id": carol.id })).await.ok();
        assert_eq!(alice.membership(&room, &carol).await, "leave");
        alice.post(&format!("/rooms/{room}/ban"), json!({ "user_id": carol.id })).await.ok();
        carol.post(&format!("/knock/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn one_cannot_knock_where_nobody_answers() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    for room in [
        alice.create(json!({ "preset": "private_chat" })).await,
        alice.create(json!({ "preset": "public_chat" })).await,
        ruled(&alice, "restricted", &[]).await,
    ] {
        bob.post(&format!("/knock/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");
    }
    let by_alias = format!("/knock/%23none:{}", town.name());
    bob.post(&by_alias, json!({})).await.refused(404, "M_NOT_FOUND");
    let nowhere = bob.post("/knock/!none:localhost", json!({})).await;
    assert!(matches!(nowhere.status, 403 | 404), "{nowhere:?}");
}

#[tokio::test]
async fn members_of_another_room_may_join_a_restricted_one() {
    let town = Town::start().await;
    let [alice, bob, carol, dave] = town.people(["alice", "bob", "carol", "dave"]).await;
    for rule in ["restricted", "knock_restricted"] {
        let space = alice.create(json!({ "preset": "public_chat" })).await;
        let room = ruled(&alice, rule, &["!elsewhere:example.org", &space]).await;
        bob.join(&room).await.refused(403, "M_FORBIDDEN");
        bob.join(&space).await.ok();
        bob.join(&room).await.ok();
        let member = alice.state(&room, "m.room.member", &bob.id).await.ok();
        assert_eq!(member["join_authorised_via_users_server"], alice.id);
        // Leaving the space does not throw one out; coming back takes it again.
        bob.leave(&space).await.ok();
        bob.put(&format!("/profile/{}/displayname", bob.id), json!({ "displayname": rule }))
            .await
            .ok();
        let member = alice.state(&room, "m.room.member", &bob.id).await.ok();
        assert_eq!(member["displayname"], rule);
        bob.leave(&room).await.ok();
        bob.join(&room).await.refused(403, "M_FORBIDDEN");
        // An invite opens it too.
        alice.invite(&room, &carol).await.ok();
        carol.join(&room).await.ok();
        let member = alice.state(&room, "m.room.member", &carol.id).await.ok();
        assert_eq!(member.get("join_authorised_via_users_server"), None);
        // To be banned is to be banned.
        dave.join(&space).await.ok();
        alice.post(&format!("/rooms/{room}/ban"), json!({ "user_id": dave.id })).await.ok();
        dave.join(&room).await.refused(403, "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn the_one_who_authorises_a_join_cannot_be_made_up() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let space = alice.create(json!({ "preset": "public_chat" })).await;
    let room = ruled(&alice, "restricted", &[&space]).await;
    let forged = json!({ "membership": "join", "join_authorised_via_users_server": alice.id });
    bob.set_state(&room, "m.room.member", &bob.id, forged.clone())
        .await
        .refused(403, "M_FORBIDDEN");
    bob.join(&space).await.ok();
    let honest = json!({ "membership": "join" });
    bob.set_state(&room, "m.room.member", &bob.id, honest).await.ok();
    assert_eq!(bob.joined_rooms().await.len(), 2);
}

#[tokio::test]
async fn a_mangled_allow_list_fails_the_join_but_not_the_room() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({})).await;
    for allow in [json!("everybody"), json!([5, {}, { "type": "org.example.x" }]), json!({})] {
        let rules = json!({ "join_rule": "restricted", "allow": allow });
        alice.set_state(&room, "m.room.join_rules", "", rules).await.ok();
        bob.join(&room).await.refused(403, "M_FORBIDDEN");
        alice.say(&room, "still working").await;
    }
}

#[tokio::test]
async fn a_restricted_join_needs_someone_able_to_invite() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    let space = alice.create(json!({ "preset": "public_chat" })).await;
    let room = ruled(&alice, "restricted", &[&space]).await;
    bob.join(&space).await.ok();
    carol.join(&space).await.ok();
    let mut levels = alice.state(&room, "m.room.power_levels", "").await.ok();
    levels["invite"] = json!(50);
    alice.set_levels(&room, levels).await.ok();
    bob.join(&room).await.ok();
    alice.leave(&room).await.ok();
    let answer = carol.join(&room).await;
    assert!(matches!(answer.status, 400 | 403), "{answer:?}");
}
