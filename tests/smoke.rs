//! The server starts, answers and stops.

use crate::kit;

#[tokio::test]
async fn two_users_talk_and_everything_is_there_after_a_restart() {
    let mut server = kit::server().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = alice.create_room(serde_json::json!({ "preset": "public_chat" })).await;
    bob.join(&room).await;
    let mut since = bob.sync_token().await;
    let event_id = alice.say(&room, "Hello").await;
    let shows_it = |answer: &serde_json::Value| answer.to_string().contains(&event_id);
    bob.sync_until(&mut since, shows_it).await;

    server.restart().await;
    let answer = bob.sync(None, "timeout=0").await;
    assert!(shows_it(&answer), "{answer}");
    server.stop().await;
}
