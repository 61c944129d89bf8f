//! Making rooms: every preset and option of `createRoom`.

use serde_json::{Value, json};

use crate::{
    kit::{refused, server_with},
    rooms_people::{Town, type_keys},
};

#[tokio::test]
async fn each_preset_sets_who_may_join_and_read() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    for (body, join_rule, guest_access) in [
        (json!({ "preset": "private_chat" }), "invite", "can_join"),
        (json!({ "preset": "trusted_private_chat" }), "invite", "can_join"),
        (json!({ "preset": "public_chat" }), "public", "forbidden"),
        (json!({}), "invite", "can_join"),
        (json!({ "visibility": "private" }), "invite", "can_join"),
        (json!({ "visibility": "public" }), "public", "forbidden"),
        (json!({ "visibility": "public", "preset": "private_chat" }), "invite", "can_join"),
    ] {
        let room = alice.create(body.clone()).await;
        let rule = alice.state(&room, "m.room.join_rules", "").await.ok();
        assert_eq!(rule["join_rule"], join_rule, "{body}");
        let history = alice.state(&room, "m.room.history_visibility", "").await.ok();
        assert_eq!(history["history_visibility"], "shared", "{body}");
        let guests = alice.state(&room, "m.room.guest_access", "").await.ok();
        assert_eq!(guests["guest_access"], guest_access, "{body}");
    }
}

#[tokio::test]
async fn the_first_events_come_in_the_specified_order() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice
        .create(json!({
            "preset": "private_chat", "name": "Pond", "topic": "Frogs", "room_alias_name": "pond",
            "invite": [bob.id], "initial_state": [
                { "type": "org.example.depth", "state_key": "m", "content": { "depth": 3 } },
            ],
        }))
        .await;
    let page = alice.messages(&room, "dir=f&limit=50").await.ok();
    let expected = [
        ("m.room.create", ""),
        ("m.room.member", alice.id.as_str()),
        ("m.room.power_levels", ""),
        ("m.room.canonical_alias", ""),
        ("m.room.join_rules", ""),
        ("m.room.history_visibility", ""),
        ("m.room.guest_access", ""),
        ("org.example.depth", "m"),
        ("m.room.name", ""),
        ("m.room.topic", ""),
        ("m.room.member", bob.id.as_str()),
    ];
    assert_eq!(type_keys(&page["chunk"]), expected.map(|(t, k)| (t.to_owned(), k.to_owned())));
}

#[tokio::test]
async fn name_and_topic_become_state() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({ "name": "Pond", "topic": "Frogs only" })).await;
    assert_eq!(alice.state(&room, "m.room.name", "").await.ok(), json!({ "name": "Pond" }));
    let topic = alice.state(&room, "m.room.topic", "").await.ok();
    assert_eq!(topic["topic"], "Frogs only");
    assert_eq!(topic["m.topic"]["m.text"][0]["body"], "Frogs only");
}

#[tokio::test]
async fn initial_state_beats_the_preset_and_loses_to_name_and_topic() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice
        .create(json!({
            "preset": "public_chat", "name": "right", "topic": "right",
            "initial_state": [
                { "type": "m.room.join_rules", "content": { "join_rule": "invite" } },
                { "type": "m.room.history_visibility", "state_key": "",
                  "content": { "history_visibility": "joined" } },
                { "type": "m.room.name", "content": { "name": "wrong" } },
                { "type": "m.room.topic", "content": { "topic": "wrong" } },
                { "type": "m.room.encryption", "content": { "algorithm": "m.megolm.v1.aes-sha2" } },
            ],
        }))
        .await;
    for (kind, field, value) in [
        ("m.room.join_rules", "join_rule", "invite"),
        ("m.room.history_visibility", "history_visibility", "joined"),
        ("m.room.name", "name", "right"),
        ("m.room.topic", "topic", "right"),
        ("m.room.encryption", "algorithm", "m.megolm.v1.aes-sha2"),
        ("m.room.guest_access", "guest_access", "forbidden"),
    ] {
        assert_eq!(alice.state(&room, kind, "").await.ok()[field], value, "{kind}");
    }
}

