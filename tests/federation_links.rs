//! Two servers and what lies between them: rooms, outages, lost answers.

use serde_json::{Value, json};

use crate::kit::{self, Network, User, encode};

/// Joins a room of the first server from another.
async fn join(user: &User, room: &str) {
    let path = format!("/_matrix/client/v3/join/{}?via=one.test", encode(room));
    user.do_post(&path, json!({})).await;
}

/// The texts of a room's timeline in a sync.
fn texts(sync: &Value, room: &str) -> Vec<String> {
    let events = sync["rooms"]["join"][room]["timeline"]["events"].as_array().cloned();
    let text = |event: &Value| event["content"]["body"].as_str().map(str::to_owned);
    events.unwrap_or_default().iter().filter_map(text).collect()
}

/// Syncs until a text was seen, and gives all texts until then.
async fn hear(user: &User, since: &mut String, room: &str, last: &str) -> Vec<String> {
    let mut heard = Vec::new();
    user.sync_until(since, |sync| {
        heard.extend(texts(sync, room));
        heard.iter().any(|text| text == last)
    })
    .await;
    heard
}

/// Alice of the first server and Bob of the second in a room, and where their syncs stand.
async fn pair(network: &Network, version: &str) -> (User, String, User, String, String) {
    let alice = network[0].register("alice").await;
    let bob = network[1].register("bob").await;
    let room = alice.create_room(json!({ "preset": "public_chat", "room_version": version })).await;
    join(&bob, &room).await;
    let (of_alice, of_bob) = (alice.sync_token().await, bob.sync_token().await);
    (alice, of_alice, bob, of_bob, room)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_talk_in_a_room_of_every_version() {
    let network = kit::network(2).await;
    let (alice, bob) = (network[0].register("alice").await, network[1].register("bob").await);
    for version in 1..=12 {
        let create = json!({ "preset": "public_chat", "room_version": version.to_string() });
        let room = alice.create_room(create).await;
        join(&bob, &room).await;
        let (mut of_alice, mut of_bob) = (alice.sync_token().await, bob.sync_token().await);
        alice.say(&room, "from one").await;
        hear(&bob, &mut of_bob, &room, "from one").await;
        bob.say(&room, "from two").await;
        hear(&alice, &mut of_alice, &room, "from two").await;
        network.wait_for(&room, |views| views[0].state == views[1].state).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_while_the_way_was_cut_arrives_in_order() {
    let network = kit::network(2).await;
    let (alice, mut of_alice, bob, mut of_bob, room) = pair(&network, "11").await;
    network.partition(&[&[0], &[1]]);
    let said: Vec<String> = (0..60).map(|number| format!("a{number}")).collect();
    for text in &said {
        alice.say(&room, text).await;
    }
    bob.say(&room, "b").await;
    network.heal();
    hear(&alice, &mut of_alice, &room, "b").await;
    // A part may come behind a gap of the sync; the history has all.
    hear(&bob, &mut of_bob, &room, "a59").await;
    let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100", encode(&room));
    let page = bob.do_get(&path).await;
    let bodies = page["chunk"].as_array().unwrap().iter().rev();
    let bodies: Vec<_> = bodies.filter_map(|event| event["content"]["body"].as_str()).collect();
    let of_alice: Vec<_> = bodies.into_iter().filter(|body| *body != "b").collect();
    assert_eq!(of_alice, said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_does_not_double_anything() {
    let network = kit::network(2).await;
    let (alice, _, bob, mut of_bob, room) = pair(&network, "12").await;
    alice.say(&room, "first").await;
    let mut heard = hear(&bob, &mut of_bob, &room, "first").await;
    for number in 0..5 {
        network.link(0, 1).lose_answers();
        alice.say(&room, &format!("second {number}")).await;
    }
    alice.say(&room, "last").await;
    heard.extend(hear(&bob, &mut of_bob, &room, "last").await);
    let mut wanted = vec!["first".to_owned()];
    wanted.extend((0..5).map(|number| format!("second {number}")));
    wanted.push("last".to_owned());
    assert_eq!(heard, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_another_server_survives_a_restart() {
    let mut network = kit::network(2).await;
    let (alice, _, bob, mut of_bob, room) = pair(&network, "11").await;
    network.stop(1).await;
    alice.say(&room, "are you there?").await;
    network.stop(0).await;
    network.start(0).await;
    network.start(1).await;
    let heard = hear(&bob, &mut of_bob, &room, "are you there?").await;
    assert_eq!(heard, ["are you there?"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_crosses_servers_and_is_rejected_or_taken() {
    let network = kit::network(2).await;
    let (alice, bob) = (network[0].register("alice").await, network[1].register("bob").await);
    let room = alice.create_room(json!({ "preset": "private_chat", "name": "Den" })).await;
    let mut of_bob = bob.sync_token().await;
    let mut of_alice = alice.sync_token().await;
    alice.invite(&room, &bob).await;
    let sync = bob.sync_until(&mut of_bob, |sync| sync["rooms"]["invite"][&room].is_object()).await;
    let state = sync["rooms"]["invite"][&room]["invite_state"]["events"].as_array().unwrap();
    assert!(state.iter().any(|event| event["content"]["name"] == "Den"), "{sync}");
    bob.leave(&room).await;
    alice
        .sync_until(&mut of_alice, |sync| {
            let events = &sync["rooms"]["join"][&room]["timeline"]["events"];
            events.as_array().is_some_and(|events| {
                events.iter().any(|event| event["content"]["membership"] == "leave")
            })
        })
        .await;
    alice.invite(&room, &bob).await;
    bob.sync_until(&mut of_bob, |sync| sync["rooms"]["invite"][&room].is_object()).await;
    bob.join(&room).await;
    let mut of_bob = bob.sync_token().await;
    alice.say(&room, "welcome").await;
    hear(&bob, &mut of_bob, &room, "welcome").await;
}
