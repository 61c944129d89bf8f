use serde_json::Value as JsonValue;

use super::*;

/// A notary that answers with the given documents, and a client that trusts it.
async fn start_notary(notary_key: &ServerKey, documents: Vec<JsonValue>) -> (Fake, crate::Client) {
    let its_own = document("notary.example", notary_key);
    let fake = Fake::answering(move |asked| match (asked.host.as_str(), asked.path.as_str()) {
        ("notary.example", "/_matrix/key/v2/server") => text(200, &its_own),
        ("notary.example", "/_matrix/key/v2/query") => {
            let body: JsonValue = serde_json::from_slice(&asked.body).unwrap();
            assert!(body["server_keys"]["a.example"]["ed25519:k"].is_object(), "{body}");
            json(&json!({ "server_keys": documents }))
        }
        _ => text(404, "{}"),
    })
    .await;
    let config = crate::ClientConfig {
        trusted_key_servers: vec!["notary.example".try_into().unwrap()],
        ..fake.config()
    };
    let client = fake.client_with(config);
    (fake, client)
}

/// A document that a notary has signed besides.
fn vouched(document: &str, notary: &ServerKey) -> JsonValue {
    let mut object: ruma::CanonicalJsonObject = serde_json::from_str(document).unwrap();
    notary.sign_json("notary.example".try_into().unwrap(), &mut object).unwrap();
    serde_json::to_value(&object).unwrap()
}

async fn verifies(client: &crate::Client, key: &ServerKey) -> bool {
    let version = RoomVersionId::V11;
    let event = event("a.example", key, &version, NOW_MS);
    client.keyring().verify(raw(&event), &rules(&version)).await.is_ok()
}

#[tokio::test]
async fn a_notary_knows_the_keys_of_a_server_that_is_gone() {
    let (key, notary) = (key("k"), key("n"));
    let document = vouched(&document("a.example", &key), &notary);
    let (fake, client) = start_notary(&notary, vec![document]).await;
    assert!(verifies(&client, &key).await);
    assert!(verifies(&client, &key).await);
    let asked = fake.asked(false);
    let queries = asked.iter().filter(|asked| asked.path.ends_with("/query")).count();
    assert_eq!(queries, 1);
    assert!(asked.iter().any(|asked| asked.host == "a.example"), "the server is asked first");
}

#[tokio::test]
async fn a_document_needs_the_signatures_of_notary_and_server() {
    let (key, notary, forger) = (key("k"), key("n"), key("n"));
    let right = document("a.example", &key);
    let mut unsigned = vouched(&right, &notary);
    unsigned["signatures"].as_object_mut().unwrap().remove("a.example");
    let bad = [
        serde_json::from_str(&right).unwrap(),
        vouched(&right, &forger),
        unsigned,
        vouched(&document("b.example", &key), &notary),
        json!(7),
        json!({}),
    ];
    for (index, document) in bad.into_iter().enumerate() {
        let (_fake, client) = start_notary(&notary, vec![document]).await;
        assert!(!verifies(&client, &key).await, "{index}");
    }
    let both = vec![json!({}), vouched(&right, &notary)];
    let (_fake, client) = start_notary(&notary, both).await;
    assert!(verifies(&client, &key).await, "a bad document does not spoil a good one");
}

#[tokio::test]
async fn an_older_document_of_a_notary_revives_no_key() {
    let (new, old, notary) = (key("new"), key("k"), key("n"));
    let expired_ms = NOW_MS - HOUR_MS;
    let (fake, published) = start().await;
    let olds = [old_key(&old, expired_ms)];
    published.put("a.example", document_with("a.example", &new, &olds, NOW_MS + HOUR_MS));
    assert!(!verifies(&fake.client(), &old).await, "it expired");
    let document = vouched(&document("a.example", &old), &notary);
    let (mut second, _) = start_notary(&notary, vec![document]).await;
    second.store = fake.store.clone();
    let config = crate::ClientConfig {
        trusted_key_servers: vec!["notary.example".try_into().unwrap()],
        ..second.config()
    };
    assert!(!verifies(&second.client_with(config), &old).await);
    assert!(second.asked(false).iter().any(|asked| asked.path.ends_with("/query")));
}
