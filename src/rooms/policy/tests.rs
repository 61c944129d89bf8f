use std::sync::Arc;

use event::Pdu;
use ruma::{OwnedRoomId, OwnedUserId, RoomVersionId, events::room::member::MembershipState};
use serde_json::json;

use crate::{
    NewEvent, Profile, Received, RoomsError, Txn, TxnKey,
    append::Assembly,
    tests::{
        core::raw,
        net::{Net, policy_key},
    },
};

/// A room of `s0.test` and `s1.test` for which `s2.test` decides what is wanted.
async fn policed() -> (Net, OwnedRoomId, OwnedUserId, OwnedUserId) {
    let net = Net::new(3).await;
    let room = net.room(RoomVersionId::V11).await;
    let (alice, bob, police) = (net.user("alice", 0), net.user("bob", 1), net.user("police", 2));
    for (user, node) in [(&bob, 1), (&police, 2)] {
        net.join(user, node, &room, 0).await;
        let join = net.nodes[0].extremities(&room).await.into_iter().next().unwrap();
        if node == 2 {
            let join = net.event(0, &room, &join).await;
            net.give(&join, 0, 1).await.unwrap();
        }
    }
    let key = policy_key().public_key_base64();
    let content = json!({ "via": "s2.test", "public_keys": { "ed25519": key } });
    let policy = net.nodes[0].set(&alice, &room, "m.room.policy", "", content).await.unwrap();
    let policy = net.event(0, &room, &policy).await;
    assert_eq!(net.give(&policy, 0, 1).await.unwrap(), Received::Accepted);
    (net, room, alice, bob)
}

/// An event of `s1.test` that nobody was asked about.
async fn unpoliced(net: &Net, bob: &OwnedUserId, room: &OwnedRoomId, body: &str) -> Arc<Pdu> {
    let rooms = &net.nodes[1].rooms;
    let lane = rooms.enter(room).await.unwrap();
    let mut assembly = Assembly::new(rooms, Arc::clone(lane.room()), Arc::clone(&lane.head));
    let content = raw(json!({ "msgtype": "m.text", "body": body }));
    let event = NewEvent::message("m.room.message".into(), content);
    assembly.add(bob, event).await.unwrap();
    Arc::clone(&assembly.accepted.pop().unwrap().event.pdu)
}

#[tokio::test]
async fn what_is_sent_bears_the_signature_of_the_policy_server() {
    let (net, room, alice, _) = policed().await;
    let id = net.nodes[0].say(&alice, &room, "hello").await;
    let event = net.event(0, &room, &id).await;
    assert!(event.json.contains("ed25519:policy_server"), "{}", event.json);
    // Whoever gets it need not ask again, even where the policy server is away.
    net.cut(1, 2);
    assert_eq!(net.give(&event, 0, 1).await.unwrap(), Received::Accepted);
    net.nodes[0].is_sound().await;
}

#[tokio::test]
async fn what_the_policy_server_refuses_is_not_sent() {
    let (net, room, alice, _) = policed().await;
    let before = net.nodes[0].extremities(&room).await;
    let error = net.nodes[0].try_say(&alice, &room, "spam").await.unwrap_err();
    assert!(matches!(error, RoomsError::Servers { .. }), "{error}");
    net.cut(0, 2);
    let error = net.nodes[0].try_say(&alice, &room, "hello").await.unwrap_err();
    assert!(matches!(error, RoomsError::Servers { .. }), "{error}");
    assert_eq!(net.nodes[0].extremities(&room).await, before);
    // The room can always do without.
    net.nodes[0].set(&alice, &room, "m.room.policy", "", json!({})).await.unwrap();
    net.nodes[0].say(&alice, &room, "spam").await;
}

#[tokio::test]
async fn the_same_transaction_asks_once() {
    let (net, room, alice, _) = policed().await;
    let send = async |body: &str| {
        let content = raw(json!({ "msgtype": "m.text", "body": body }));
        let event = NewEvent::message("m.room.message".into(), content)
            .txn(TxnKey { device_id: "D".into(), txn_id: "1".into() });
        net.nodes[0].rooms.send(&alice, &room, event).await.unwrap()
    };
    let first = send("one").await;
    assert_eq!(send("two").await, first);
    let stored = net.nodes[0].load(&room, &first).await.unwrap();
    let txn = Txn { user_id: alice, device_id: "D".into(), txn_id: "1".into(), target: None };
    assert_eq!(stored.txn, Some(txn));
}

#[tokio::test]
async fn what_comes_without_the_signature_is_asked_about_or_soft_failed() {
    for (body, cut, wanted) in [("hello", false, true), ("spam", false, false), ("hi", true, false)]
    {
        let (net, room, _, bob) = policed().await;
        let event = unpoliced(&net, &bob, &room, body).await;
        if cut {
            net.cut(0, 2);
        }
        let host = &net.nodes[0].rooms;
        let known = host.load_room(&room).await.unwrap();
        let verified = net.verified(&event, &known);
        let ready = host.receive_if_ready(&net.nodes[1].name, verified).await.unwrap();
        assert_eq!(ready, None, "{body}");
        let received = net.give(&event, 1, 0).await.unwrap();
        let soft_failed = matches!(received, Received::SoftFailed { .. });
        assert_eq!((received == Received::Accepted, soft_failed), (wanted, !wanted), "{body}");
    }
}

#[tokio::test]
async fn memberships_are_asked_about_too_but_nobody_is_kept_from_leaving() {
    let (net, room, alice, _) = policed().await;
    let rooms = &net.nodes[0].rooms;
    let here = |user: &OwnedUserId, event: &str| {
        assert!(event.contains("ed25519:policy_server"), "{user}: {event}");
    };
    let key = |user: &OwnedUserId| ("m.room.member".to_owned(), user.to_string());
    // One of ours joins, one of another server is invited.
    let (carol, dave) = (net.user("carol", 0), net.user("dave", 1));
    rooms.join(&carol, &room, &[], Profile::default(), None).await.unwrap();
    rooms.invite(&alice, &room, &dave, Profile::default(), None, false).await.unwrap();
    for user in [&carol, &dave] {
        let id = net.nodes[0].state(&room).await[&key(user)].clone();
        here(user, &net.event(0, &room, &id).await.json);
    }
    let spam = Some("spam".to_owned());
    let refused = rooms.kick(&alice, &room, &carol, spam.clone()).await;
    assert!(matches!(refused, Err(RoomsError::Servers { .. })), "{refused:?}");
    let eve = net.user("eve", 1);
    let refused = rooms.invite(&alice, &room, &eve, Profile::default(), spam.clone(), false).await;
    assert!(matches!(refused, Err(RoomsError::Servers { .. })), "{refused:?}");
    rooms.leave(&carol, &room, spam).await.unwrap();
    let id = net.nodes[0].state(&room).await[&key(&carol)].clone();
    assert_eq!(net.event(0, &room, &id).await.membership(), Some(MembershipState::Leave));
    net.nodes[0].is_sound().await;
}
