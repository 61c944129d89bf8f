//! What other servers ask.

use http::{Method, StatusCode};
use rooms::{NewRoom, RoomPreset, Visibility};
use ruma::{RoomVersionId, signatures::verify_json};
use serde_json::{Value as JsonValue, json};

use super::kit::{Here, far, user};

#[tokio::test]
async fn the_version_and_our_keys_are_for_everybody() {
    let here = Here::new().await;
    let (status, answer) = here.ask(Method::GET, "/_matrix/federation/v1/version").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer, json!({ "server": { "name": "Natterjack", "version": "1" } }));
    let (status, answer) = here.ask(Method::GET, "/_matrix/key/v2/server").await;
    assert_eq!(status, StatusCode::OK);
    let document = serde_json::from_value(answer.clone()).unwrap();
    verify_json(&here.key.public_keys(ruma::server_name!("here.test")), &document).unwrap();
    assert_eq!(answer["valid_until_ts"], 1_700_000_000_000_u64 + crate::keys::KEYS_VALID_MS);
}

#[tokio::test]
async fn keys_of_others_are_vouched_for() {
    let here = Here::new().await;
    let far = far("far");
    let check = |answer: &JsonValue| {
        let document = serde_json::from_value(answer["server_keys"][0].clone()).unwrap();
        let mut keys = here.key.public_keys(ruma::server_name!("here.test"));
        keys.extend(far.key.public_keys(&far.name));
        verify_json(&keys, &document).unwrap();
        let signatures = answer["server_keys"][0]["signatures"].as_object().unwrap();
        assert!(signatures.contains_key("here.test") && signatures.contains_key("far.test"));
    };
    let (status, answer) = here.ask(Method::GET, "/_matrix/key/v2/query/far.test").await;
    assert_eq!(status, StatusCode::OK);
    check(&answer);
    let batch = async |body: &JsonValue| {
        let request = http::Request::post("/_matrix/key/v2/query");
        here.send(request.body(body.to_string().into()).unwrap()).await
    };
    let wanted = json!({ "far.test": {}, "here.test": {}, "denied.test": {} });
    let (status, answer) = batch(&json!({ "server_keys": wanted })).await;
    assert_eq!(status, StatusCode::OK);
    let mut names: Vec<_> = answer["server_keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|document| document["server_name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["far.test", "here.test"]);
    for body in [json!({}), json!([]), json!({ "server_keys": { "not a name": {} } })] {
        assert_eq!(batch(&body).await.0, StatusCode::BAD_REQUEST);
    }
    let many: serde_json::Map<_, _> = (0..200).map(|n| (format!("s{n}.test"), json!({}))).collect();
    let (status, _) = batch(&json!({ "server_keys": many })).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn profiles_of_our_users_are_told() {
    let here = Here::new().await;
    let alice = here.sign_up("alice").await;
    let name = json!("Alice");
    here.users.set_profile_field(&alice, "displayname", name.clone()).await.unwrap();
    let far = far("far");
    let profile = async |rest: &str| {
        here.get(&far, &format!("/_matrix/federation/v1/query/profile?user_id={rest}")).await
    };
    assert_eq!(profile("@alice:here.test").await, (StatusCode::OK, json!({ "displayname": name })));
    let one = profile("@alice:here.test&field=avatar_url").await;
    assert_eq!(one, (StatusCode::OK, json!({})));
    assert_eq!(profile("@bob:here.test").await.0, StatusCode::NOT_FOUND);
    assert_eq!(profile("@bob:far.test").await.0, StatusCode::BAD_REQUEST);
    let (status, answer) = here.get(&far, "/_matrix/federation/v1/query/odd").await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::NOT_FOUND, &json!("M_UNRECOGNIZED")));
}

