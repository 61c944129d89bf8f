//! What rooms look like from outside: spaces, summaries, and events by their time.

use serde_json::{Value, json};

use crate::kit::{User, refused, server};

/// Makes a room, published to nobody, and names it.
async fn room(owner: &User, name: &str, extra: Value) -> String {
    let mut body = json!({ "name": name });
    if let (Some(body), Value::Object(extra)) = (body.as_object_mut(), extra) {
        body.extend(extra);
    }
    owner.create_room(body).await
}

async fn put_child(owner: &User, space: &str, child: &str, content: Value) {
    owner.put_state(space, "m.space.child", child, content).await;
}

fn names(page: &Value) -> Vec<&str> {
    page["rooms"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap_or("")).collect()
}

#[tokio::test]
async fn a_space_is_walked_depth_first_and_page_by_page() {
    let server = server().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let space = json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } });
    let open = json!({ "preset": "public_chat" });
    let top = room(&alice, "top", space.clone()).await;
    let inner = room(&alice, "inner", space).await;
    let deep = room(&alice, "deep", open.clone()).await;
    let last = room(&alice, "last", open).await;
    let secret = room(&alice, "secret", json!({})).await;
    let via = json!(["localhost"]);
    put_child(&alice, &top, &last, json!({ "via": via, "order": "b" })).await;
    put_child(&alice, &top, &inner, json!({ "via": via, "order": "a", "suggested": true })).await;
    put_child(&alice, &top, &secret, json!({ "via": via, "order": "c" })).await;
    put_child(&alice, &inner, &deep, json!({ "via": via })).await;
    put_child(&alice, &inner, &top, json!({ "via": via })).await;

    let path = format!("/_matrix/client/v1/rooms/{}/hierarchy", crate::kit::encode(&top));
    let all = alice.do_get(&path).await;
    assert_eq!(names(&all), ["top", "inner", "deep", "last", "secret"]);
    assert_eq!(all["rooms"][0]["children_state"].as_array().unwrap().len(), 3);
    let seen = bob.do_get(&path).await;
    assert_eq!(names(&seen), ["top", "inner", "deep", "last"]);
    let shallow = bob.do_get(&format!("{path}?max_depth=1")).await;
    assert_eq!(names(&shallow), ["top", "inner", "last"]);
    let suggested = bob.do_get(&format!("{path}?suggested_only=true")).await;
    assert_eq!(names(&suggested), ["top", "inner"]);

    let first = bob.do_get(&format!("{path}?limit=2")).await;
    assert_eq!(names(&first), ["top", "inner"]);
    let token = first["next_batch"].as_str().unwrap();
    let second = bob.do_get(&format!("{path}?limit=2&from={token}")).await;
    assert_eq!(names(&second), ["deep", "last"]);
    let again = bob.do_get(&format!("{path}?limit=2&from={token}")).await;
    assert_eq!(names(&again), ["deep", "last"], "a page may be asked for again");
    refused(bob.get(&format!("{path}?from=nonsense")).await, 400, "M_INVALID_PARAM");
    let secret = format!("/_matrix/client/v1/rooms/{}/hierarchy", crate::kit::encode(&secret));
    refused(bob.get(&secret).await, 403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_summary_is_told_to_those_who_might_join() {
    let server = server().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let open = json!({ "preset": "public_chat", "room_alias_name": "pond", "topic": "toads" });
    let pond = room(&alice, "pond", open).await;
    let closed = room(&alice, "closed", json!({})).await;
    let path = |room: &str| format!("/_matrix/client/v1/room_summary/{}", crate::kit::encode(room));

    let told = bob.do_get(&path("#pond:localhost")).await;
    assert_eq!(told["room_id"], pond.as_str());
    assert_eq!(told["topic"], "toads");
    assert_eq!(told["num_joined_members"], 1);
    // Left out, it is `public`.
    assert!(told.get("join_rule").is_none_or(|rule| rule == "public"), "{told}");
    assert_eq!(told["room_version"], "12");
    assert_eq!(told.get("membership"), None);
    let told = alice.do_get(&path(&pond)).await;
    assert_eq!(told["membership"], "join");
    server.client().do_get(&path(&pond)).await;

    refused(bob.get(&path(&closed)).await, 404, "M_NOT_FOUND");
    refused(server.client().get(&path(&closed)).await, 404, "M_NOT_FOUND");
    alice.invite(&closed, &bob).await;
    assert_eq!(bob.do_get(&path(&closed)).await["membership"], "invite");
    refused(bob.get(&path("#none:localhost")).await, 404, "M_NOT_FOUND");
}

#[tokio::test]
async fn an_event_is_found_by_its_time() {
    let server = server().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = alice.create_room(json!({})).await;
    let one = alice.say(&room, "one").await;
    let two = alice.say(&room, "two").await;
    let path = format!("/_matrix/client/v1/rooms/{}/timestamp_to_event", crate::kit::encode(&room));
    let base = format!("/_matrix/client/v3/rooms/{}/event", crate::kit::encode(&room));
    let time = async |event: &str| {
        let event = alice.do_get(&format!("{base}/{}", crate::kit::encode(event))).await;
        event["origin_server_ts"].as_u64().unwrap()
    };
    let (first, last) = (time(&one).await, time(&two).await);
    let near = async |ts: u64, dir: &str| {
        alice.do_get(&format!("{path}?ts={ts}&dir={dir}")).await["event_id"].clone()
    };
    assert_eq!(near(last + 5, "b").await, two.as_str());
    assert_eq!(near(last, "b").await, two.as_str());
    if first < last {
        assert_eq!(near(last - 1, "b").await, one.as_str());
        assert_eq!(near(first + 1, "f").await, two.as_str());
    }
    let after = format!("{path}?ts={}&dir=f", last + 1);
    refused(alice.get(&after).await, 404, "M_NOT_FOUND");
    refused(bob.get(&format!("{path}?ts=0&dir=f")).await, 403, "M_FORBIDDEN");
}
