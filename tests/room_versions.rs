//! One suite of room tests for every room version, over HTTP; and what was stored, against ruma.

mod proof;
mod words;

use ruma::{RoomVersionId, room_version_rules::RoomVersionRules};
use serde_json::{Value, json};

use self::words::{
    event, event_id, forbidden, full_state, knock, ok, redact, refused, state_event,
};
use crate::kit::{TestServer, User, server};

/// Runs each of the tests in rooms of each version.
macro_rules! in_every_version {
    ($($test:ident),+ $(,)?) => {
        in_every_version!(@ [$($test)+] v1 v2 v3 v4 v5 v6 v7 v8 v9 v10 v11 v12);
    };
    (@ $tests:tt $($version:ident)+) => {
        $(in_every_version!(@@ $version $tests);)+
    };
    (@@ $version:ident [$($test:ident)+]) => {
        mod $version {
            $(
                #[tokio::test]
                async fn $test() {
                    let version = stringify!($version).trim_start_matches('v');
                    super::$test(super::Suite::start(version).await).await;
                }
            )+
        }
    };
}

in_every_version!(
    a_room_is_created_in_the_form_of_its_version,
    events_are_sent_and_found_again,
    state_is_set_and_kept,
    power_levels_are_obeyed,
    creators_have_the_rank_of_their_version,
    members_come_and_go,
    knocking_follows_the_version,
    restricted_joins_follow_the_version,
    redaction_keeps_what_the_version_keeps,
    what_is_stored_is_right,
);

/// A server, two users, and the version of the rooms that are made.
struct Suite {
    server: TestServer,
    alice: User,
    bob: User,
    version: u32,
    rules: RoomVersionRules,
}

impl Suite {
    async fn start(version: &str) -> Self {
        let server = server().await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let rules = RoomVersionId::try_from(version).unwrap().rules().unwrap();
        Self { server, alice, bob, version: version.parse().unwrap(), rules }
    }

    /// A room of Alice's in the suite's version.
    async fn room(&self, mut body: Value) -> String {
        body["room_version"] = json!(self.version.to_string());
        self.alice.create_room(body).await
    }

    /// A public room with Bob in it.
    async fn shared_room(&self) -> String {
        let room = self.room(json!({ "preset": "public_chat" })).await;
        self.bob.join(&room).await;
        room
    }
}

async fn a_room_is_created_in_the_form_of_its_version(suite: Suite) {
    let Suite { alice, version, .. } = &suite;
    let room = suite.room(json!({ "name": "Pond", "topic": "Frogs" })).await;
    let create = state_event(alice, &room, "m.room.create", "").await;
    let create_id = create["event_id"].as_str().unwrap();
    assert_eq!(create["content"]["room_version"], version.to_string());
    assert_eq!(create["sender"], alice.user_id);
    assert_eq!(create["room_id"], room);
    let creator = create["content"].get("creator");
    assert_eq!(creator, (*version < 11).then(|| json!(alice.user_id)).as_ref());
    if *version >= 12 {
        assert_eq!(create_id[1..], room[1..]);
        assert!(!room.contains(':'));
    } else {
        assert!(room.ends_with(":localhost"), "{room}");
    }
    let kinds: Vec<Value> =
        full_state(alice, &room).await.into_iter().map(|event| event["type"].clone()).collect();
    for kind in ["create", "member", "power_levels", "join_rules", "history_visibility"] {
        let kind = format!("m.room.{kind}");
        assert!(kinds.contains(&json!(kind)), "{kind} is not in {kinds:?}");
    }
    let levels = ok(alice.get_state(&room, "m.room.power_levels", "").await);
    let own = levels["users"].get(&alice.user_id);
    assert_eq!(own, (*version < 12).then(|| json!(100)).as_ref(), "{levels}");
    let capabilities = alice.do_get("/_matrix/client/v3/capabilities").await;
    let versions = &capabilities["capabilities"]["m.room_versions"];
    assert_eq!(versions["available"][version.to_string()], "stable", "{versions}");
    assert_eq!(versions["default"], "12");
}