#[tokio::test]
async fn invitees_are_invited_and_told_that_it_is_direct() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    bob.put(&format!("/profile/{}/displayname", bob.id), json!({ "displayname": "Bob B." }))
        .await
        .ok();
    let room = alice.create(json!({ "invite": [bob.id, carol.id], "is_direct": true })).await;
    for guest in [&bob, &carol] {
        let member = alice.state(&room, "m.room.member", &guest.id).await.ok();
        assert_eq!(member["membership"], "invite");
        assert_eq!(member["is_direct"], true);
        guest.join(&room).await.ok();
    }
    let member = alice.state(&room, "m.room.member", &bob.id).await.ok();
    assert_eq!(member["displayname"], "Bob B.");
    let room = alice.create(json!({ "invite": [bob.id] })).await;
    let member = alice.state(&room, "m.room.member", &bob.id).await.ok();
    assert_ne!(member["is_direct"], true);
}

#[tokio::test]
async fn an_alias_is_made_with_the_room_or_neither_is() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({ "room_alias_name": "pond" })).await;
    let alias = format!("#pond:{}", town.name());
    let found = alice.get(&format!("/directory/room/%23pond:{}", town.name())).await.ok();
    assert_eq!(found["room_id"], room);
    assert_eq!(found["servers"], json!([town.name()]));
    let canonical = alice.state(&room, "m.room.canonical_alias", "").await.ok();
    assert_eq!(canonical["alias"], alias);

    let before = alice.joined_rooms().await;
    alice
        .post("/createRoom", json!({ "room_alias_name": "pond" }))
        .await
        .refused(400, "M_ROOM_IN_USE");
    let odd = alice.post("/createRoom", json!({ "room_alias_name": "po:nd" })).await;
    assert_eq!(odd.status, 400, "{odd:?}");
    let long = alice.post("/createRoom", json!({ "room_alias_name": "p".repeat(255) })).await;
    assert_eq!(long.status, 400, "{long:?}");
    assert_eq!(alice.joined_rooms().await, before);
}

#[tokio::test]
async fn power_levels_can_be_overridden_in_part() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    for version in ["11", "12"] {
        let room = alice
            .create(json!({
                "room_version": version,
                "power_level_content_override": { "events_default": 20, "invite": 60 },
            }))
            .await;
        let levels = alice.state(&room, "m.room.power_levels", "").await.ok();
        assert_eq!(levels["events_default"], 20);
        assert_eq!(levels["invite"], 60);
        assert_eq!(levels["ban"], 50);
        assert_eq!(levels["state_default"], 50);
        assert_eq!(levels["events"]["m.room.history_visibility"], 100);
        let tombstone = if version == "12" { 150 } else { 100 };
        assert_eq!(levels["events"]["m.room.tombstone"], tombstone);
        if version == "11" {
            assert_eq!(levels["users"][&alice.id], 100);
        }
    }
}

#[tokio::test]
async fn creation_content_is_kept_but_for_what_the_server_says() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice
        .create(json!({ "creation_content": {
            "type": "m.space", "m.federate": false, "org.example.x": [1],
            "creator": "@mallory:example.org", "room_version": "2",
        } }))
        .await;
    let create = alice.state(&room, "m.room.create", "").await.ok();
    assert_eq!(create["type"], "m.space");
    assert_eq!(create["m.federate"], false);
    assert_eq!(create["org.example.x"], json!([1]));
    assert_eq!(create["room_version"], "12");
    assert_eq!(create["creator"], Value::Null);
}

#[tokio::test]
async fn rooms_of_all_supported_versions_can_be_made() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    for version in 1..=12 {
        let room = alice.create(json!({ "room_version": version.to_string() })).await;
        let create = alice.state(&room, "m.room.create", "").await.ok();
        assert_eq!(create["room_version"], version.to_string());
        let creator = if version < 11 { json!(alice.id) } else { Value::Null };
        assert_eq!(create["creator"], creator, "version {version}");
        let has_domain = room.contains(':');
        assert_eq!(has_domain, version < 12, "version {version}: {room}");
        alice.say(&room, "hello").await;
    }
    for version in ["0", "99", "org.example.unknown"] {
        alice
            .post("/createRoom", json!({ "room_version": version }))
            .await
            .refused(400, "M_UNSUPPORTED_ROOM_VERSION");
    }
}

