//! Sending events and setting state: transaction IDs, idempotency, limits, power.

use serde_json::{Value, json};

use crate::rooms_people::{Town, text_of};

#[tokio::test]
async fn a_transaction_id_sent_again_gives_the_same_event() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let phone = town.log_in("alice", None).await;
    let room = alice.create(json!({})).await;
    let other_room = alice.create(json!({})).await;
    let path = format!("/rooms/{room}/send/m.room.message/txn1");
    let first = alice.put(&path, text_of("one")).await.event_id();
    assert_eq!(alice.put(&path, text_of("another body")).await.event_id(), first);
    let elsewhere = format!("/rooms/{other_room}/send/m.room.message/txn1");
    assert_ne!(alice.put(&elsewhere, text_of("one")).await.event_id(), first);
    let other_type = format!("/rooms/{room}/send/org.example.note/txn1");
    assert_ne!(alice.put(&other_type, text_of("one")).await.event_id(), first);
    assert_ne!(phone.put(&path, text_of("one")).await.event_id(), first);
    let event = alice.event(&room, &first).await.ok();
    assert_eq!(event["content"]["body"], "one");
}

#[tokio::test]
async fn transaction_ids_outlive_a_restart_and_a_new_login_on_the_device() {
    let mut town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    let path = format!("/rooms/{room}/send/m.room.message/txn1");
    let first = alice.put(&path, text_of("one")).await.event_id();
    town.restart().await;
    assert_eq!(alice.put(&path, text_of("one")).await.event_id(), first);
    let again = town.log_in("alice", Some(&alice.user.device_id)).await;
    assert_eq!(again.put(&path, text_of("one")).await.event_id(), first);
    let other = town.log_in("alice", None).await;
    assert_ne!(other.put(&path, text_of("one")).await.event_id(), first);
}

#[tokio::test]
async fn only_the_sending_device_sees_its_transaction_id() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let phone = town.log_in("alice", None).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let path = format!("/rooms/{room}/send/m.room.message/t-7");
    let id = alice.put(&path, text_of("one")).await.event_id();
    for (reader, expected) in [(&alice, json!("t-7")), (&phone, Value::Null), (&bob, Value::Null)] {
        let event = reader.event(&room, &id).await.ok();
        assert_eq!(event["unsigned"]["transaction_id"], expected);
        let page = reader.messages(&room, "dir=b&limit=1").await.ok();
        assert_eq!(page["chunk"][0]["event_id"], id);
        assert_eq!(page["chunk"][0]["unsigned"]["transaction_id"], expected);
        let context = reader.get(&format!("/rooms/{room}/context/{id}")).await.ok();
        assert_eq!(context["event"]["unsigned"]["transaction_id"], expected);
        let sync = reader.sync(None).await;
        let event = sync["rooms"]["join"][&room]["timeline"]["events"]
            .as_array()
            .unwrap()
            .iter()
            .find(|event| event["event_id"] == id)
            .unwrap();
        assert_eq!(event["unsigned"]["transaction_id"], expected);
    }
}

#[tokio::test]
async fn those_outside_cannot_send() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "private_chat" })).await;
    let message = format!("/rooms/{room}/send/m.room.message/1");
    bob.put(&message, text_of("hi")).await.refused(403, "M_FORBIDDEN");
    bob.set_state(&room, "m.room.name", "", json!({})).await.refused(403, "M_FORBIDDEN");
    alice.invite(&room, &bob).await.ok();
    bob.put(&message, text_of("hi")).await.refused(403, "M_FORBIDDEN");
    let nowhere = bob.put("/rooms/!none:localhost/send/m.room.message/1", text_of("hi")).await;
    assert!(matches!(nowhere.status, 403 | 404), "{nowhere:?}");
}

#[tokio::test]
async fn bodies_that_are_no_event_content_are_refused() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    for path in [
        format!("/rooms/{room}/send/m.room.message/x"),
        format!("/rooms/{room}/state/org.example.x/y"),
    ] {
        for body in ["[]", "\"text\"", "5", "null", "true"] {
            alice.put_text(&path, body).await.refused(400, "M_BAD_JSON");
        }
        for body in ["{", "{} trailing", "{'a': 1}", "{\"a\": \"\u{1}\"}"] {
            alice.put_text(&path, body).await.refused(400, "M_NOT_JSON");
        }
        alice.put_bytes(&path, b"{\"body\": \"\xff\xfe\"}").await.refused(400, "M_NOT_JSON");
        for body in ["{\"a\": 1.5}", "{\"a\": 9007199254740992}", "{\"a\": [1e300]}"] {
            alice.put_text(&path, body).await.refused(400, "M_BAD_JSON");
        }
        let long = json!({ "body": "x".repeat(65 * 1024) });
        alice.put(&path, long).await.refused(413, "M_TOO_LARGE");
        alice
            .put(&path, json!({ "body": "x".repeat(60_000), "n": 9_007_199_254_740_991_i64 }))
            .await
            .ok();
    }
    let long_type = format!("/rooms/{room}/send/{}/y", "t".repeat(256));
    let answer = alice.put(&long_type, json!({})).await;
    assert!(matches!(answer.status, 400 | 413), "{answer:?}");
    let long_key = format!("/rooms/{room}/state/org.example.x/{}", "k".repeat(256));
    let answer = alice.put(&long_key, json!({})).await;
    assert!(matches!(answer.status, 400 | 413), "{answer:?}");
}

