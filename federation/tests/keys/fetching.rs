use super::*;

/// Whether a fresh event verifies.
async fn verifies(client: &crate::Client, key: &ServerKey) -> Result<(), String> {
    let version = RoomVersionId::V11;
    let event = event("a.example", key, &version, NOW_MS);
    let outcome = client.keyring().verify(raw(&event), &rules(&version)).await;
    outcome.map(|_| ()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn keys_are_remembered_in_memory_and_in_the_store() {
    let (fake, published) = start().await;
    let key = key("k");
    published.put("a.example", document("a.example", &key));
    let client = fake.client();
    for _ in 0..3 {
        verifies(&client, &key).await.unwrap();
    }
    verifies(&fake.client(), &key).await.unwrap();
    assert_eq!(fake.asked(false).len(), 1);
}

#[tokio::test]
async fn many_who_need_a_key_ask_for_it_once() {
    let (fake, published) = start().await;
    let key = key("k");
    published.put("a.example", document("a.example", &key));
    let client = fake.client();
    let all = (0..30).map(|_| verifies(&client, &key));
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(fake.asked(false).len(), 1);
}

#[tokio::test]
async fn documents_that_are_not_what_they_should_be_are_refused() {
    let (fake, published) = start().await;
    let (good, other) = (key("k"), key("k"));
    let forged = |document: &str| {
        let mut object: ruma::CanonicalJsonObject = serde_json::from_str(document).unwrap();
        let signatures = json!({ "a.example": { "ed25519:k": "c2lnbmF0dXJl" } });
        object.insert("signatures".to_owned(), signatures.try_into().unwrap());
        serde_json::to_string(&object).unwrap()
    };
    let right = document("a.example", &good);
    let bad = [
        forged(&right),
        document("b.example", &good),
        right.replace(&good.public_key_base64(), &other.public_key_base64()),
        right.replace("valid_until_ts\":1", "valid_until_ts\":2"),
        "[]".to_owned(),
        format!("{right}{}", " ".repeat(70_000)),
        "{\"server_name\":\"a.example\"}".to_owned(),
    ];
    for (index, document) in bad.into_iter().enumerate() {
        published.put("a.example", document);
        let error = verifies(&fake.client(), &good).await.unwrap_err();
        assert!(error.contains("no key of a.example"), "{index}: {error}");
        assert_eq!(fake.asked(false).len(), index + 1);
    }
    published.put("a.example", right);
    verifies(&fake.client(), &good).await.unwrap();
}

#[tokio::test]
async fn a_server_that_failed_is_asked_again_later_and_later() {
    let (fake, published) = start().await;
    let key = key("k");
    let client = fake.client();
    let mut asked = Vec::new();
    for _ in 0..20 {
        assert!(verifies(&client, &key).await.is_err());
        asked.push(fake.asked(false).len());
        fake.clock.advance(1_000);
    }
    assert_eq!(asked, [1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4]);
    // When it speaks to us, it is asked at once.
    published.put("a.example", document("a.example", &key));
    assert!(verifies(&client, &key).await.is_err());
    client.note_alive("a.example".try_into().unwrap());
    verifies(&client, &key).await.unwrap();
}

#[tokio::test]
async fn a_key_that_a_server_does_not_publish_is_not_asked_for_all_the_time() {
    let (fake, published) = start().await;
    let (first, second) = (key("first"), key("second"));
    published.put("a.example", document("a.example", &first));
    let client = fake.client();
    for _ in 0..5 {
        let error = verifies(&client, &second).await.unwrap_err();
        assert!(error.contains("publishes no such key"), "{error}");
    }
    assert_eq!(fake.asked(false).len(), 1);
    // A new key is seen soon.
    let old = [old_key(&first, NOW_MS + 1)];
    let document = document_with("a.example", &second, &old, NOW_MS + HOUR_MS);
    published.put("a.example", document);
    fake.clock.advance(5_000);
    verifies(&client, &second).await.unwrap();
    verifies(&client, &first).await.unwrap();
    assert_eq!(fake.asked(false).len(), 2);
}

#[tokio::test]
async fn an_event_of_the_far_future_makes_nobody_ask_for_keys_again() {
    let (fake, published) = start().await;
    let key = key("k");
    published.put("a.example", document("a.example", &key));
    let client = fake.client();
    verifies(&client, &key).await.unwrap();
    let version = RoomVersionId::V11;
    for day in 30..33 {
        fake.clock.advance(60_000);
        let event = event("a.example", &key, &version, NOW_MS + day * 24 * HOUR_MS);
        client.keyring().verify(raw(&event), &rules(&version)).await.unwrap_err();
    }
    assert_eq!(fake.asked(false).len(), 1);
}

#[tokio::test]
async fn documents_are_kept_for_those_who_ask_us() {
    let (fake, published) = start().await;
    let key = key("k");
    let text = document("a.example", &key);
    published.put("a.example", text.clone());
    let client = fake.client();
    let wanted = |until_ms| {
        let servers = ["a.example", "dead.example"];
        servers.map(|server| (server.try_into().unwrap(), until_ms)).into()
    };
    let found = client.keyring().documents(&wanted(NOW_MS)).await;
    assert_eq!(found.values().collect::<Vec<_>>(), [&text]);
    fake.clock.advance(60_000);
    client.keyring().documents(&wanted(NOW_MS)).await;
    let of_a = || fake.asked(false).iter().filter(|asked| asked.host == "a.example").count();
    assert_eq!(of_a(), 1, "it is known");
    client.keyring().documents(&wanted(NOW_MS + 48 * HOUR_MS)).await;
    assert_eq!(of_a(), 2, "it does not hold for long enough");
}
