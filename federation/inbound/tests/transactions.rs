//! Events and EDUs.

use std::{slice::from_ref, time::Duration};

use http::{Method, StatusCode};
use rooms::{NewEvent, RoomNumber};
use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId, events::StateEventType};
use serde_json::{Value as JsonValue, json, value::to_raw_value};
use store::{Json, outbox::Item};

use super::kit::{Guest, Here, far, user};
use crate::inbound::{
    staging::QUEUE_LEN_MAX,
    tables::{DELAYED, STAGED, StagedEvent},
    transaction_body::{EDUS_MAX, PDUS_MAX},
};

async fn scene() -> (Here, Guest) {
    let here = Here::new().await;
    let room = here.room(RoomVersionId::V11).await;
    let guest = here.join(&far("far"), "bob", &room).await;
    (here, guest)
}

async fn number_of(here: &Here, room: &OwnedRoomId) -> RoomNumber {
    here.rooms.room(room).await.unwrap().unwrap().number
}

async fn waiting(here: &Here, room: &OwnedRoomId) -> Vec<OwnedEventId> {
    let line = (far("far").name.to_string(), number_of(here, room).await);
    let mut items = STAGED.peek(&here.store, &line, 100).await.unwrap();
    items.extend(DELAYED.peek(&here.store, &line, 100).await.unwrap());
    items.into_iter().map(|item| item.value.0.event_id).collect()
}

#[tokio::test]
async fn events_are_received_and_the_same_transaction_gets_the_same_answer() {
    let (here, mut guest) = scene().await;
    let (one, two) = (guest.say("one"), guest.say("two"));
    let answer = here.transaction(&guest.far, "1", &[&one.json, &two.json]).await;
    assert_eq!(answer, json!({ one.event_id.as_str(): {}, two.event_id.as_str(): {} }));
    assert!(
        here.has(&guest.room, &one.event_id).await && here.has(&guest.room, &two.event_id).await
    );
    let position = here.store.position();
    let other = guest.say("other");
    let again = here.transaction(&guest.far, "1", &[&other.json]).await;
    assert_eq!(again, answer);
    assert_eq!(here.store.position(), position);
    assert!(!here.has(&guest.room, &other.event_id).await);
    // Another server's transaction of the same name is another one.
    let third = far("third");
    let answer = here.transaction(&third, "1", &[&other.json]).await;
    assert_eq!(answer, json!({ other.event_id.as_str(): {} }));
    assert!(here.has(&guest.room, &other.event_id).await);
}

#[tokio::test]
async fn a_bad_event_spoils_no_other() {
    let (here, mut guest) = scene().await;
    let good = guest.say("good");
    let mut forged: JsonValue = serde_json::from_str(&guest.clone().say("forged").json).unwrap();
    forged["content"]["body"] = json!("changed");
    forged["depth"] = json!(77);
    let forged = forged.to_string();
    let float = guest.clone().say("float").json.replace("\"depth\":", "\"depth\":1.5,\"x\":");
    let elsewhere = good.json.replace(guest.room.as_str(), "!other:here.test");
    let homeless = good.json.replace("\"room_id\"", "\"roomid\"");
    let other = guest.say("other");
    let pdus = ["7", &*good.json, &forged, &float, &elsewhere, &homeless, "{}", "[]", &*other.json];
    let answer = here.transaction(&guest.far, "1", &pdus).await;
    assert_eq!(answer[good.event_id.as_str()], json!({}));
    assert_eq!(answer[other.event_id.as_str()], json!({}));
    let refused = answer.as_object().unwrap().values().filter(|r| r["error"].is_string()).count();
    assert_eq!(refused, 1, "{answer}");
    assert!(here.has(&guest.room, &good.event_id).await);
    assert!(here.has(&guest.room, &other.event_id).await);
}