#[tokio::test]
async fn a_room_of_version_12_is_named_after_its_create_event() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    let path = format!("/rooms/{room}/state/m.room.create/?format=event");
    let create = alice.get(&path).await.ok();
    assert_eq!(create["event_id"].as_str().unwrap()[1..], room[1..]);
    assert_eq!(create["room_id"], room);
    let levels = alice.state(&room, "m.room.power_levels", "").await.ok();
    assert_eq!(levels["users"].get(&alice.id), None);
}

#[tokio::test]
async fn trusted_invitees_are_as_mighty_as_the_creator() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    let preset =
        json!({ "preset": "trusted_private_chat", "invite": [bob.id], "room_version": "11" });
    let room = alice.create(preset).await;
    let levels = alice.state(&room, "m.room.power_levels", "").await.ok();
    assert_eq!(levels["users"], json!({ &alice.id: 100, &bob.id: 100 }));

    let room = alice
        .create(json!({
            "preset": "trusted_private_chat", "invite": [bob.id],
            "creation_content": { "additional_creators": [carol.id] },
        }))
        .await;
    let create = alice.state(&room, "m.room.create", "").await.ok();
    let mut creators: Vec<&str> = create["additional_creators"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    creators.sort_unstable();
    assert_eq!(creators, [bob.id.as_str(), carol.id.as_str()]);
    let levels = alice.state(&room, "m.room.power_levels", "").await.ok();
    assert_eq!(levels["users"].get(&bob.id), None);
    bob.join(&room).await.ok();
    bob.set_state(&room, "m.room.name", "", json!({ "name": "Bob's too" })).await.ok();
    bob.post(&format!("/rooms/{room}/kick"), json!({ "user_id": alice.id }))
        .await
        .refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn impossible_rooms_are_refused_and_nothing_is_left_of_them() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    for body in [
        json!({ "preset": "no_such_preset" }),
        json!({ "visibility": "glass" }),
        json!({ "invite": ["not a user"] }),
        json!({ "creation_content": { "additional_creators": ["not a user"] } }),
        json!({ "creation_content": { "additional_creators": "@a:b.c" } }),
        json!({ "creation_content": [] }),
        json!({ "power_level_content_override": { "users": { &alice.id: 100 } } }),
        json!({ "power_level_content_override": { "ban": "fifty" } }),
        json!({ "initial_state": [{ "type": "m.room.name" }] }),
        json!({ "initial_state": [{ "type": "m.room.name", "content": { "name": 1.5 } }] }),
        json!({ "initial_state": {} }),
        json!({ "initial_state": [{ "type": "m.room.canonical_alias",
            "content": { "alias": "#nowhere:localhost" } }] }),
        json!({ "name": 5 }),
    ] {
        let answer = alice.post("/createRoom", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
    }
    let by_mail = json!({ "invite_3pid": [{
        "id_server": "id.example.org", "id_access_token": "x", "medium": "email",
        "address": "a@example.org",
    }] });
    let answer = alice.post("/createRoom", by_mail).await;
    assert!(matches!(answer.status, 400 | 403), "{answer:?}");
    assert_eq!(alice.joined_rooms().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_room_is_made_though_the_server_of_an_invited_user_cannot_be_reached() {
    let server = server_with(|config| config.federation.deny = vec!["*".to_owned()]).await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({ "invite": ["@stranger:elsewhere.example"] })).await;
    let invite = alice.get_state(&room, "m.room.member", "@stranger:elsewhere.example").await;
    refused(invite, 404, "M_NOT_FOUND");
}

#[tokio::test]
async fn only_public_visibility_publishes_a_room() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let public = alice.create(json!({ "visibility": "public" })).await;
    let private = alice.create(json!({ "preset": "public_chat" })).await;
    let list = alice.get("/publicRooms").await.ok();
    let listed: Vec<&str> =
        list["chunk"].as_array().unwrap().iter().filter_map(|r| r["room_id"].as_str()).collect();
    assert_eq!(listed, [public.as_str()]);
    for (room, visibility) in [(public, "public"), (private, "private")] {
        let answer = alice.get(&format!("/directory/list/room/{room}")).await.ok();
        assert_eq!(answer["visibility"], visibility);
    }
}
