//! Profiles.

use serde_json::json;

use super::Home;
use crate::{PROFILE_BYTES_MAX, UsersError};

#[tokio::test]
async fn fields_are_set_and_removed() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    home.users.set_profile_field(&alice, "displayname", "Alice".into()).await.unwrap();
    home.users.set_profile_field(&alice, "org.example.x", json!({"a": null})).await.unwrap();
    let profile = home.users.profile(&alice).await.unwrap();
    assert_eq!(json!(profile), json!({"displayname": "Alice", "org.example.x": {"a": null}}));
    home.users.delete_profile_field(&alice, "displayname").await.unwrap();
    home.users.delete_profile_field(&alice, "displayname").await.unwrap();
    assert_eq!(home.users.profile(&alice).await.unwrap().len(), 1);
}

#[tokio::test]
async fn impossible_fields_are_refused() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let set = |field: String, value| {
        let (users, alice) = (home.users.clone(), alice.clone());
        async move { users.set_profile_field(&alice, &field, value).await }
    };
    let long = set("a".repeat(256), json!(1)).await;
    assert!(matches!(long, Err(UsersError::KeyTooLarge)));
    let odd = set("Ä".to_owned(), json!(1)).await;
    assert!(matches!(odd, Err(UsersError::Invalid { .. })));
    for (field, bytes_max) in [("displayname", 256), ("avatar_url", 1_000)] {
        let long = set(field.to_owned(), json!("x".repeat(bytes_max + 1))).await;
        assert!(matches!(long, Err(UsersError::Invalid { .. })));
        set(field.to_owned(), json!("x".repeat(bytes_max))).await.unwrap();
        home.users.delete_profile_field(&alice, field).await.unwrap();
    }
    let number = set("displayname".to_owned(), json!(1)).await;
    assert!(matches!(number, Err(UsersError::BadJson { .. })));
    set("org.example.a".to_owned(), json!("x".repeat(PROFILE_BYTES_MAX / 2))).await.unwrap();
    let both = set("org.example.b".to_owned(), json!("x".repeat(PROFILE_BYTES_MAX / 2))).await;
    assert!(matches!(both, Err(UsersError::ProfileTooLarge)));
}
