//! Key backups.

use std::collections::BTreeMap;

use ruma::{RoomId, UserId, room_id, serde::Raw};
use serde_json::{Map, json, value::to_raw_value};

use super::Home;
use crate::{BackupPart, BackupSelect, Users, UsersError};

const ALGORITHM: &str = "m.megolm_backup.v1.curve25519-aes-sha2";

fn part(room: &RoomId, session: &str, index: u64) -> BackupPart {
    let key = json!({
        "is_verified": false, "first_message_index": index, "forwarded_count": 0,
        "session_data": { "ciphertext": index.to_string() },
    });
    let sessions = [(session.to_owned(), Raw::from_json(to_raw_value(&key).unwrap()))];
    BackupPart::from([(room.to_owned(), BTreeMap::from(sessions))])
}

async fn begin(users: &Users, user_id: &UserId) -> u64 {
    users.create_backup(user_id, ALGORITHM, Map::new()).await.unwrap()
}

#[tokio::test]
async fn keys_are_counted_and_the_better_one_is_kept() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let version = begin(&home.users, &alice).await;
    let (a, b) = (room_id!("!a:x"), room_id!("!b:x"));
    let put = async |part: &BackupPart| {
        let backup = home.users.put_backup_keys(&alice, version, part).await.unwrap();
        (backup.count, backup.etag)
    };
    assert_eq!(put(&part(a, "s", 5)).await, (1, 1));
    assert_eq!(put(&part(a, "s", 7)).await, (1, 1));
    assert_eq!(put(&part(a, "s", 3)).await, (1, 2));
    assert_eq!(put(&part(b, "s", 3)).await, (2, 3));
    let select = BackupSelect::Session(a, "s");
    let kept = home.users.backup_keys(&alice, version, select).await.unwrap();
    assert!(kept[a]["s"].json().get().contains(r#""ciphertext":"3""#));
    let left = home.users.delete_backup_keys(&alice, version, BackupSelect::Room(a)).await.unwrap();
    assert_eq!((left.count, left.etag), (1, 4));
    let all = home.users.backup_keys(&alice, version, BackupSelect::All).await.unwrap();
    assert_eq!(all.keys().collect::<Vec<_>>(), [b]);
}

#[tokio::test]
async fn keys_go_into_the_newest_backup_only() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    assert!(matches!(home.users.backup(&alice, None).await, Err(UsersError::NotFound { .. })));
    let first = begin(&home.users, &alice).await;
    let second = begin(&home.users, &alice).await;
    let part = part(room_id!("!a:x"), "s", 1);
    let wrong = home.users.put_backup_keys(&alice, first, &part).await;
    assert!(matches!(wrong, Err(UsersError::WrongBackup { current }) if current == second));
    home.users.delete_backup(&alice, second).await.unwrap();
    home.users.delete_backup(&alice, second).await.unwrap();
    assert_eq!(home.users.backup(&alice, None).await.unwrap().version, first);
    home.users.put_backup_keys(&alice, first, &part).await.unwrap();
    assert_eq!(begin(&home.users, &alice).await, second + 1);
}