#[tokio::test]
async fn an_event_that_the_rules_refuse_is_answered_with_the_reason() {
    let (here, mut guest) = scene().await;
    let name = guest.make("m.room.name", Some(""), &json!({ "name": "mine" }));
    let answer = here.transaction(&guest.far, "1", &[&name.json]).await;
    assert!(answer[name.event_id.as_str()]["error"].is_string(), "{answer}");
    assert!(!here.state(&guest.room).await.contains(&name.event_id));
}

#[tokio::test]
async fn too_many_parts_or_no_transaction_at_all_are_refused_as_a_whole() {
    let (here, mut guest) = scene().await;
    let good = guest.say("good").json;
    let path = "/_matrix/federation/v1/send/1";
    let pdus = vec![&*good; PDUS_MAX + 1].join(",");
    let edus = vec!["{\"edu_type\":\"x\",\"content\":{}}"; EDUS_MAX + 1].join(",");
    for body in [
        format!("{{\"pdus\":[{pdus}]}}"),
        format!("{{\"pdus\":[],\"edus\":[{edus}]}}"),
        "{\"pdus\":{}}".to_owned(),
        "[]".to_owned(),
    ] {
        let request = guest.far.signed(Method::PUT, path, Some(&body));
        let (status, answer) = here.send(request).await;
        assert_eq!((status, &answer["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_BAD_JSON")));
    }
}

#[tokio::test]
async fn events_of_a_server_that_the_list_denies_are_refused_by_name() {
    let (here, mut guest) = scene().await;
    let content = to_raw_value(&json!({ "allow": ["*"], "deny": ["far.test"] })).unwrap();
    let acl = NewEvent::state(StateEventType::RoomServerAcl, "", content);
    here.rooms.send(&user("alice"), &guest.room, acl).await.unwrap();
    let said = guest.say("nothing");
    let answer = here.transaction(&guest.far, "1", &[&said.json]).await;
    assert!(answer[said.event_id.as_str()]["error"].as_str().unwrap().contains("ACL"), "{answer}");
    assert!(!here.has(&guest.room, &said.event_id).await);
    // Whoever brings it, it is the bringer that the list is about.
    let answer = here.transaction(&far("third"), "1", &[&said.json]).await;
    assert_eq!(answer[said.event_id.as_str()], json!({}));
}

#[tokio::test]
async fn an_event_that_builds_upon_unknown_ones_waits_durably_and_gets_its_turn() {
    let (here, mut guest) = scene().await;
    let (missing, late) = (guest.say("missing"), guest.say("late"));
    let answer = here.transaction(&guest.far, "1", &[&late.json]).await;
    assert_eq!(answer, json!({ late.event_id.as_str(): {} }));
    assert_eq!(waiting(&here, &guest.room).await, from_ref(&late.event_id));
    assert!(!here.has(&guest.room, &late.event_id).await);
    let answer = here.transaction(&guest.far, "2", &[&missing.json]).await;
    assert_eq!(answer, json!({ missing.event_id.as_str(): {} }));
    settle(&here, &guest.room).await;
    assert!(here.has(&guest.room, &missing.event_id).await);
    assert!(here.has(&guest.room, &late.event_id).await);
}

#[tokio::test]
async fn what_waits_survives_a_restart() {
    let (here, mut guest) = scene().await;
    let (missing, late) = (guest.say("missing"), guest.say("late"));
    here.transaction(&guest.far, "1", &[&late.json]).await;
    here.door.stop().await;
    assert_eq!(waiting(&here, &guest.room).await, from_ref(&late.event_id));
    let here = Here::on(here.store.clone()).await;
    here.transaction(&guest.far, "2", &[&missing.json]).await;
    settle(&here, &guest.room).await;
    assert!(here.has(&guest.room, &missing.event_id).await);
    assert!(here.has(&guest.room, &late.event_id).await);
}

