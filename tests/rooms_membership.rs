//! Who comes, goes, and is made to go.

use serde_json::{Value, json};

use crate::rooms_people::{Person, Town, text_of};

#[tokio::test]
async fn an_invite_lets_one_in_or_is_rejected() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    let room = alice.create(json!({ "preset": "private_chat" })).await;
    bob.join(&room).await.refused(403, "M_FORBIDDEN");
    let invite = json!({ "user_id": bob.id, "reason": "come in" });
    alice.post(&format!("/rooms/{room}/invite"), invite).await.ok();
    let member = alice.state(&room, "m.room.member", &bob.id).await.ok();
    assert_eq!(member["membership"], "invite");
    assert_eq!(member["reason"], "come in");
    assert_eq!(bob.joined_rooms().await, Vec::<String>::new());
    assert_eq!(bob.join(&room).await.ok()["room_id"], room);
    assert_eq!(bob.joined_rooms().await, [room.as_str()]);
    alice.invite(&room, &bob).await.refused(403, "M_FORBIDDEN");

    bob.invite(&room, &carol).await.ok();
    carol.leave(&room).await.ok();
    assert_eq!(alice.membership(&room, &carol).await, "leave");
    carol.join(&room).await.refused(403, "M_FORBIDDEN");
    let stranger = json!({ "user_id": "@stranger:elsewhere.example" });
    let answer = alice.post(&format!("/rooms/{room}/invite"), stranger).await;
    assert_eq!(answer.status, 504, "that server is not there: {answer:?}");
    let stranger = "@stranger:elsewhere.example";
    alice.state(&room, "m.room.member", stranger).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn inviting_takes_power_where_the_room_says_so() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    let levels = json!({ "power_level_content_override": { "invite": 50 } });
    let room = alice.create(levels).await;
    alice.invite(&room, &bob).await.ok();
    bob.join(&room).await.ok();
    bob.invite(&room, &carol).await.refused(403, "M_FORBIDDEN");
    alice.invite(&room, &carol).await.ok();
    carol.invite(&room, &bob).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn joining_a_joined_room_makes_no_new_event() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "public_chat", "room_alias_name": "p" })).await;
    bob.join(&room).await.ok();
    let first = bob.state_event(&room, "m.room.member", &bob.id).await["event_id"].clone();
    bob.join(&room).await.ok();
    let by_alias = format!("/join/%23p:{}", town.name());
    assert_eq!(bob.post(&by_alias, json!({})).await.ok()["room_id"], room);
    bob.post_text(&format!("/join/{room}"), "").await.ok();
    bob.post_text(&format!("/rooms/{room}/join"), "").await.ok();
    let member = bob.state(&room, "m.room.member", &bob.id).await.ok();
    bob.set_state(&room, "m.room.member", &bob.id, member).await.ok();
    let second = bob.state_event(&room, "m.room.member", &bob.id).await["event_id"].clone();
    assert!(first.is_string());
    assert_eq!(first, second);
    let missing = bob.post(&format!("/join/%23missing:{}", town.name()), json!({})).await;
    missing.refused(404, "M_NOT_FOUND");
    let missing = bob.post("/join/!none:localhost", json!({})).await;
    assert!(matches!(missing.status, 403 | 404), "{missing:?}");
}

#[tokio::test]
async fn leaving_is_for_those_inside() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    let answer = bob.leave(&room).await;
    assert!(matches!(answer.status, 403 | 404), "{answer:?}");
    bob.join(&room).await.ok();
    let body = json!({ "reason": "bed time" });
    bob.post(&format!("/rooms/{room}/leave"), body).await.ok();
    let member = alice.state(&room, "m.room.member", &bob.id).await.ok();
    assert_eq!(member["membership"], "leave");
    assert_eq!(member["reason"], "bed time");
    assert_eq!(bob.joined_rooms().await, Vec::<String>::new());
    bob.put(&format!("/rooms/{room}/send/m.room.message/1"), text_of("x"))
        .await
        .refused(403, "M_FORBIDDEN");
    bob.join(&room).await.ok();
    bob.post_text(&format!("/rooms/{room}/leave"), "").await.ok();
}

#[tokio::test]
async fn kicking_takes_power_and_a_member() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    for version in ["11", "12"] {
        let room = alice.create(json!({ "preset": "public_chat", "room_version": version })).await;
        let kick = format!("/rooms/{room}/kick");
        bob.join(&room).await.ok();
        bob.post(&kick, json!({ "user_id": alice.id })).await.refused(403, "M_FORBIDDEN");
        alice.post(&kick, json!({ "user_id": carol.id })).await.refused(403, "M_FORBIDDEN");
        let body = json!({ "user_id": bob.id, "reason": "noise" });
        alice.post(&kick, body).await.ok();
        let member = alice.state_event(&room, "m.room.member", &bob.id).await;
        assert_eq!(member["content"]["membership"], "leave");
        assert_eq!(member["content"]["reason"], "noise");
        assert_eq!(member["sender"], alice.id);
        bob.join(&room).await.ok();
        // An invite is taken back like this too.
        alice.invite(&room, &carol).await.ok();
        alice.post(&kick, json!({ "user_id": carol.id })).await.ok();
        assert_eq!(alice.membership(&room, &carol).await, "leave");
        // Equals do not kick each other.
        carol.join(&room).await.ok();
        let mut levels = alice.state(&room, "m.room.power_levels", "").await.ok();
        levels["users"][&bob.id] = json!(50);
        levels["users"][&carol.id] = json!(50);
        alice.set_levels(&room, levels).await.ok();
        bob.post(&kick, json!({ "user_id": carol.id })).await.refused(403, "M_FORBIDDEN");
        alice.post(&kick, json!({})).await.refused(400, "M_BAD_JSON");
    }
}

