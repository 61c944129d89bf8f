//! Joins, leaves and invites.

use event::Pdu;
use http::{Method, StatusCode};
use rooms::NewEvent;
use ruma::{
    OwnedRoomId, RoomVersionId,
    events::{StateEventType, room::member::MembershipState},
};
use serde_json::{Value as JsonValue, json, value::to_raw_value};

use super::kit::{Far, Here, far, user};

fn body(pdu: &Pdu) -> JsonValue {
    serde_json::from_str(&pdu.json).unwrap()
}

#[tokio::test]
async fn a_join_gives_the_state_before_it_with_what_allows_it() {
    for version in [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12] {
        let here = Here::new().await;
        let room = here.room(version).await;
        let guest = here.join(&far("far"), "bob", &room).await;
        assert!(guest.state.contains_key(&("m.room.create".to_owned(), String::new())));
        assert!(here.has(&room, &guest.last).await);
        assert!(here.state(&room).await.contains(&guest.last));
    }
}

#[tokio::test]
async fn older_servers_get_their_answers_in_pairs() {
    let here = Here::new().await;
    let room = here.room(RoomVersionId::V11).await;
    let (far, rules) = (far("far"), event::rules(&RoomVersionId::V11).unwrap());
    let bob = far.user("bob");
    let path = format!("/_matrix/federation/v1/make_join/{room}/{bob}?ver=11");
    let (_, template) = here.get(&far, &path).await;
    let join = far.complete(&template["event"], &room, &bob, MembershipState::Join, &rules);
    let path = format!("/_matrix/federation/v1/send_join/{room}/{}", join.event_id);
    let (status, answer) = here.put(&far, &path, &body(&join)).await;
    assert_eq!((status, &answer[0]), (StatusCode::OK, &json!(200)), "{answer}");
    assert!(answer[1]["state"].as_array().unwrap().len() > 3, "{answer}");

    let (_, template) =
        here.get(&far, &format!("/_matrix/federation/v1/make_leave/{room}/{bob}")).await;
    let leave = far.complete(&template["event"], &room, &bob, MembershipState::Leave, &rules);
    let path = format!("/_matrix/federation/v1/send_leave/{room}/{}", leave.event_id);
    let (status, answer) = here.put(&far, &path, &body(&leave)).await;
    assert_eq!((status, answer), (StatusCode::OK, json!([200, {}])));
    assert!(here.state(&room).await.contains(&leave.event_id));
}

