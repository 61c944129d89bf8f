//! Logging in and out, tokens, devices.

use std::time::Duration;

use store::{RocksOptions, Store};

use super::Home;
use crate::{
    ACCESS_TOKEN_LIFETIME_MS, Erasure, LOGIN_TOKEN_LIFETIME_MS, LogOut, NewDevice, TokenError,
    TokenStyle, UsersError, UsersLogRow,
};

#[tokio::test]
async fn a_token_leads_to_its_device_also_after_a_restart() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let login = home.log_in(&alice, "A").await;
    for users in [home.users.clone(), home.reopened().await] {
        let session = users.session(&login.access_token).await.unwrap();
        assert_eq!(session.device_id, "A");
    }
    for token in ["", "nonsense", &login.access_token[1..]] {
        let unknown = home.users.session(token).await;
        assert!(matches!(unknown, Err(TokenError::Unknown)), "{token}");
    }
}

#[tokio::test]
async fn logging_in_again_on_a_device_ends_its_old_tokens() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let old = home.log_in(&alice, "A").await;
    assert!(home.users.session(&old.access_token).await.is_ok());
    let new = home.log_in(&alice, "A").await;
    assert!(matches!(home.users.session(&old.access_token).await, Err(TokenError::Unknown)));
    assert!(home.users.session(&new.access_token).await.is_ok());
    assert_eq!(home.device_names(&alice).await, ["A"]);
}

#[tokio::test]
async fn logging_out_ends_the_device_and_its_cached_session() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let a = home.log_in(&alice, "A").await;
    let b = home.log_in(&alice, "B").await;
    let session = home.users.session(&a.access_token).await.unwrap();
    home.users.log_out(&session).await.unwrap();
    assert!(home.users.session(&a.access_token).await.is_err());
    assert!(home.users.session(&b.access_token).await.is_ok());
    assert_eq!(home.device_names(&alice).await, ["B"]);
    home.users.log_out_all(&alice, LogOut::Everybody).await.unwrap();
    assert!(home.users.session(&b.access_token).await.is_err());
    assert!(home.device_names(&alice).await.is_empty());
}

#[tokio::test]
async fn who_hangs_up_during_the_commit_keeps_no_session_alive() {
    // The engine on disk commits on a thread of its own, so that there is a moment between.
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open_rocks(directory.path(), RocksOptions::default()).await.unwrap();
    let home = Home::on(store).await;
    let alice = home.sign_up("alice").await;
    for way in 0..3 {
        let login = home.log_in(&alice, "A").await;
        home.users.session(&login.access_token).await.unwrap();
        let mut positions = home.store.positions();
        positions.mark_unchanged();
        let devices = ["A".into()];
        let request = async {
            match way {
                0 => home.users.delete_devices(&alice, &devices).await,
                1 => home.users.log_out_all(&alice, LogOut::Everybody).await,
                _ => home.users.deactivate(&alice, Erasure::Keep).await,
            }
        };
        tokio::select! {
            biased;
            changed = positions.changed() => changed.unwrap(),
            done = request => done.unwrap(),
        }
        let ended = tokio::time::timeout(Duration::from_secs(10), async {
            while home.users.session(&login.access_token).await.is_ok() {
                tokio::task::yield_now().await;
            }
        });
        assert!(ended.await.is_ok(), "the session outlives its device (way {way})");
    }
}

#[tokio::test]
async fn many_devices_all_go_at_once() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    for number in 0..600 {
        home.log_in(&alice, &format!("D{number}")).await;
    }
    assert_eq!(home.device_names(&alice).await.len(), 600);
    home.users.log_out_all(&alice, LogOut::Others("D7".into())).await.unwrap();
    assert_eq!(home.device_names(&alice).await, ["D7"]);
}