#[tokio::test]
async fn aliases_and_published_rooms_are_told() {
    let here = Here::new().await;
    let new = NewRoom {
        preset: Some(RoomPreset::PublicChat),
        visibility: Visibility::Public,
        alias_localpart: Some("den".to_owned()),
        name: Some("Den".to_owned()),
        ..NewRoom::default()
    };
    let room = here.rooms.create(&user("alice"), new).await.unwrap();
    let far = far("far");
    let directory = "/_matrix/federation/v1/query/directory?room_alias=";
    let (status, answer) = here.get(&far, &format!("{directory}%23den:here.test")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer, json!({ "room_id": room, "servers": ["here.test"] }));
    let missing = here.get(&far, &format!("{directory}%23no:here.test")).await;
    assert_eq!(missing.0, StatusCode::NOT_FOUND);
    let rooms = "/_matrix/federation/v1/publicRooms";
    let (_, all) = here.get(&far, rooms).await;
    assert_eq!(all["chunk"][0]["room_id"], json!(room));
    let search = |term: &str| json!({ "filter": { "generic_search_term": term } });
    let (_, found) = here.post(&far, rooms, &search("den")).await;
    assert_eq!(found["chunk"][0]["name"], "Den");
    let (_, found) = here.post(&far, rooms, &search("lion")).await;
    assert_eq!(found["chunk"], json!([]));
    let (_, found) = here.get(&far, &format!("{rooms}?third_party_instance_id=irc")).await;
    assert_eq!(found["chunk"], json!([]));
    let (status, answer) =
        here.get(&far, &format!("/_matrix/federation/v1/hierarchy/{room}")).await;
    assert_eq!((status, &answer["room"]["name"]), (StatusCode::OK, &json!("Den")), "{answer}");
}

#[tokio::test]
async fn events_and_states_are_given_to_those_in_the_room() {
    let here = Here::new().await;
    let room = here.room(RoomVersionId::V11).await;
    let (far, third) = (far("far"), far("third"));
    let guest = here.join(&far, "bob", &room).await;
    let id = &guest.last;
    let v1 = |rest: &str| format!("/_matrix/federation/v1/{rest}");
    let paths = [
        format!("event/{id}"),
        format!("state/{room}?event_id={id}"),
        format!("state_ids/{room}?event_id={id}"),
        format!("event_auth/{room}/{id}"),
        format!("backfill/{room}?v={id}&limit=10"),
        format!("timestamp_to_event/{room}?ts=1&dir=f"),
    ];
    let mut answers = Vec::new();
    for path in &paths {
        let (status, answer) = here.get(&far, &v1(path)).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answers.push(answer);
        let (status, answer) = here.get(&third, &v1(path)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {answer}");
    }
    assert_eq!(answers[0]["pdus"][0]["state_key"], "@bob:far.test");
    let count = |answer: &JsonValue, field: &str| answer[field].as_array().unwrap().len();
    assert_eq!(count(&answers[1], "pdus"), count(&answers[2], "pdu_ids"));
    assert_eq!(count(&answers[1], "auth_chain"), count(&answers[2], "auth_chain_ids"));
    assert!(count(&answers[1], "pdus") >= 6, "{}", answers[1]);
    assert!(count(&answers[3], "auth_chain") >= 3);
    assert_eq!(count(&answers[4], "pdus"), 7.min(count(&answers[4], "pdus")));
    let gap = json!({ "earliest_events": [], "latest_events": [id], "limit": 3 });
    let (status, answer) = here.post(&far, &v1(&format!("get_missing_events/{room}")), &gap).await;
    assert_eq!((status, count(&answer, "events")), (StatusCode::OK, 3), "{answer}");
    let (status, _) = here.get(&far, &v1("event/$unknown")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn devices_and_tokens_are_told() {
    let here = Here::new().await;
    let alice = here.sign_up("alice").await;
    let far = far("far");
    let v1 = |rest: &str| format!("/_matrix/federation/v1/{rest}");
    let (status, answer) = here.get(&far, &v1(&format!("user/devices/{alice}"))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&answer["user_id"], &answer["devices"]), (&json!(alice), &json!([])));
    assert_eq!(here.get(&far, &v1("user/devices/@x:here.test")).await.0, StatusCode::NOT_FOUND);
    let query = json!({ "device_keys": { alice.as_str(): [] } });
    let (status, answer) = here.post(&far, &v1("user/keys/query"), &query).await;
    assert_eq!((status, &answer["device_keys"]), (StatusCode::OK, &json!({ alice.as_str(): {} })));
    let claim = json!({ "one_time_keys": { alice.as_str(): { "D": "signed_curve25519" } } });
    let (status, answer) = here.post(&far, &v1("user/keys/claim"), &claim).await;
    assert_eq!((status, &answer["one_time_keys"]), (StatusCode::OK, &json!({})), "{answer}");

    let token = here.users.create_openid_token(&alice).await.unwrap();
    let user_info =
        async |rest: &str| here.ask(Method::GET, &v1(&format!("openid/userinfo{rest}"))).await;
    let known = user_info(&format!("?access_token={token}")).await;
    assert_eq!(known, (StatusCode::OK, json!({ "sub": alice })));
    assert_eq!(user_info("").await.1["errcode"], "M_MISSING_TOKEN");
    let (status, answer) = user_info("?access_token=x").await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::UNAUTHORIZED, &json!("M_UNKNOWN_TOKEN")));
}