#[tokio::test]
async fn the_same_state_set_again_gives_the_same_event() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    let one = json!({ "a": 1, "b": { "c": [1, 2] } });
    let first = alice.set_state(&room, "org.example.x", "k", one.clone()).await.event_id();
    let same = alice.set_state(&room, "org.example.x", "k", one.clone()).await.event_id();
    assert_eq!(first, same);
    let path = format!("/rooms/{room}/state/org.example.x/k");
    let reordered = alice.put_text(&path, r#"{"b":{"c":[1,2]},"a":1}"#).await;
    assert_eq!(reordered.event_id(), first);
    let second = alice.set_state(&room, "org.example.x", "k", json!({ "a": 2 })).await.event_id();
    assert_ne!(second, first);
    let third = alice.set_state(&room, "org.example.x", "k", one).await.event_id();
    assert_ne!(third, first);
    let event = alice.event(&room, &third).await.ok();
    assert_eq!(event["unsigned"]["prev_content"], json!({ "a": 2 }));
    assert_eq!(event["unsigned"]["replaces_state"], second);
    let other_key =
        alice.set_state(&room, "org.example.x", "j", json!({ "a": 2 })).await.event_id();
    assert_ne!(other_key, second);
}

#[tokio::test]
async fn state_can_be_set_and_read_with_every_spelling_of_an_empty_key() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    for (n, path) in ["/state/org.example.x", "/state/org.example.x/"].iter().enumerate() {
        let path = format!("/rooms/{room}{path}");
        alice.put(&path, json!({ "n": n })).await.ok();
        for read in ["/state/org.example.x", "/state/org.example.x/"] {
            let content = alice.get(&format!("/rooms/{room}{read}")).await.ok();
            assert_eq!(content, json!({ "n": n }));
        }
    }
    let event = alice.get(&format!("/rooms/{room}/state/org.example.x?format=event")).await.ok();
    assert_eq!(event["type"], "org.example.x");
    assert_eq!(event["state_key"], "");
    assert_eq!(event["sender"], alice.id);
    assert_eq!(event["room_id"], room);
    assert_eq!(event["content"], json!({ "n": 1 }));
    assert!(event["event_id"].is_string() && event["origin_server_ts"].is_u64());
    let odd = alice.get(&format!("/rooms/{room}/state/org.example.x?format=thing")).await;
    assert_eq!(odd.status, 400, "{odd:?}");
    alice.state(&room, "org.example.x", "none").await.refused(404, "M_NOT_FOUND");
    let odd_key = "a/b c%ä@:#";
    alice.set_state(&room, "org.example.x", odd_key, json!({ "odd": true })).await.ok();
    assert_eq!(alice.state(&room, "org.example.x", odd_key).await.ok(), json!({ "odd": true }));
    let all = alice.get(&format!("/rooms/{room}/state")).await.ok();
    let ours = all.as_array().unwrap().iter().filter(|e| e["type"] == "org.example.x");
    assert_eq!(ours.count(), 2);
}