async fn events_are_sent_and_found_again(suite: Suite) {
    let Suite { alice, bob, version, .. } = &suite;
    let room = suite.shared_room().await;
    let content = json!({ "msgtype": "m.text", "body": "ribbit", "nested": { "a": [1, null] } });
    let first = event_id(alice.send(&room, "m.room.message", "t1", content.clone()).await);
    let again = event_id(alice.send(&room, "m.room.message", "t1", json!({ "body": "x" })).await);
    assert_eq!(first, again, "a transaction makes one event");
    let opaque = first.strip_prefix('$').unwrap();
    let hash = match *version {
        1 | 2 => opaque.strip_suffix(":localhost").unwrap(),
        _ => opaque,
    };
    assert_eq!(hash.len(), 43, "{first}");
    let others = if *version == 3 { "+/" } else { "-_" };
    let allowed = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    assert!(hash.chars().all(allowed), "{first}");
    let shown = event(bob, &room, &first).await;
    assert_eq!(shown["content"], content);
    assert_eq!(shown["type"], "m.room.message");
    assert_eq!(shown["room_id"], room);
    assert!(shown.get("auth_events").is_none() && shown.get("hashes").is_none(), "{shown}");
    let mut since = bob.sync_token().await;
    let second = alice.say(&room, "croak").await;
    let answer = bob.sync_until(&mut since, |answer| answer["rooms"]["join"].is_object()).await;
    let events = &answer["rooms"]["join"][&room]["timeline"]["events"];
    assert_eq!(events[0]["event_id"], second, "{answer}");
    for content in [json!({ "body": 1.5 }), json!({ "body": 9_007_199_254_740_992_i64 })] {
        let (status, body) = bob.send(&room, "m.room.message", "bad", content).await;
        assert_eq!((status, &body["errcode"]), (400, &json!("M_BAD_JSON")), "{body}");
    }
}

async fn state_is_set_and_kept(suite: Suite) {
    let Suite { alice, bob, .. } = &suite;
    let room = suite.shared_room().await;
    let first = event_id(alice.put_state(&room, "m.room.topic", "", json!({ "topic": "a" })).await);
    let again = event_id(alice.put_state(&room, "m.room.topic", "", json!({ "topic": "a" })).await);
    assert_eq!(first, again, "the same state is the same event");
    let second =
        event_id(alice.put_state(&room, "m.room.topic", "", json!({ "topic": "b" })).await);
    assert_eq!(ok(bob.get_state(&room, "m.room.topic", "").await)["topic"], "b");
    let shown = event(bob, &room, &second).await;
    assert_eq!(shown["unsigned"]["prev_content"], json!({ "topic": "a" }));
    assert_eq!(shown["unsigned"]["replaces_state"], first);
    forbidden(bob.put_state(&room, "m.room.topic", "", json!({ "topic": "c" })).await);
    let theirs = format!("{}_", alice.user_id);
    refused(bob.put_state(&room, "org.example", &theirs, json!({})).await);
}

async fn power_levels_are_obeyed(suite: Suite) {
    let Suite { alice, bob, version, .. } = &suite;
    let room = suite.shared_room().await;
    let levels = ok(alice.get_state(&room, "m.room.power_levels", "").await);
    let with = |user: &User, level: Value| {
        let mut levels = levels.clone();
        levels["users"][&user.user_id] = level;
        levels
    };
    forbidden(bob.put_state(&room, "m.room.power_levels", "", with(bob, json!(50))).await);
    ok(alice.put_state(&room, "m.room.power_levels", "", with(bob, json!(50))).await);
    ok(bob.put_state(&room, "m.room.name", "", json!({ "name": "Bob's" })).await);
    forbidden(bob.put_state(&room, "m.room.power_levels", "", with(bob, json!(60))).await);
    let carol = suite.server.register("carol").await;
    let mut more = with(bob, json!(50));
    more["users"][&carol.user_id] = json!(51);
    forbidden(bob.put_state(&room, "m.room.power_levels", "", more).await);
    if *version >= 10 {
        refused(alice.put_state(&room, "m.room.power_levels", "", with(bob, json!("50"))).await);
    }
    let mut strict = with(bob, json!(50));
    strict["events_default"] = json!(70);
    ok(alice.put_state(&room, "m.room.power_levels", "", strict).await);
    forbidden(bob.send(&room, "m.room.message", "t", json!({ "body": "hush" })).await);
    alice.say(&room, "I may").await;
}

