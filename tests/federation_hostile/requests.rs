//! Requests that are not what they say, and answers that are no use.

use std::time::Duration;

use axum::{body::Body, response::IntoResponse as _};
use bytes::Bytes;
use futures_util::stream;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::stage;
use crate::kit;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_must_be_signed_by_whom_it_names_for_whom_it_is_meant() {
    let stage = stage("11").await;
    let (peer, server) = (&stage.peer, &stage.network[0]);
    let uri = "/_matrix/federation/v1/query/profile?user_id=%40alice%3Aone.test";
    let one = "one.test".try_into().unwrap();
    let sign = |origin: &str, destination: &str, uri: &str| {
        let (origin, destination) = (origin.try_into().unwrap(), destination.try_into().unwrap());
        peer.authorization(origin, destination, &Method::GET, uri, None)
    };
    let good = peer.authorization(peer.name(), one, &Method::GET, uri, None);
    let ask = async |header: Option<String>| {
        let request = peer.request(server, Method::GET, uri, None);
        let request =
            header.iter().fold(request, |request, header| request.header("authorization", header));
        kit::reply(request).await.0
    };
    assert_eq!(ask(Some(good.clone())).await, 200);
    for (what, header) in [
        ("nothing", None),
        ("another destination", Some(sign("liar.test", "two.test", uri))),
        ("another path", Some(sign("liar.test", "one.test", "/_matrix/federation/v1/version"))),
        ("our own name", Some(sign("one.test", "one.test", uri))),
        ("a server that is not there", Some(sign("nowhere.invalid", "one.test", uri))),
        ("another key", Some(good.replace("ed25519:peer", "ed25519:other"))),
        ("a broken signature", Some(good.replace("sig=\"", "sig=\"AAAA"))),
        ("a bearer", Some("Bearer token".to_owned())),
        ("half a header", Some(good[..good.len() / 2].to_owned())),
    ] {
        let status = ask(header).await;
        assert!(status == 401 || status == 403, "{what} was answered {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_in_a_transaction_is_refused_whole() {
    let stage = stage("11").await;
    let event = stage.room.message(&stage.peer, "one of many").json;
    let edu = json!({ "edu_type": "m.typing", "content": {} });
    let many = vec![event; 51];
    let (status, _) = stage.peer.try_transact(&stage.network[0], "t1", &many, &[]).await;
    assert_eq!(status, 400);
    let (status, _) = stage.peer.try_transact(&stage.network[0], "t2", &[], &vec![edu; 101]).await;
    assert_eq!(status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_speaks_only_for_its_own_users() {
    let mut stage = stage("11").await;
    let room = stage.room.room_id.clone();
    let bob = stage.network[0].register("bob").await;
    bob.join(&room).await;
    let typing = |user: &str| json!({ "edu_type": "m.typing", "content": { "room_id": room, "user_id": user, "typing": true } });
    let receipt = |user: &str| {
        let read = json!({ user: { "event_ids": [stage.room.latest[0]], "data": { "ts": 1 } } });
        json!({ "edu_type": "m.receipt", "content": { &room: { "m.read": read } } })
    };
    let presence = |user: &str| {
        let push = json!([{ "user_id": user, "presence": "unavailable", "status_msg": "lie" }]);
        json!({ "edu_type": "m.presence", "content": { "push": push } })
    };
    let mallory = stage.room.user.clone();
    let edus = [
        json!({ "edu_type": "m.nonsense", "content": { "a": [1, { "b": null }] } }),
        json!({ "edu_type": "m.typing", "content": "no object" }),
        typing("@bob:one.test"),
        receipt("@bob:one.test"),
        presence("@bob:one.test"),
        typing(&mallory),
        receipt(&mallory),
    ];
    let (status, answer) = stage.peer.try_transact(&stage.network[0], "t1", &[], &edus).await;
    assert_eq!(status, 200, "{answer}");
    let (mut typing, mut readers, mut lied) = (Vec::new(), Vec::new(), false);
    stage
        .alice
        .sync_until(&mut stage.since, |sync| {
            let events = sync["rooms"]["join"][&room]["ephemeral"]["events"].as_array().cloned();
            for event in events.unwrap_or_default() {
                match event["type"].as_str() {
                    Some("m.typing") => {
                        typing.extend(event["content"]["user_ids"].as_array().cloned().unwrap());
                    }
                    Some("m.receipt") => readers.push(event["content"].to_string()),
                    _ => {}
                }
            }
            lied |= sync["presence"].to_string().contains("lie");
            typing.contains(&Value::from(mallory.as_str())) && !readers.is_empty()
        })
        .await;
    assert!(!typing.contains(&Value::from("@bob:one.test")), "{typing:?}");
    assert!(!readers.iter().any(|reader| reader.contains("@bob:one.test")), "{readers:?}");
    assert!(!lied, "presence of our own user was taken from another server");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_no_use_do_not_hold_up_other_rooms() {
    let mut stage = stage("11").await;
    let other =
        stage.alice.create_room(json!({ "preset": "public_chat", "room_version": "11" })).await;
    let mut other = stage.peer.join(&stage.network[0], &other, "mallory").await;
    let orphan = |text: &str| {
        let mut draft = stage.room.draft("m.room.message", None, json!({ "body": text }));
        draft["prev_events"] = json!([format!("${:0>43}", 1)]);
        stage.peer.seal(draft, &stage.room.rules)
    };
    let endless = || {
        let chunks =
            stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 65_536])));
        Body::from_stream(chunks).into_response()
    };
    let silent =
        || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()).into_response();
    for (number, kind) in ["endless", "silent", "garbage", "error"].into_iter().enumerate() {
        for part in
            ["get_missing_events", "state_ids", "/state/", "/event/", "event_auth", "backfill"]
        {
            for method in [Method::GET, Method::POST] {
                stage.peer.on(method, part, move |_| match kind {
                    "endless" => endless(),
                    "silent" => silent(),
                    "garbage" => "[\u{0}{{".into_response(),
                    _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                });
            }
        }
        let lost = orphan(kind);
        let (txn, events) = (format!("lost{number}"), [lost.json]);
        let sent = stage.peer.transact(&stage.network[0], &txn, &events);
        tokio::time::timeout(Duration::from_secs(10), sent).await.expect("an answer at once");
        // Another room of the same peer goes on.
        let text = format!("meanwhile {number}");
        let message = other.message(&stage.peer, &text);
        let (txn, events) = (format!("other{number}"), [message.json.clone()]);
        let sent = stage.peer.transact(&stage.network[0], &txn, &events);
        tokio::time::timeout(Duration::from_secs(10), sent).await.expect("an answer at once");
        other.follow(&message);
        stage
            .alice
            .sync_until(&mut stage.since, |sync| {
                sync["rooms"]["join"][&other.room_id]["timeline"].to_string().contains(&text)
            })
            .await;
        // And so do our own users in the room that waits.
        stage.alice.say(&stage.room.room_id, "we go on").await;
    }
}