#[tokio::test]
async fn a_ban_keeps_one_out_until_it_is_lifted() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    let (ban, unban) = (format!("/rooms/{room}/ban"), format!("/rooms/{room}/unban"));
    bob.join(&room).await.ok();
    let target = json!({ "user_id": bob.id, "reason": "noise" });
    carol.post(&ban, target.clone()).await.refused(403, "M_FORBIDDEN");
    bob.post(&ban, json!({ "user_id": alice.id })).await.refused(403, "M_FORBIDDEN");
    alice.post(&unban, target.clone()).await.refused(403, "M_BAD_STATE");
    alice.post(&ban, target.clone()).await.ok();
    let member = alice.state(&room, "m.room.member", &bob.id).await.ok();
    assert_eq!((&member["membership"], &member["reason"]), (&json!("ban"), &json!("noise")));
    bob.join(&room).await.refused(403, "M_FORBIDDEN");
    alice.invite(&room, &bob).await.refused(403, "M_FORBIDDEN");
    bob.leave(&room).await.refused(403, "M_FORBIDDEN");
    alice.post(&format!("/rooms/{room}/kick"), target.clone()).await.refused(403, "M_FORBIDDEN");
    carol.post(&unban, target.clone()).await.refused(403, "M_FORBIDDEN");
    alice.post(&unban, target).await.ok();
    assert_eq!(alice.membership(&room, &bob).await, "leave");
    bob.join(&room).await.ok();
    // One who was never there can be banned.
    alice.post(&ban, json!({ "user_id": carol.id })).await.ok();
    carol.join(&room).await.refused(403, "M_FORBIDDEN");
    alice.post(&ban, json!({ "user_id": "@stranger:elsewhere.example" })).await.ok();
}

#[tokio::test]
async fn members_are_listed_with_filters_and_names() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    let name = json!({ "displayname": "Bob B." });
    bob.put(&format!("/profile/{}/displayname", bob.id), name).await.ok();
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    carol.join(&room).await.ok();
    carol.leave(&room).await.ok();
    for (query, expected) in [
        ("", vec![&alice, &bob, &carol]),
        ("?membership=join", vec![&alice, &bob]),
        ("?membership=leave", vec![&carol]),
        ("?not_membership=join", vec![&carol]),
        ("?membership=ban", vec![]),
        ("?membership=leave&not_membership=leave", vec![&alice, &bob, &carol]),
    ] {
        let mut ids: Vec<&str> = expected.iter().map(|person| person.id.as_str()).collect();
        ids.sort_unstable();
        assert_eq!(alice.members(&room, query).await, ids, "{query}");
    }
    let joined = alice.get(&format!("/rooms/{room}/joined_members")).await.ok();
    assert_eq!(joined["joined"].as_object().unwrap().len(), 2);
    assert_eq!(joined["joined"][&bob.id]["display_name"], "Bob B.");
    let later = json!({ "displayname": "Bobby" });
    bob.put(&format!("/profile/{}/displayname", bob.id), later).await.ok();
    let member = alice.state(&room, "m.room.member", &bob.id).await.ok();
    assert_eq!(member["displayname"], "Bobby");
    assert_eq!(member["membership"], "join");
    carol.get(&format!("/rooms/{room}/joined_members")).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn members_can_be_listed_as_they_were() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    let token = alice.sync(None).await["next_batch"].as_str().unwrap().to_owned();
    bob.join(&room).await.ok();
    assert_eq!(alice.members(&room, "").await.len(), 2);
    assert_eq!(alice.members(&room, &format!("?at={token}")).await, [alice.id.as_str()]);
    let page = alice.messages(&room, "dir=b&limit=1").await.ok();
    let before = page["end"].as_str().unwrap();
    assert_eq!(alice.members(&room, &format!("?at={before}")).await, [alice.id.as_str()]);
}