async fn creators_have_the_rank_of_their_version(suite: Suite) {
    let Suite { alice, bob, version, .. } = &suite;
    let room = suite.shared_room().await;
    let mut levels = ok(alice.get_state(&room, "m.room.power_levels", "").await);
    levels["users"][&bob.user_id] = json!(100);
    ok(alice.put_state(&room, "m.room.power_levels", "", levels.clone()).await);
    let kick = |user: &User| json!({ "user_id": user.user_id });
    forbidden(bob.room_post(&room, "kick", kick(alice)).await);
    levels["users"][&alice.user_id] = json!(100);
    let set = alice.put_state(&room, "m.room.power_levels", "", levels).await;
    if *version < 12 {
        ok(set);
        forbidden(alice.room_post(&room, "kick", kick(bob)).await);
        return;
    }
    refused(set);
    ok(alice.room_post(&room, "kick", kick(bob)).await);
    let body = json!({
        "preset": "public_chat", "creation_content": { "additional_creators": [bob.user_id] },
    });
    let room = suite.room(body).await;
    bob.join(&room).await;
    ok(bob.put_state(&room, "m.room.name", "", json!({ "name": "ours" })).await);
    forbidden(alice.room_post(&room, "kick", kick(bob)).await);
    let bad = json!({
        "room_version": "12", "creation_content": { "additional_creators": ["nobody"] },
    });
    refused(alice.post("/_matrix/client/v3/createRoom", bad).await);
}

async fn members_come_and_go(suite: Suite) {
    let Suite { alice, bob, .. } = &suite;
    let room = suite.room(json!({ "preset": "private_chat" })).await;
    let who = json!({ "user_id": bob.user_id });
    forbidden(bob.room_post(&room, "join", json!({})).await);
    alice.invite(&room, bob).await;
    bob.join(&room).await;
    bob.say(&room, "here").await;
    forbidden(bob.room_post(&room, "kick", json!({ "user_id": alice.user_id })).await);
    ok(alice.room_post(&room, "kick", who.clone()).await);
    forbidden(bob.room_post(&room, "join", json!({})).await);
    alice.invite(&room, bob).await;
    bob.leave(&room).await;
    ok(alice.room_post(&room, "ban", who.clone()).await);
    refused(alice.room_post(&room, "invite", who.clone()).await);
    forbidden(bob.room_post(&room, "join", json!({})).await);
    ok(alice.room_post(&room, "unban", who).await);
    alice.invite(&room, bob).await;
    bob.join(&room).await;
    let member = ok(alice.get_state(&room, "m.room.member", &bob.user_id).await);
    assert_eq!(member["membership"], "join");
}

async fn knocking_follows_the_version(suite: Suite) {
    let Suite { alice, bob, rules, .. } = &suite;
    let room = suite.room(json!({ "preset": "private_chat" })).await;
    forbidden(knock(bob, &room).await);
    let set =
        alice.put_state(&room, "m.room.join_rules", "", json!({ "join_rule": "knock" })).await;
    if !rules.authorization.knocking {
        refused(knock(bob, &room).await);
        return;
    }
    ok(set);
    forbidden(bob.room_post(&room, "join", json!({})).await);
    ok(knock(bob, &room).await);
    let member = ok(alice.get_state(&room, "m.room.member", &bob.user_id).await);
    assert_eq!(member["membership"], "knock");
    alice.invite(&room, bob).await;
    bob.join(&room).await;
}