#[tokio::test]
async fn an_expired_token_asks_for_a_refresh() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let login = home.log_in_as(&alice, "A", TokenStyle::Refreshed).await;
    assert_eq!(login.expires_in_ms, Some(ACCESS_TOKEN_LIFETIME_MS));
    assert!(home.users.session(&login.access_token).await.is_ok());
    home.clock.advance(ACCESS_TOKEN_LIFETIME_MS);
    assert!(matches!(home.users.session(&login.access_token).await, Err(TokenError::Expired)));
    let next = home.users.refresh(&login.refresh_token.unwrap()).await.unwrap();
    assert_eq!(next.device_id, "A");
    assert!(home.users.session(&next.access_token).await.is_ok());
    assert!(matches!(home.users.session(&login.access_token).await, Err(TokenError::Unknown)));
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_can_be_repeated() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let login = home.log_in_as(&alice, "A", TokenStyle::Refreshed).await;
    let refresh_token = login.refresh_token.unwrap();
    let lost = home.users.refresh(&refresh_token).await.unwrap();
    let kept = home.users.refresh(&refresh_token).await.unwrap();
    assert!(home.users.session(&login.access_token).await.is_ok());
    assert!(home.users.session(&lost.access_token).await.is_err());
    assert!(home.users.session(&kept.access_token).await.is_ok());
    // Now that the new pair is in use, the old one is over.
    assert!(home.users.session(&login.access_token).await.is_err());
    assert!(matches!(home.users.refresh(&refresh_token).await, Err(TokenError::Unknown)));
    let next = home.users.refresh(&kept.refresh_token.unwrap()).await.unwrap();
    assert!(home.users.session(&next.access_token).await.is_ok());
}

#[tokio::test]
async fn using_the_new_refresh_token_ends_the_old_one() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let first = home.log_in_as(&alice, "A", TokenStyle::Refreshed).await;
    let second = home.users.refresh(first.refresh_token.as_ref().unwrap()).await.unwrap();
    let third = home.users.refresh(second.refresh_token.as_ref().unwrap()).await.unwrap();
    assert!(home.users.refresh(&first.refresh_token.unwrap()).await.is_err());
    assert!(home.users.session(&first.access_token).await.is_err());
    assert!(home.users.session(&third.access_token).await.is_ok());
    let access = home.users.refresh(&third.access_token).await;
    assert!(matches!(access, Err(TokenError::Unknown)));
    let refresh = home.users.session(&third.refresh_token.unwrap()).await;
    assert!(matches!(refresh, Err(TokenError::Unknown)));
}

#[tokio::test]
async fn a_login_token_works_once_and_soon() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let token = home.users.create_login_token(&alice).await.unwrap();
    let account = home.users.redeem_login_token(&token).await.unwrap();
    assert_eq!(account.user_id, alice);
    assert!(home.users.log_in(&account, NewDevice::default()).await.is_ok());
    assert!(matches!(home.users.redeem_login_token(&token).await, Err(TokenError::Unknown)));
    let late = home.users.create_login_token(&alice).await.unwrap();
    home.clock.advance(LOGIN_TOKEN_LIFETIME_MS);
    assert!(matches!(home.users.redeem_login_token(&late).await, Err(TokenError::Unknown)));
}

#[tokio::test]
async fn a_device_is_renamed_and_its_use_noted() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let login = home.log_in(&alice, "A").await;
    let device = home.users.device(&alice, "A".into()).await.unwrap().unwrap();
    assert_eq!(device.display_name.as_deref(), Some("A's name"));
    let renamed = home.users.rename_device(&alice, "A".into(), Some("new".to_owned())).await;
    renamed.unwrap();
    let nothing = home.users.rename_device(&alice, "B".into(), None).await;
    assert!(matches!(nothing, Err(UsersError::NotFound { .. })));
    let session = home.users.session(&login.access_token).await.unwrap();
    let address = Some("9.9.9.9".parse().unwrap());
    home.users.touch(&session, address).await.unwrap();
    let device = home.users.device(&alice, "A".into()).await.unwrap().unwrap();
    assert_eq!((device.display_name.as_deref(), device.last_seen_ip), (Some("new"), None));
    home.clock.advance(600_000);
    home.users.touch(&session, address).await.unwrap();
    let device = home.users.device(&alice, "A".into()).await.unwrap().unwrap();
    assert_eq!(device.last_seen_ip.as_deref(), Some("9.9.9.9"));
    assert!(home.users.session(&login.access_token).await.is_ok());
}

#[tokio::test]
async fn the_log_tells_of_devices() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let before = home.store.position();
    home.log_in(&alice, "A").await;
    home.users.delete_devices(&alice, &["A".into(), "NONE".into()]).await.unwrap();
    let rows = home.store.read_log(before, 10).await.unwrap();
    let mut rows: Vec<_> =
        rows.iter().map(|row| UsersLogRow::decode(&row.payload).unwrap()).collect();
    rows.retain(|row| !matches!(row, UsersLogRow::DeviceListChanged { .. }));
    let device = || ("A".into(), alice.clone());
    let ((device_id, user_id), (id, user)) = (device(), device());
    let expected = [
        UsersLogRow::DeviceAdded { user_id, device_id },
        UsersLogRow::DeviceRemoved { user_id: user, device_id: id },
    ];
    assert_eq!(rows, expected);
}
