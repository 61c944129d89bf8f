use super::*;

/// Whether an event of the given version that was sent at a time verifies.
async fn verifies(fake: &Fake, key: &ServerKey, version: RoomVersionId, sent_ms: u64) -> bool {
    let client = fake.client();
    let event = event("a.example", key, &version, sent_ms);
    client.keyring().verify(raw(&event), &rules(&version)).await.is_ok()
}

#[tokio::test]
async fn events_verify_with_the_keys_of_their_server() {
    let (fake, published) = start().await;
    let (key, other) = (key("k"), key("k"));
    published.put("a.example", document("a.example", &key));
    let version = RoomVersionId::V11;
    let sound = event("a.example", &key, &version, NOW_MS);
    let client = fake.client();
    let verified = client.keyring().verify(raw(&sound), &rules(&version)).await.unwrap();
    assert_eq!(verified.pdu().event_id, sound.event_id);
    assert!(!verifies(&fake, &other, version, NOW_MS).await, "another key of the same name");
}

#[tokio::test]
async fn a_key_must_be_valid_when_the_event_was_sent_from_version_5_on() {
    let (fake, published) = start().await;
    let key = key("k");
    let until_ms = NOW_MS + HOUR_MS;
    published.put("a.example", document_with("a.example", &key, &[], until_ms));
    assert!(verifies(&fake, &key, RoomVersionId::V10, until_ms).await);
    assert!(!verifies(&fake, &key, RoomVersionId::V10, until_ms + 1).await);
    assert!(!verifies(&fake, &key, RoomVersionId::V5, until_ms + 1).await);
    assert!(verifies(&fake, &key, RoomVersionId::V4, until_ms + 1).await);
    assert!(verifies(&fake, &key, RoomVersionId::V1, until_ms + 1).await);
}

#[tokio::test]
async fn an_old_key_holds_for_events_from_before_it_expired() {
    let (fake, published) = start().await;
    let (new, old) = (key("new"), key("old"));
    let expired_ms = NOW_MS - 10 * HOUR_MS;
    let olds = [old_key(&old, expired_ms)];
    published.put("a.example", document_with("a.example", &new, &olds, NOW_MS + HOUR_MS));
    assert!(verifies(&fake, &old, RoomVersionId::V12, expired_ms).await);
    assert!(!verifies(&fake, &old, RoomVersionId::V12, expired_ms + 1).await);
    assert!(verifies(&fake, &old, RoomVersionId::V3, expired_ms + 1).await);
}

#[tokio::test]
async fn a_document_is_relied_on_for_seven_days_at_most() {
    let (fake, published) = start().await;
    let key = key("k");
    published.put("a.example", document_with("a.example", &key, &[], NOW_MS + 9_999 * HOUR_MS));
    assert!(verifies(&fake, &key, RoomVersionId::V10, NOW_MS + 7 * 24 * HOUR_MS).await);
    assert!(!verifies(&fake, &key, RoomVersionId::V10, NOW_MS + 7 * 24 * HOUR_MS + 1).await);
}

#[tokio::test]
async fn many_events_are_verified_in_their_order_with_one_request_per_server() {
    let (fake, published) = start().await;
    let servers = ["a.example", "b.example", "c.example"];
    let keys = servers.map(key_of);
    for (server, key) in servers.iter().zip(&keys).take(2) {
        published.put(server, document(server, key));
    }
    let version = RoomVersionId::V11;
    let mut events = Vec::new();
    for index in 0..300_usize {
        let (server, key) = (servers[index % 3], &keys[index % 3]);
        let event = event(server, key, &version, NOW_MS - index as u64);
        let mut json = raw(&event);
        if index == 100 {
            json = RawJsonValue::from_string("{\"no\": \"event\"}".to_owned()).unwrap();
        }
        events.push((json, event.event_id));
    }
    let jsons = events.iter().map(|(json, _)| json.clone()).collect();
    let client = fake.client();
    let results = client.keyring().verify_all(jsons, &rules(&version)).await;
    assert_eq!(results.len(), 300);
    for (index, (result, (_, id))) in results.iter().zip(&events).enumerate() {
        // The third server has no keys.
        let is_sound = index % 3 != 2 && index != 100;
        assert_eq!(result.as_ref().ok().map(|event| &event.pdu().event_id), is_sound.then_some(id));
    }
    assert_eq!(fake.asked(false).len(), 3);
}

fn key_of(server: &str) -> ServerKey {
    key(&server.replace('.', "_"))
}

#[tokio::test]
async fn bad_events_of_an_answer_are_left_out() {
    let (key, version) = (key("k"), RoomVersionId::V10);
    let events: Vec<Pdu> = (0..4).map(|n| event("a.example", &key, &version, NOW_MS - n)).collect();
    let forged = event("a.example", &super::key("k"), &version, NOW_MS);
    let pdus = vec![raw(&events[0]), raw(&forged), raw(&events[1]), raw(&events[2])];
    let keys = document("a.example", &key);
    let fake = Fake::answering(move |asked| match asked.path.as_str() {
        "/_matrix/key/v2/server" => text(200, &keys),
        path if path.contains("/get_missing_events/") => json(&json!({ "events": pdus })),
        path if path.contains("/event/") => json(&json!({ "pdus": [pdus[0]] })),
        _ => text(404, "{}"),
    })
    .await;
    let client = fake.client();
    let port = &client as &dyn rooms::Remote;
    let room = rooms::Room {
        number: rooms::RoomNumber::new(1),
        room_id: "!room:a.example".try_into().unwrap(),
        rules: rules(&version),
        version,
    };
    let server = "a.example".try_into().unwrap();
    let gap = rooms::Gap { latest: vec![], earliest: vec![], min_depth: 0, limit: 3 };
    let found = port.missing_events(server, &room, gap).await.unwrap();
    let ids: Vec<_> = found.iter().map(|event| &event.pdu().event_id).collect();
    assert_eq!(ids, [&events[0].event_id, &events[1].event_id], "and no more than was asked for");
    let one = port.event(server, &room, &events[0].event_id).await.unwrap();
    assert_eq!(one.pdu().event_id, events[0].event_id);
    let error = port.event(server, &room, &events[1].event_id).await.unwrap_err();
    assert!(error.to_string().contains("another event"), "{error}");
}