async fn restricted_joins_follow_the_version(suite: Suite) {
    let Suite { alice, bob, rules, .. } = &suite;
    let lobby = suite.room(json!({ "preset": "public_chat" })).await;
    for (rule, supported) in [
        ("restricted", rules.authorization.restricted_join_rule),
        ("knock_restricted", rules.authorization.knock_restricted_join_rule),
    ] {
        let room = suite.room(json!({ "preset": "private_chat" })).await;
        let allow = json!([{ "type": "m.room_membership", "room_id": lobby }]);
        let content = json!({ "join_rule": rule, "allow": allow });
        let set = alice.put_state(&room, "m.room.join_rules", "", content).await;
        if !supported {
            bob.join(&lobby).await;
            refused(bob.room_post(&room, "join", json!({})).await);
            bob.leave(&lobby).await;
            continue;
        }
        ok(set);
        forbidden(bob.room_post(&room, "join", json!({})).await);
        if rule == "knock_restricted" {
            ok(knock(bob, &room).await);
        } else {
            refused(knock(bob, &room).await);
        }
        bob.join(&lobby).await;
        bob.join(&room).await;
        let member = ok(alice.get_state(&room, "m.room.member", &bob.user_id).await);
        assert_eq!(member["join_authorised_via_users_server"], alice.user_id, "{member}");
        bob.leave(&lobby).await;
    }
}

async fn redaction_keeps_what_the_version_keeps(suite: Suite) {
    let Suite { alice, bob, version, .. } = &suite;
    let room = suite.shared_room().await;
    let message = bob.say(&room, "oops").await;
    let redaction = event_id(redact(bob, &room, &message).await);
    let shown = event(alice, &room, &message).await;
    assert_eq!(shown["content"], json!({}));
    assert_eq!(shown["unsigned"]["redacted_because"]["event_id"], redaction);
    let shown = event(alice, &room, &redaction).await;
    assert_eq!(shown["redacts"], message);
    assert_eq!(shown["content"], json!({ "redacts": message, "reason": "oops" }));
    forbidden(redact(bob, &room, &alice.say(&room, "mine").await).await);

    let since = |first: u32, field: &str, value: Value| match *version >= first {
        true => json!({ field: value }),
        false => json!({}),
    };
    let users = match *version >= 12 {
        true => json!({ bob.user_id.as_str(): 50 }),
        false => json!({ alice.user_id.as_str(): 100, bob.user_id.as_str(): 50 }),
    };
    let allow = json!([{ "type": "m.room_membership", "room_id": room }]);
    for (kind, key, content, kept, kept_since) in [
        ("m.room.topic", "", json!({ "topic": "x" }), json!({}), json!({})),
        (
            "m.room.member",
            alice.user_id.as_str(),
            json!({ "membership": "join", "displayname": "Al" }),
            json!({ "membership": "join" }),
            json!({}),
        ),
        (
            "m.room.join_rules",
            "",
            json!({ "join_rule": "public", "allow": allow }),
            json!({ "join_rule": "public" }),
            since(8, "allow", allow.clone()),
        ),
        (
            "m.room.history_visibility",
            "",
            json!({ "history_visibility": "joined", "x": 1 }),
            json!({ "history_visibility": "joined" }),
            json!({}),
        ),
        (
            "m.room.power_levels",
            "",
            json!({ "users": users, "invite": 3, "notifications": { "room": 20 } }),
            json!({ "users": users }),
            since(11, "invite", json!(3)),
        ),
    ] {
        let id = event_id(alice.put_state(&room, kind, key, content).await);
        ok(redact(alice, &room, &id).await);
        let mut expected = kept;
        expected.as_object_mut().unwrap().extend(kept_since.as_object().unwrap().clone());
        assert_eq!(event(alice, &room, &id).await["content"], expected, "{kind}");
    }
    bob.say(&room, "and the room goes on").await;
}

async fn what_is_stored_is_right(mut suite: Suite) {
    let room = suite.shared_room().await;
    let private = suite.room(json!({ "preset": "private_chat", "name": "Pond" })).await;
    let Suite { alice, bob, .. } = &suite;
    for number in 0..10 {
        bob.say(&room, &format!("message {number}")).await;
    }
    let gone = bob.say(&room, "gone").await;
    ok(redact(alice, &room, &gone).await);
    alice.invite(&private, bob).await;
    bob.join(&private).await;
    ok(alice.room_post(&private, "ban", json!({ "user_id": bob.user_id })).await);
    let rooms = [room, private];
    proof::check(&mut suite, &rooms).await;
}
