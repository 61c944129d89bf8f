//! Account data, tags, filters, push rules, presence, capabilities.

use serde_json::{Value, json};

use crate::kit::{self, User, encode};

fn own(user: &User, rest: &str) -> String {
    format!("/_matrix/client/v3/user/{}/{rest}", encode(&user.user_id))
}

fn in_room(user: &User, room: &str, rest: &str) -> String {
    own(user, &format!("rooms/{}/{rest}", encode(room)))
}

#[tokio::test]
async fn account_data_is_ones_own() {
    let mut server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let path = own(&alice, "account_data/org.example.t");
    let (status, answer) = alice.get(&path).await;
    assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")));
    let content = json!({ "a": [1, { "b": null }] });
    alice.do_put(&path, content.clone()).await;
    for (status, answer) in [bob.get(&path).await, bob.put(&path, json!({})).await] {
        assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
    }
    let room_path = in_room(&alice, "!r:localhost", "account_data/org.example.t");
    alice.do_put(&room_path, json!({ "room": true })).await;
    server.restart().await;
    assert_eq!(alice.do_get(&path).await, content);
    assert_eq!(alice.do_get(&room_path).await, json!({ "room": true }));
}

#[tokio::test]
async fn what_the_server_controls_cannot_be_set() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    for kind in ["m.push_rules", "m.fully_read"] {
        for path in [
            own(&alice, &format!("account_data/{kind}")),
            in_room(&alice, "!r:localhost", &format!("account_data/{kind}")),
        ] {
            let (status, answer) = alice.put(&path, json!({})).await;
            assert_eq!((status, &answer["errcode"]), (405, &json!("M_BAD_JSON")), "{path}");
        }
    }
    let (status, answer) = alice.put(&own(&alice, "account_data/t"), json!([1])).await;
    assert_eq!((status, &answer["errcode"]), (400, &json!("M_BAD_JSON")));
    let (status, answer) = alice.put(&in_room(&alice, "noroom", "account_data/t"), json!({})).await;
    assert_eq!((status, &answer["errcode"]), (400, &json!("M_INVALID_PARAM")));
}

#[tokio::test]
async fn account_data_comes_down_the_sync() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let first = alice.sync(None, "timeout=0").await;
    let kinds = |answer: &Value| -> Vec<String> {
        let events = answer["account_data"]["events"].as_array().cloned().unwrap_or_default();
        events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&first), ["m.push_rules"]);
    let mut since = first["next_batch"].as_str().unwrap().to_owned();
    alice.do_put(&own(&alice, "account_data/org.example.t"), json!({ "n": 1 })).await;
    let news = alice.sync_until(&mut since, |answer| !kinds(answer).is_empty()).await;
    assert_eq!(kinds(&news), ["org.example.t"]);
    assert_eq!(kinds(&alice.sync(Some(&since), "timeout=0").await), Vec::<String>::new());
}

#[tokio::test]
async fn tags_are_kept_per_room() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({})).await;
    let tags = in_room(&alice, &room, "tags");
    assert_eq!(alice.do_get(&tags).await, json!({ "tags": {} }));
    alice.do_put(&format!("{tags}/m.favourite"), json!({ "order": 0.25 })).await;
    alice.do_put(&format!("{tags}/u.work"), json!({})).await;
    let expected = json!({ "tags": { "m.favourite": { "order": 0.25 }, "u.work": {} } });
    assert_eq!(alice.do_get(&tags).await, expected);
    alice.do_delete(&format!("{tags}/u.work")).await;
    assert_eq!(alice.do_get(&tags).await, json!({ "tags": { "m.favourite": { "order": 0.25 } } }));
    assert_eq!(bob.get(&tags).await.0, 403);
    let sync = alice.sync(None, "timeout=0").await;
    let events = &sync["rooms"]["join"][&room]["account_data"]["events"];
    assert_eq!(events[0]["content"]["tags"]["m.favourite"]["order"], 0.25, "{events}");
}