#[tokio::test]
async fn events_of_one_server_that_wait_are_in_no_other_servers_way() {
    let (here, mut guest) = scene().await;
    let mut other = here.join(&far("third"), "carol", &guest.room).await;
    guest.say("missing");
    let late: Vec<_> = (0..QUEUE_LEN_MAX + 1).map(|n| guest.say(&n.to_string()).json).collect();
    let late: Vec<&str> = late.iter().map(|json| &**json).collect();
    let (last, others) = late.split_last().unwrap();
    for (id, pdus) in others.chunks(PDUS_MAX).enumerate() {
        let answer = here.transaction(&guest.far, &id.to_string(), pdus).await;
        assert!(answer.as_object().unwrap().values().all(|r| *r == json!({})), "{answer}");
    }
    // What does not fit is not refused: it comes again.
    let body = format!("{{\"pdus\":[{last}]}}");
    let path = "/_matrix/federation/v1/send/last";
    let (status, _) = here.send(guest.far.signed(Method::PUT, path, Some(&body))).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    let said = other.say("hello");
    let answer = here.transaction(&other.far, "1", &[&said.json]).await;
    assert_eq!(answer, json!({ said.event_id.as_str(): {} }));
    assert!(here.has(&guest.room, &said.event_id).await);
    here.door.stop().await;
}

#[tokio::test]
async fn an_event_that_failed_is_tried_again_while_others_come() {
    let (here, mut guest) = scene().await;
    guest.say("missing");
    let late = guest.say("late");
    here.transaction(&guest.far, "late", &[&late.json]).await;
    let line = (guest.far.name.to_string(), number_of(&here, &guest.room).await);
    let tried_again = async {
        for id in 0_u32.. {
            let items = DELAYED.peek(&here.store, &line, 1_000).await.unwrap();
            let is_late = |item: &Item<_>| {
                let Json(StagedEvent { event_id, attempts, .. }) = &item.value;
                *event_id == late.event_id && *attempts > 1
            };
            if items.iter().any(is_late) {
                break;
            }
            // Faster than the wait before an attempt, and always something new.
            if id < 150 {
                let more = guest.say(&id.to_string());
                here.transaction(&guest.far, &id.to_string(), &[&more.json]).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), tried_again).await.unwrap();
    here.door.stop().await;
}

/// Waits until nothing waits any more.
async fn settle(here: &Here, room: &OwnedRoomId) {
    let number = number_of(here, room).await;
    let settled = async {
        while here.door.staging.has_queue(number, &far("far").name) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), settled).await.unwrap();
    assert!(waiting(here, room).await.is_empty());
}

#[tokio::test]
async fn edus_are_taken_from_the_users_own_server_only() {
    let (here, guest) = scene().await;
    let typing = |user: &str| {
        json!({ "edu_type": "m.typing", "content": {
            "room_id": guest.room, "user_id": user, "typing": true,
        } })
    };
    let edus = json!([typing("@bob:far.test"), typing("@alice:here.test"), 7, {}, typing("x")]);
    here.edus(&far("third"), "1", edus.clone()).await;
    assert!(here.rooms.typing(&guest.room).1.is_empty());
    here.edus(&guest.far, "1", edus).await;
    assert_eq!(here.rooms.typing(&guest.room).1, from_ref(&guest.user));
}

#[tokio::test]
async fn receipts_may_be_for_what_the_same_transaction_brings() {
    let (here, mut guest) = scene().await;
    let said = guest.say("hello");
    let receipt = json!({ "edu_type": "m.receipt", "content": { guest.room.as_str(): {
        "m.read": { guest.user.as_str(): { "data": { "ts": 5 }, "event_ids": [said.event_id] } },
    } } });
    let body = format!("{{\"pdus\":[{}],\"edus\":[{receipt}]}}", said.json);
    let path = "/_matrix/federation/v1/send/1";
    let request = guest.far.signed(Method::PUT, path, Some(&body));
    let (status, answer) = here.send(request).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let room = here.rooms.room(&guest.room).await.unwrap().unwrap();
    let (start, now) = (rooms::Position::ZERO, here.store.position());
    let receipts = here.rooms.receipts_after(&room, start, now).await.unwrap();
    assert_eq!(receipts.len(), 1);
}
