//! Hosts of rooms that lie to those who join.

use std::time::Duration;

use axum::{body::Body, response::IntoResponse as _};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Method;
use ruma::RoomVersionId;
use serde_json::{Value, json};

use crate::kit::{self, Authority, Hosted, Network, Peer, Reply, User, encode};

/// Longest that a join may take that cannot succeed.
const LIMIT: Duration = Duration::from_secs(60);

struct Stage {
    network: Network,
    peer: Peer,
    alice: User,
    hosted: Hosted,
    room_id: String,
}

async fn stage(version: &RoomVersionId) -> Stage {
    let authority = Authority::new();
    let peer = Peer::start(&authority, &["host.test"]).await;
    let network = kit::network_with(authority, 1, &[&peer], |_| ()).await;
    let alice = network[0].register("alice").await;
    let room = peer.found(version, 5);
    let room_id = room.room_id.clone();
    let hosted = peer.host(version.as_str(), room);
    Stage { network, peer, alice, hosted, room_id }
}

impl Stage {
    async fn join(&self) -> Reply {
        let path = format!("/_matrix/client/v3/join/{}?via=host.test", encode(&self.room_id));
        let joined = self.alice.post(&path, json!({}));
        tokio::time::timeout(LIMIT, joined).await.expect("an answer in time")
    }

    /// Lets the host answer a join with something else than the truth.
    fn lie(&self, lie: impl Fn(&mut Value) + Send + Sync + 'static) {
        let hosted = self.hosted.clone();
        self.peer.on(Method::PUT, "/v2/send_join/", move |_| {
            let mut answer = hosted.lock().unwrap().join_answer(false);
            lie(&mut answer);
            axum::Json(answer).into_response()
        });
    }

    /// The user is not in the room, and the server goes on.
    async fn assert_outside(&self) {
        let joined = self.alice.do_get("/_matrix/client/v3/joined_rooms").await;
        let joined = joined["joined_rooms"].as_array().unwrap().clone();
        assert!(!joined.contains(&self.room_id.as_str().into()), "{joined:?}");
        let room = self.alice.create_room(json!({})).await;
        self.alice.say(&room, "still here").await;
    }
}

fn remove(answer: &mut Value, kind: &str) {
    for list in ["state", "auth_chain"] {
        answer[list].as_array_mut().unwrap().retain(|event| event["type"] != kind);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_host_is_joined_in_every_version() {
    for version in 3..=12 {
        let version = RoomVersionId::try_from(version.to_string()).unwrap();
        let stage = stage(&version).await;
        let (status, answer) = stage.join().await;
        assert_eq!(status, 200, "version {version}: {answer}");
        let path = format!("/_matrix/client/v3/rooms/{}/joined_members", encode(&stage.room_id));
        let members = stage.alice.do_get(&path).await;
        assert_eq!(members["joined"].as_object().unwrap().len(), 7, "version {version}: {members}");
        let event_id = stage.alice.say(&stage.room_id, "hello").await;
        stage
            .peer
            .wait_heard(|heard| {
                let mut sent = heard.iter().filter(|heard| heard.uri.contains("/v1/send/"));
                sent.any(|heard| heard.body_has("hello")).then_some(())
            })
            .await;
        assert!(stage.network[0].room_view(&stage.room_id).await.accepted.contains(&event_id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_without_the_ground_of_the_room_fails() {
    let stage = stage(&RoomVersionId::V11).await;
    for kind in ["m.room.create", "m.room.join_rules"] {
        stage.lie(move |answer| remove(answer, kind));
        let (status, answer) = stage.join().await;
        assert!(status >= 400, "without {kind}: {answer}");
        stage.assert_outside().await;
    }
    stage.lie(|answer| *answer = json!({ "state": "none", "auth_chain": 7 }));
    assert!(stage.join().await.0 >= 400);
    stage.assert_outside().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forged_in_a_join_is_left_out() {
    let stage = stage(&RoomVersionId::V11).await;
    let member = "@member-1:host.test";
    stage.lie(|answer| {
        for event in answer["state"].as_array_mut().unwrap() {
            if event["state_key"] == "@member-1:host.test" {
                event["signatures"]["host.test"]["ed25519:peer"] = "A".repeat(86).into();
            }
        }
    });
    let (status, answer) = stage.join().await;
    assert_eq!(status, 200, "{answer}");
    let view = stage.network[0].room_view(&stage.room_id).await;
    assert!(
        view.state.contains_key(&("m.room.member".to_owned(), "@member-2:host.test".to_owned()))
    );
    assert!(!view.state.contains_key(&("m.room.member".to_owned(), member.to_owned())), "{view:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_its_own_ground_forbids_is_not_taken() {
    let stage = stage(&RoomVersionId::V11).await;
    // A member without power sets a name: rightly signed, and forbidden by the levels.
    let forbidden = {
        let hosted = stage.hosted.lock().unwrap();
        let mut room = hosted.clone();
        room.user = "@member-1:host.test".to_owned();
        stage.peer.seal(room.draft("m.room.name", Some(""), json!({ "name": "Mine" })), &room.rules)
    };
    let json = forbidden.json.clone();
    stage.lie(move |answer| answer["state"].as_array_mut().unwrap().push(json.clone()));
    let (status, _) = stage.join().await;
    if status == 200 {
        let view = stage.network[0].room_view(&stage.room_id).await;
        assert!(!view.state.contains_key(&("m.room.name".to_owned(), String::new())), "{view:?}");
    } else {
        stage.assert_outside().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_ends_a_join() {
    let stage = stage(&RoomVersionId::V11).await;
    stage.peer.on(Method::PUT, "/v2/send_join/", |_| {
        let begin = Bytes::from_static(b"{\"state\": [");
        let more = stream::repeat_with(|| Bytes::from(vec![b' '; 1 << 20]));
        let chunks = stream::iter([begin]).chain(more).map(Ok::<_, std::io::Error>);
        Body::from_stream(chunks).into_response()
    });
    let (status, _) = stage.join().await;
    assert!(status >= 400);
    stage.assert_outside().await;
}