#[tokio::test]
async fn filters_are_kept_for_their_owner() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let filter = json!({ "room": { "timeline": { "limit": 7 } }, "event_fields": ["content"] });
    let answer = alice.do_post(&own(&alice, "filter"), filter.clone()).await;
    let filter_id = answer["filter_id"].as_str().unwrap();
    let kept = alice.do_get(&own(&alice, &format!("filter/{filter_id}"))).await;
    assert_eq!(kept, filter);
    assert_eq!(alice.get(&own(&alice, "filter/none")).await.0, 404);
    assert_eq!(bob.post(&own(&alice, "filter"), json!({})).await.0, 403);
    assert_eq!(bob.get(&own(&alice, &format!("filter/{filter_id}"))).await.0, 403);
}

#[tokio::test]
async fn push_rules_begin_with_the_servers_and_can_be_changed() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let all = alice.do_get("/_matrix/client/v3/pushrules/").await;
    assert_eq!(all["global"]["override"][0]["rule_id"], ".m.rule.master", "{all}");
    assert_eq!(alice.do_get("/_matrix/client/v3/pushrules").await, all);
    assert_eq!(alice.do_get("/_matrix/client/r0/pushrules/global/").await, all["global"]);
    let mut since = alice.sync_token().await;
    let path = "/_matrix/client/v3/pushrules/global/content/org.example.word";
    let rule = json!({ "pattern": "word", "actions": ["notify"] });
    alice.do_put(path, rule).await;
    let expected = json!({
        "rule_id": "org.example.word", "pattern": "word", "actions": ["notify"],
        "default": false, "enabled": true,
    });
    assert_eq!(alice.do_get(path).await, expected);
    alice.do_put(&format!("{path}/enabled"), json!({ "enabled": false })).await;
    let enabled = alice.do_get(&format!("{path}/enabled")).await;
    assert_eq!(enabled, json!({ "enabled": false }));
    alice.do_put(&format!("{path}/actions"), json!({ "actions": [] })).await;
    assert_eq!(alice.do_get(&format!("{path}/actions")).await, json!({ "actions": [] }));
    let told = |answer: &Value| answer["account_data"].to_string().contains("org.example.word");
    alice.sync_until(&mut since, told).await;
    alice.do_delete(path).await;
    for (status, answer) in [
        alice.get(path).await,
        alice.delete(path).await,
        alice.put(&format!("{path}/enabled"), json!({ "enabled": true })).await,
    ] {
        assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")));
    }
    let own_rule = json!({ "conditions": [], "actions": [] });
    let (status, _) =
        alice.put("/_matrix/client/v3/pushrules/global/override/.m.rule.x", own_rule).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn presence_of_those_who_never_set_it_is_offline() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let path =
        |user: &User| format!("/_matrix/client/v3/presence/{}/status", encode(&user.user_id));
    let (status, refused) = alice.get(&path(&bob)).await;
    assert_eq!((status, &refused["errcode"]), (403, &json!("M_FORBIDDEN")));
    assert_eq!(alice.do_get(&path(&alice)).await["presence"], "offline");
    let room = bob.create_room(json!({ "preset": "public_chat" })).await;
    alice.join(&room).await;
    let status = alice.do_get(&path(&bob)).await;
    assert_eq!(status["presence"], "offline");
    bob.do_put(&path(&bob), json!({ "presence": "online", "status_msg": "here" })).await;
    let status = alice.do_get(&path(&bob)).await;
    assert_eq!((&status["presence"], &status["status_msg"]), (&json!("online"), &json!("here")));
    assert_eq!(alice.put(&path(&bob), json!({ "presence": "online" })).await.0, 403);
    assert_eq!(alice.put(&path(&alice), json!({ "presence": "dancing" })).await.0, 400);
}

#[tokio::test]
async fn capabilities_say_what_is_true() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let answer = alice.do_get("/_matrix/client/v3/capabilities").await;
    let capabilities = &answer["capabilities"];
    assert_eq!(capabilities["m.room_versions"]["default"], "12", "{answer}");
    assert_eq!(capabilities["m.room_versions"]["available"].as_object().unwrap().len(), 12);
    assert_eq!(capabilities["m.get_login_token"]["enabled"], true);
    assert_eq!(capabilities["m.3pid_changes"]["enabled"], false);
    assert_eq!(capabilities["m.profile_fields"]["enabled"], true);
}