#[tokio::test]
async fn state_of_another_user_cannot_be_set() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({})).await;
    alice.set_state(&room, "org.example.x", &bob.id, json!({})).await.refused(403, "M_FORBIDDEN");
    alice.set_state(&room, "org.example.x", &alice.id, json!({})).await.ok();
    alice.set_state(&room, "m.room.create", "", json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn power_is_needed_for_what_needs_power() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    for version in ["11", "12"] {
        let room = alice.create(json!({ "preset": "public_chat", "room_version": version })).await;
        bob.join(&room).await.ok();
        carol.join(&room).await.ok();
        let name = json!({ "name": "Bob's" });
        bob.set_state(&room, "m.room.name", "", name.clone()).await.refused(403, "M_FORBIDDEN");
        let mut levels = alice.state(&room, "m.room.power_levels", "").await.ok();
        levels["users"][&bob.id] = json!(50);
        levels["events"]["org.example.loud"] = json!(60);
        bob.set_levels(&room, levels.clone()).await.refused(403, "M_FORBIDDEN");
        alice.set_levels(&room, levels.clone()).await.ok();
        bob.set_state(&room, "m.room.name", "", name).await.ok();
        let loud = format!("/rooms/{room}/send/org.example.loud/1");
        bob.put(&loud, json!({})).await.refused(403, "M_FORBIDDEN");
        alice.put(&loud, json!({})).await.ok();

        levels["events"]["m.room.power_levels"] = json!(50);
        alice.set_levels(&room, levels.clone()).await.ok();
        for (path, level) in [("users", 60), ("users", 100)] {
            let mut higher = levels.clone();
            higher[path][&carol.id] = json!(level);
            bob.set_levels(&room, higher).await.refused(403, "M_FORBIDDEN");
        }
        let mut equal = levels.clone();
        equal["users"][&carol.id] = json!(50);
        bob.set_levels(&room, equal.clone()).await.ok();
        equal["users"][&carol.id] = json!(0);
        bob.set_levels(&room, equal).await.refused(403, "M_FORBIDDEN");
        levels["events_default"] = json!(40);
        alice.set_levels(&room, levels).await.ok();
        carol
            .put(&format!("/rooms/{room}/send/m.room.message/1"), text_of("hi"))
            .await
            .refused(403, "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn power_levels_must_be_well_formed() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    for bad in [
        json!({ "ban": "50" }),
        json!({ "users": { &alice.id: 100 } }),
        json!({ "users": { "not a user": 1 } }),
        json!({ "users": [] }),
        json!({ "events": { "m.room.name": true } }),
    ] {
        let answer = alice.set_levels(&room, bad.clone()).await;
        assert!(matches!(answer.status, 400 | 403), "{bad}: {answer:?}");
    }
}

#[tokio::test]
async fn canonical_aliases_must_point_to_the_room() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    let other = alice.create(json!({ "room_alias_name": "other" })).await;
    alice.put_alias("mine", &room).await.ok();
    let (mine, others, missing) = (town.alias("mine"), town.alias("other"), town.alias("missing"));
    assert_ne!(room, other);
    let set = |content: Value| alice.set_state(&room, "m.room.canonical_alias", "", content);
    set(json!({ "alias": missing })).await.refused(400, "M_BAD_ALIAS");
    set(json!({ "alias": others })).await.refused(400, "M_BAD_ALIAS");
    set(json!({ "alias": mine, "alt_aliases": [missing] })).await.refused(400, "M_BAD_ALIAS");
    set(json!({ "alias": "no alias" })).await.refused(400, "M_INVALID_PARAM");
    set(json!({ "alt_aliases": ["no alias"] })).await.refused(400, "M_INVALID_PARAM");
    set(json!({ "alias": mine, "alt_aliases": [mine] })).await.ok();
    // What is there already may stay, even where the alias is gone by now.
    alice.delete(&format!("/directory/room/%23mine:{}", town.name())).await.ok();
    set(json!({})).await.ok();
}

#[tokio::test]
async fn events_keep_the_order_in_which_they_were_sent() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    let mut sent = Vec::new();
    for n in 0..20 {
        sent.push(alice.say(&room, &n.to_string()).await);
    }
    let page = alice.messages(&room, "dir=b&limit=20").await.ok();
    let mut read: Vec<String> = page["chunk"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event_id"].as_str().unwrap().to_owned())
        .collect();
    read.reverse();
    assert_eq!(read, sent);
}

#[tokio::test]
async fn odd_names_and_texts_are_kept_or_refused_but_break_nothing() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    for name in ["a\u{0}b", "\n", "🐸", "a/../b", "%2F", "é", " ", "a?b=c&d", "{x}"] {
        let content = json!({ "name": name });
        let answer = alice.set_state(&room, "org.example.odd", name, content.clone()).await;
        if answer.status == 200 {
            assert_eq!(alice.state(&room, "org.example.odd", name).await.ok(), content);
        } else {
            assert_eq!(answer.status, 400, "{name:?}: {answer:?}");
        }
        let answer = alice.set_state(&room, &format!("odd.{name}"), "", content.clone()).await;
        if answer.status == 200 {
            assert_eq!(alice.state(&room, &format!("odd.{name}"), "").await.ok(), content);
        } else {
            assert_eq!(answer.status, 400, "{name:?}: {answer:?}");
        }
    }
    let long = "k".repeat(255);
    alice.set_state(&room, "org.example.odd", &long, json!({})).await.ok();
    let path = format!("/rooms/{room}/send/org.example.odd");
    for (n, text) in [
        r#"{"a":1,"a":2}"#,
        r#"{"a":"\u0000\u0007\u007f"}"#,
        r#"{"a":"\ud83d\ude00","b":"\/"}"#,
        r#" { "b" : [ ] , "a" : { } } "#,
        r#"{"a":-9007199254740991}"#,
        r#"{"":""}"#,
        r#"{"room_id":"!x:y","sender":"@x:y","type":"t","event_id":"$x"}"#,
    ]
    .iter()
    .enumerate()
    {
        let event_id = alice.put_text(&format!("{path}/ok{n}"), text).await.event_id();
        let event = alice.event(&room, &event_id).await.ok();
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(event["content"], expected, "{text}");
        assert_eq!(event["sender"], alice.id, "{text}");
    }
    for (n, text) in
        [r#"{"a":"\ud800"}"#, r#"{"a":-0}"#, r#"{"a":1e2}"#, r#"{"a":1.0}"#].iter().enumerate()
    {
        alice.put_text(&format!("{path}/bad{n}"), text).await.refused(400, "M_BAD_JSON");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    alice.put_text(&format!("{path}/deep"), &deep).await.refused(400, "M_BAD_JSON");
    alice.messages(&room, "dir=b&limit=100").await.ok();
    alice.sync(None).await;
}
