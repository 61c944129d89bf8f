//! Signing up, passwords, rights, and the end of accounts.

use ruma::{presence::PresenceState, user_id};

use super::{Home, new_account};
use crate::{
    AccountKind, AdminRight, Erasure, LogOut, NewAccount, NewDevice, TokenError, UsersError,
    tables::PRESENCE_STATUS,
};

#[tokio::test]
async fn a_name_is_given_out_once_and_in_lower_case() {
    let home = Home::new().await;
    assert!(home.users.check_available("Alice").await.is_ok());
    assert_eq!(home.sign_up("Alice").await, "@alice:localhost");
    let again = home.users.create_account(new_account("alice")).await;
    assert!(matches!(again, Err(UsersError::Taken { .. })));
    assert!(matches!(home.users.check_available("ALICE").await, Err(UsersError::Taken { .. })));
    let bad = home.users.check_available("al ice").await;
    assert!(matches!(bad, Err(UsersError::InvalidUsername { .. })));
}

#[tokio::test]
async fn of_many_who_want_a_name_one_gets_it() {
    let home = Home::new().await;
    let tries = (0..8).map(|_| {
        let users = home.users.clone();
        tokio::spawn(async move { users.create_account(new_account("alice")).await.is_ok() })
    });
    let mut won = 0;
    for attempt in tries.collect::<Vec<_>>() {
        won += usize::from(attempt.await.unwrap());
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn an_account_and_its_first_device_come_together() {
    let home = Home::new().await;
    let device = NewDevice::default();
    let signed_up = home.users.sign_up(new_account("alice"), Some(device)).await;
    let (user_id, login) = signed_up.unwrap();
    let login = login.unwrap();
    let session = home.users.session(&login.access_token).await.unwrap();
    assert_eq!((&session.user_id, &session.device_id), (&user_id, &login.device_id));
    assert!(!session.admin && !session.guest);
}

#[tokio::test]
async fn users_are_found_by_id_and_by_name_in_any_case() {
    let home = Home::new().await;
    home.sign_up("alice").await;
    for name in ["alice", "@alice:localhost", "ALICE", "@Alice:localhost"] {
        let account = home.users.authenticate(name, "alice's password").await.unwrap();
        assert_eq!(account.user_id, "@alice:localhost", "{name}");
    }
    for (name, password) in [
        ("alice", "wrong"),
        ("bob", "alice's password"),
        ("@alice:elsewhere", "alice's password"),
        ("", ""),
    ] {
        let refused = home.users.authenticate(name, password).await;
        assert!(matches!(refused, Err(UsersError::WrongPassword)), "{name}");
    }
}

#[tokio::test]
async fn a_guest_has_a_random_name_and_no_password() {
    let home = Home::new().await;
    let guest = NewAccount { kind: AccountKind::Guest, ..NewAccount::default() };
    let first = home.users.create_account(guest.clone()).await.unwrap();
    let second = home.users.create_account(guest).await.unwrap();
    assert_ne!(first, second);
    let account = home.account(&first).await;
    assert!(account.guest && !account.has_password);
    assert!(home.users.authenticate(first.as_str(), "").await.is_err());
}

#[tokio::test]
async fn a_new_password_logs_out_whom_it_should() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let this = home.log_in(&alice, "THIS").await;
    let other = home.log_in(&alice, "OTHER").await;
    home.users.set_password(&alice, "new", LogOut::Nobody).await.unwrap();
    assert!(home.users.session(&other.access_token).await.is_ok());
    home.users.set_password(&alice, "newer", LogOut::Others(&this.device_id)).await.unwrap();
    let gone = home.users.session(&other.access_token).await;
    assert!(matches!(gone, Err(TokenError::Unknown)));
    assert!(home.users.session(&this.access_token).await.is_ok());
    assert!(!home.users.verify_password(&alice, "new").await.unwrap());
    assert!(home.users.verify_password(&alice, "newer").await.unwrap());
}

#[tokio::test]
async fn who_read_the_old_password_does_not_get_in_with_it() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let before = home.users.authenticate("alice", "alice's password").await.unwrap();
    home.users.set_password(&alice, "new", LogOut::Everybody).await.unwrap();
    let late = home.users.log_in(&before, NewDevice::default()).await;
    assert!(matches!(late, Err(UsersError::WrongPassword)));
    assert!(home.device_names(&alice).await.is_empty());
}

