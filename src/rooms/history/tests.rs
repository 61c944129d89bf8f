use ruma::{OwnedRoomId, OwnedUserId, RoomVersionId};
use serde_json::json;

use crate::{
    PageToken,
    tests::{life::text, net::Net},
};

/// A room in which something was said before another server came.
async fn late(said: usize, version: RoomVersionId) -> (Net, OwnedRoomId, OwnedUserId) {
    let net = Net::new(2).await;
    let room = net.room(version).await;
    for number in 0..said {
        net.nodes[0].say(&net.user("alice", 0), &room, &number.to_string()).await;
    }
    let user = net.user("user", 1);
    net.join(&user, 1, &room, 0).await;
    (net, room, user)
}

/// Everything that can be read backward, the oldest first, and how many pages that took.
async fn read_all(net: &Net, room: &OwnedRoomId, user: &OwnedUserId) -> (Vec<String>, usize) {
    let (mut texts, mut from, mut pages): (Vec<String>, Option<PageToken>, usize) =
        (Vec::new(), None, 0);
    loop {
        let page = net.nodes[1].page(user, room, from, 7).await;
        texts.extend(page.chunk.iter().filter_map(text));
        pages += 1;
        let Some(end) = page.end else { break };
        from = Some(end.to_string().parse().unwrap());
        assert!(pages < 1_000);
    }
    texts.reverse();
    (texts, pages)
}

#[tokio::test]
async fn what_was_said_before_a_join_is_fetched_when_somebody_reads_so_far() {
    for version in [RoomVersionId::V1, RoomVersionId::V10, RoomVersionId::V12] {
        let (net, room, user) = late(150, version).await;
        let expected: Vec<String> = (0..150).map(|number| number.to_string()).collect();
        assert_eq!(read_all(&net, &room, &user).await.0, expected);
        net.nodes[1].is_sound().await;
        let asked = net.wires.asked.lock().unwrap().len();
        assert_eq!(read_all(&net, &room, &user).await.0, expected);
        assert_eq!(net.wires.asked.lock().unwrap().len(), asked, "all of it is there now");
        // Forward it reads the same.
        let mut texts = Vec::new();
        let mut from = None;
        loop {
            let query = crate::MessagesQuery {
                from,
                to: None,
                direction: ruma::api::Direction::Forward,
                limit: 7,
                filter: serde_json::from_value(json!({})).unwrap(),
            };
            let page = net.nodes[1].rooms.messages(&user, &room, query).await.unwrap();
            texts.extend(page.chunk.iter().filter_map(text));
            let Some(end) = page.end else { break };
            from = Some(end);
        }
        assert_eq!(texts, expected);
        // What the room is has not changed.
        assert_eq!(net.nodes[0].state(&room).await, net.nodes[1].state(&room).await);
        assert_eq!(net.nodes[0].accepted(&room).await, net.nodes[1].accepted(&room).await);
    }
}

#[tokio::test]
async fn history_that_nobody_gives_ends_the_reading_and_is_tried_again_later() {
    let (net, room, user) = late(5, RoomVersionId::V11).await;
    net.cut(0, 1);
    assert!(read_all(&net, &room, &user).await.0.is_empty());
    net.heal();
    assert!(read_all(&net, &room, &user).await.0.is_empty(), "a little later, not at once");
    net.clock.advance(120_000);
    assert_eq!(read_all(&net, &room, &user).await.0.len(), 5);
}

#[tokio::test]
async fn history_is_shown_as_far_as_its_visibility_allows() {
    let net = Net::new(2).await;
    let room = net.room(RoomVersionId::V11).await;
    let (alice, node) = (net.user("alice", 0), &net.nodes[0]);
    let kind = "m.room.history_visibility";
    let rule = |rule: &str| json!({ "history_visibility": rule });
    node.say(&alice, &room, "shared").await;
    node.set(&alice, &room, kind, "", rule("joined")).await.unwrap();
    node.say(&alice, &room, "for members").await;
    node.set(&alice, &room, kind, "", rule("shared")).await.unwrap();
    node.say(&alice, &room, "shared again").await;
    let user = net.user("user", 1);
    net.join(&user, 1, &room, 0).await;
    assert_eq!(read_all(&net, &room, &user).await.0, ["shared", "shared again"]);
}

#[tokio::test]
async fn a_redaction_in_the_history_redacts() {
    let net = Net::new(2).await;
    let room = net.room(RoomVersionId::V11).await;
    let (alice, node) = (net.user("alice", 0), &net.nodes[0]);
    let said = node.say(&alice, &room, "oops").await;
    // The other server does not know that the event was redacted when it gives it.
    let whole = net.event(0, &room, &said).await;
    let redaction = crate::NewEvent::redaction(said.clone(), None);
    node.rooms.send(&alice, &room, redaction).await.unwrap();
    let user = net.user("user", 1);
    net.join(&user, 1, &room, 0).await;
    net.wires.whole.lock().unwrap().insert(said.clone(), whole);
    assert!(read_all(&net, &room, &user).await.0.is_empty());
    let said = net.nodes[1].load(&room, &said).await.unwrap();
    assert!(said.redacted_by.is_some() && !said.pdu.json.contains("oops"));
}