#[tokio::test]
async fn joins_that_are_not_what_they_seem_are_refused() {
    let here = Here::new().await;
    let room = here.room(RoomVersionId::V11).await;
    let (far, rules) = (far("far"), event::rules(&RoomVersionId::V11).unwrap());
    let bob = far.user("bob");
    let make = |room: &OwnedRoomId, user: &str, versions: &str| {
        format!("/_matrix/federation/v1/make_join/{room}/{user}{versions}")
    };
    let (status, answer) = here.get(&far, &make(&room, "@x:third.test", "?ver=11")).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN")));
    for versions in ["", "?ver=1&ver=10"] {
        let (status, answer) = here.get(&far, &make(&room, bob.as_str(), versions)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(answer["errcode"], "M_INCOMPATIBLE_ROOM_VERSION");
        assert_eq!(answer["room_version"], "11");
    }
    let nowhere = ruma::owned_room_id!("!nowhere:here.test");
    let (status, answer) = here.get(&far, &make(&nowhere, bob.as_str(), "?ver=11")).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::NOT_FOUND, &json!("M_NOT_FOUND")));

    let (_, template) = here.get(&far, &make(&room, bob.as_str(), "?ver=11")).await;
    let join = far.complete(&template["event"], &room, &bob, MembershipState::Join, &rules);
    let put = async |id: &str, body: &JsonValue| {
        let path = format!("/_matrix/federation/v2/send_join/{room}/{id}");
        here.put(&far, &path, body).await
    };
    let id = join.event_id.as_str();
    assert_eq!(put("$other", &body(&join)).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(put(id, &json!({})).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(put(id, &json!([])).await.0, StatusCode::BAD_REQUEST);
    let mut unsigned = body(&join);
    unsigned["signatures"] = json!({});
    assert_eq!(put(id, &unsigned).await.0, StatusCode::FORBIDDEN);
    let mut left = template["event"].clone();
    left["content"]["membership"] = json!("leave");
    let leave = far.complete(&left, &room, &bob, MembershipState::Leave, &rules);
    assert_eq!(put(leave.event_id.as_str(), &body(&leave)).await.0, StatusCode::BAD_REQUEST);
    // Another server may not bring it.
    let path = format!("/_matrix/federation/v2/send_join/{room}/{id}");
    assert!(here.put(&super::kit::far("third"), &path, &body(&join)).await.0.is_client_error());
    assert!(!here.state(&room).await.contains(&join.event_id));
    assert_eq!(put(id, &body(&join)).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_server_that_the_list_denies_cannot_join() {
    let here = Here::new().await;
    let room = here.room(RoomVersionId::V11).await;
    let content = to_raw_value(&json!({ "allow": ["*"], "deny": ["far.*"] })).unwrap();
    let acl = NewEvent::state(StateEventType::RoomServerAcl, "", content);
    here.rooms.send(&user("alice"), &room, acl).await.unwrap();
    let path = format!("/_matrix/federation/v1/make_join/{room}/@bob:far.test?ver=11");
    let (status, answer) = here.get(&far("far"), &path).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN")));
}

/// An invite to a room of the other server.
fn invite(far: &Far, invitee: &str, membership: &str) -> (OwnedRoomId, Pdu) {
    let rules = event::rules(&RoomVersionId::V11).unwrap();
    let room = ruma::owned_room_id!("!theirs:far.test");
    let draft = event::Draft {
        room_id: Some(room.clone()),
        sender: far.user("bob"),
        kind: ruma::events::TimelineEventType::RoomMember,
        state_key: Some(invitee.to_owned()),
        content: to_raw_value(&json!({ "membership": membership })).unwrap(),
        redacts: None,
        prev_events: vec![ruma::owned_event_id!("$before")],
        auth_events: vec![ruma::owned_event_id!("$create")],
        reference_hashes: std::collections::BTreeMap::new(),
        depth: 5_u32.into(),
        origin_server_ts: ruma::MilliSecondsSinceUnixEpoch(ruma::UInt::new_saturating(
            1_700_000_000_000,
        )),
    };
    (room, event::build(draft, &far.name, &far.key, &rules).unwrap())
}

#[tokio::test]
async fn an_invite_is_signed_and_kept() {
    let here = Here::new().await;
    let alice = here.sign_up("alice").await;
    let far = far("far");
    let (room, event) = invite(&far, alice.as_str(), "invite");
    let path = format!("/_matrix/federation/v2/invite/{room}/{}", event.event_id);
    let content = json!({
        "room_version": "11", "event": body(&event),
        "invite_room_state": [{
            "type": "m.room.name", "state_key": "", "sender": "@bob:far.test",
            "content": { "name": "Theirs" },
        }],
    });
    let (status, answer) = here.put(&far, &path, &content).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let signatures = answer["event"]["signatures"].as_object().unwrap();
    assert!(signatures.contains_key("here.test") && signatures.contains_key("far.test"));
    let memberships = here.rooms.memberships(&alice).await.unwrap();
    let record = memberships.by_id(&room).unwrap();
    assert_eq!(record.membership, MembershipState::Invite);
    // A leave by the same server takes it back.
    let (_, kick) = invite(&far, alice.as_str(), "leave");
    here.transaction(&far, "1", &[&kick.json]).await;
    let memberships = here.rooms.memberships(&alice).await.unwrap();
    assert_eq!(memberships.by_id(&room).unwrap().membership, MembershipState::Leave);
}

#[tokio::test]
async fn invites_that_nobody_can_or_wants_to_take_are_refused() {
    let here = Here::new().await;
    let alice = here.sign_up("alice").await;
    let far = far("far");
    let put = async |invitee: &str, membership: &str, version: &str| {
        let (room, event) = invite(&far, invitee, membership);
        let path = format!("/_matrix/federation/v2/invite/{room}/{}", event.event_id);
        let content =
            json!({ "room_version": version, "event": body(&event), "invite_room_state": [] });
        let (status, answer) = here.put(&far, &path, &content).await;
        (status.as_u16(), answer["errcode"].as_str().unwrap_or_default().to_owned())
    };
    let errcode = |code: &str| code.to_owned();
    assert_eq!(put("@nobody:here.test", "invite", "11").await, (404, errcode("M_NOT_FOUND")));
    assert_eq!(put("@x:third.test", "invite", "11").await, (400, errcode("M_INVALID_PARAM")));
    assert_eq!(put(alice.as_str(), "join", "11").await.0, 400);
    let incompatible = errcode("M_INCOMPATIBLE_ROOM_VERSION");
    assert_eq!(put(alice.as_str(), "invite", "org.example.odd").await, (400, incompatible));
    let block = to_raw_value(&json!({ "default_action": "block" })).unwrap();
    let kind = "m.invite_permission_config";
    here.users.set_account_data(&alice, None, kind, &block).await.unwrap();
    let blocked = put(alice.as_str(), "invite", "11").await;
    assert_eq!(blocked, (403, errcode("M_INVITE_BLOCKED")));
    assert!(here.rooms.memberships(&alice).await.unwrap().is_empty());
}

#[tokio::test]
async fn knocks_are_taken_where_the_room_lets_knock() {
    let here = Here::new().await;
    let room = here.room(RoomVersionId::V11).await;
    let content = to_raw_value(&json!({ "join_rule": "knock" })).unwrap();
    let rule = NewEvent::state(StateEventType::RoomJoinRules, "", content);
    here.rooms.send(&user("alice"), &room, rule).await.unwrap();
    let (far, rules) = (far("far"), event::rules(&RoomVersionId::V11).unwrap());
    let bob = far.user("bob");
    let path = format!("/_matrix/federation/v1/make_knock/{room}/{bob}?ver=11");
    let (status, template) = here.get(&far, &path).await;
    assert_eq!(status, StatusCode::OK, "{template}");
    let knock = far.complete(&template["event"], &room, &bob, MembershipState::Knock, &rules);
    let path = format!("/_matrix/federation/v1/send_knock/{room}/{}", knock.event_id);
    let (status, answer) = here.put(&far, &path, &body(&knock)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let told = answer["knock_room_state"].as_array().unwrap();
    assert!(told.iter().any(|event| event["type"] == "m.room.join_rules"), "{answer}");
    assert!(here.state(&room).await.contains(&knock.event_id));
    let request =
        far.signed(Method::GET, &format!("/_matrix/federation/v1/event/{}", knock.event_id), None);
    assert_eq!(here.send(request).await.0, StatusCode::OK);
}