#[tokio::test]
async fn rights_take_effect_on_sessions_at_once() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let login = home.log_in(&alice, "A").await;
    assert!(!home.users.session(&login.access_token).await.unwrap().admin);
    home.users.set_admin(&alice, AdminRight::Granted).await.unwrap();
    assert!(home.users.session(&login.access_token).await.unwrap().admin);
    let nobody = home.users.set_admin(user_id!("@bob:localhost"), AdminRight::Granted).await;
    assert!(matches!(nobody, Err(UsersError::NotFound { .. })));
}

#[tokio::test]
async fn a_closed_account_leaves_no_way_in() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let before = home.account(&alice).await;
    let login = home.log_in(&alice, "A").await;
    let login_token = home.users.create_login_token(&alice).await.unwrap();
    home.users.set_profile_field(&alice, "displayname", "Alice".into()).await.unwrap();
    home.users.deactivate(&alice, Erasure::Keep).await.unwrap();
    for users in [home.users.clone(), home.reopened().await] {
        assert!(users.session(&login.access_token).await.is_err());
        assert!(users.redeem_login_token(&login_token).await.is_err());
        let refused = users.authenticate("alice", "alice's password").await;
        assert!(matches!(refused, Err(UsersError::Deactivated)));
        let late = users.log_in(&before, NewDevice::default()).await;
        assert!(late.is_err());
        assert!(users.set_password(&alice, "new", LogOut::Nobody).await.is_err());
        let taken = users.create_account(new_account("alice")).await;
        assert!(matches!(taken, Err(UsersError::Taken { .. })));
    }
    assert!(home.device_names(&alice).await.is_empty());
    assert_eq!(home.users.profile(&alice).await.unwrap().len(), 1);
}

#[tokio::test]
async fn erasure_takes_what_the_account_had() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    home.users.set_profile_field(&alice, "displayname", "Alice".into()).await.unwrap();
    let content = serde_json::value::to_raw_value(&serde_json::json!({"a": 1})).unwrap();
    home.users.set_account_data(&alice, None, "org.example", &content).await.unwrap();
    let status = Some("away".to_owned());
    home.users.set_presence(&alice, PresenceState::Online, status).await.unwrap();
    home.users.deactivate(&alice, Erasure::Erase).await.unwrap();
    for users in [home.users.clone(), home.reopened().await] {
        let presence = users.presence(&alice).await.unwrap();
        assert_eq!((presence.state, presence.status_msg), (PresenceState::Offline, None));
    }
    let status = home.store.get(&PRESENCE_STATUS, &alice.to_string()).await.unwrap();
    assert!(status.is_none());
    assert!(home.users.profile(&alice).await.unwrap().is_empty());
    assert!(home.users.list_account_data(&alice).await.unwrap().is_empty());
    let account = home.account(&alice).await;
    assert!(account.deactivated && account.erased);
}

#[tokio::test]
async fn who_left_with_the_account_is_remembered_until_gone_from_the_rooms() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    home.users.deactivate(&alice, Erasure::Keep).await.unwrap();
    let departures = home.reopened().await.list_departures().await.unwrap();
    assert_eq!(departures, std::slice::from_ref(&alice));
    home.users.end_departure(&alice).await.unwrap();
    assert!(home.users.list_departures().await.unwrap().is_empty());
}

#[tokio::test]
async fn accounts_are_listed_page_by_page() {
    let home = Home::new().await;
    for name in ["alice", "bob", "carol"] {
        home.sign_up(name).await;
    }
    let first = home.users.list_accounts(None, 2).await.unwrap();
    let names: Vec<_> = first.iter().map(|account| account.user_id.localpart()).collect();
    assert_eq!(names, ["alice", "bob"]);
    let rest = home.users.list_accounts(Some(user_id!("@bob:localhost")), 2).await.unwrap();
    assert_eq!(rest.len(), 1);
}

#[tokio::test]
async fn an_account_is_created_with_its_name_or_not_at_all() {
    let home = Home::new().await;
    let with_name =
        |name: &str| NewAccount { displayname: Some(name.to_owned()), ..new_account("alice") };
    let refused = home.users.create_account(with_name(&"x".repeat(257))).await;
    assert!(matches!(refused, Err(UsersError::Invalid { .. })));
    home.users.check_available("alice").await.unwrap();
    let alice = home.users.create_account(with_name("Alice")).await.unwrap();
    let profile = home.users.profile(&alice).await.unwrap();
    assert_eq!(profile.get("displayname"), Some(&"Alice".into()));
}