#[tokio::test]
async fn those_who_left_read_the_room_as_they_left_it() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    let room = alice.create(json!({ "preset": "public_chat", "name": "then" })).await;
    bob.join(&room).await.ok();
    let seen = alice.say(&room, "while bob was here").await;
    let since = bob.sync(None).await["next_batch"].as_str().unwrap().to_owned();
    bob.leave(&room).await.ok();
    alice.set_state(&room, "m.room.name", "", json!({ "name": "now" })).await.ok();
    let unseen = alice.say(&room, "after bob").await;
    carol.join(&room).await.ok();

    assert_eq!(bob.state(&room, "m.room.name", "").await.ok()["name"], "then");
    let all = bob.get(&format!("/rooms/{room}/state")).await.ok();
    let name = all.as_array().unwrap().iter().find(|e| e["type"] == "m.room.name").unwrap();
    assert_eq!(name["content"]["name"], "then");
    let mut both = [alice.id.as_str(), bob.id.as_str()];
    both.sort_unstable();
    assert_eq!(bob.members(&room, "").await, both);
    assert_eq!(bob.membership(&room, &bob).await, "leave");
    let page = bob.messages(&room, "dir=b&limit=2").await.ok();
    assert_eq!(page["chunk"][0]["content"]["membership"], "leave");
    assert_eq!(page["chunk"][1]["event_id"], seen);
    bob.event(&room, &seen).await.ok();
    bob.event(&room, &unseen).await.refused(404, "M_NOT_FOUND");

    let sync = bob.sync(Some(&since)).await;
    let left = &sync["rooms"]["leave"][&room]["timeline"]["events"];
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_eq!(left[0]["state_key"], bob.id);
    assert_eq!(sync["rooms"]["join"].get(&room), None);
    let again = bob.sync(sync["next_batch"].as_str()).await;
    assert_eq!(again["rooms"]["leave"].get(&room), None);
}

#[tokio::test]
async fn only_a_left_room_can_be_forgotten() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    let forget = format!("/rooms/{room}/forget");
    bob.join(&room).await.ok();
    bob.post(&forget, json!({})).await.refused(400, "M_UNKNOWN");
    let since = bob.sync(None).await["next_batch"].as_str().unwrap().to_owned();
    bob.leave(&room).await.ok();
    bob.post(&forget, json!({})).await.ok();
    let page = bob.messages(&room, "dir=b").await;
    assert!(matches!(page.status, 403 | 404), "{page:?}");
    let state = bob.get(&format!("/rooms/{room}/state")).await;
    assert!(matches!(state.status, 403 | 404), "{state:?}");
    let sync = bob.sync(Some(&since)).await;
    assert!(sync["rooms"]["leave"][&room].is_object(), "{sync}");
    bob.join(&room).await.ok();
    bob.messages(&room, "dir=b").await.ok();
    let gone = bob.post("/rooms/!none:localhost/forget", json!({})).await;
    assert!((400..=404).contains(&gone.status), "{gone:?}");
}

#[tokio::test]
async fn a_member_event_can_be_put_as_state_within_the_same_rules() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    let room = alice.create(json!({ "preset": "private_chat" })).await;
    let put = async |who: &Person, whom: &Person, content: Value| {
        who.set_state(&room, "m.room.member", &whom.id, content).await
    };
    let (join, leave) = (json!({ "membership": "join" }), json!({ "membership": "leave" }));
    put(&bob, &bob, join.clone()).await.refused(403, "M_FORBIDDEN");
    put(&alice, &bob, json!({ "membership": "invite" })).await.ok();
    put(&alice, &bob, join.clone()).await.refused(403, "M_FORBIDDEN");
    put(&bob, &bob, json!({ "membership": "join", "displayname": "In disguise" })).await.ok();
    let member = alice.state(&room, "m.room.member", &bob.id).await.ok();
    assert_eq!(member["displayname"], "In disguise");
    assert_eq!(bob.joined_rooms().await, [room.as_str()]);
    put(&bob, &alice, leave.clone()).await.refused(403, "M_FORBIDDEN");
    put(&alice, &bob, json!({ "membership": "ban" })).await.ok();
    put(&bob, &bob, join).await.refused(403, "M_FORBIDDEN");
    put(&alice, &bob, leave.clone()).await.ok();
    assert_eq!(alice.membership(&room, &bob).await, "leave");
    put(&carol, &carol, leave).await.refused(403, "M_FORBIDDEN");
    for bad in [json!({}), json!({ "membership": 5 }), json!({ "membership": "asleep" })] {
        let answer = put(&alice, &alice, bad.clone()).await;
        assert!(matches!(answer.status, 400 | 403), "{bad}: {answer:?}");
    }
    let nobody = json!({ "membership": "ban" });
    let answer = alice.set_state(&room, "m.room.member", "nobody", nobody).await;
    assert!(matches!(answer.status, 400 | 403), "{answer:?}");
}

#[tokio::test]
async fn a_creator_of_version_12_is_above_everybody() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let mut levels = alice.state(&room, "m.room.power_levels", "").await.ok();
    levels["users"][&bob.id] = json!(9_007_199_254_740_991_i64);
    alice.set_levels(&room, levels.clone()).await.ok();
    for what in ["kick", "ban"] {
        bob.post(&format!("/rooms/{room}/{what}"), json!({ "user_id": alice.id }))
            .await
            .refused(403, "M_FORBIDDEN");
    }
    levels["users"][&bob.id] = json!(0);
    alice.set_levels(&room, levels).await.ok();
}
