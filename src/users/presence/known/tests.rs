use ruma::user_id;

use super::*;

fn alice() -> &'static UserId {
    user_id!("@alice:example.org")
}

fn bob() -> &'static UserId {
    user_id!("@bob:example.org")
}

fn states(known: &Known, after: u64, upto: u64) -> Vec<(String, PresenceState)> {
    (known.changes(after, upto, 0).into_iter())
        .map(|presence| (presence.user_id.to_string(), presence.state))
        .collect()
}

#[test]
fn a_user_who_never_showed_up_is_offline() {
    let presence = Known::default().get(alice(), 1_000);
    assert_eq!(presence.state, PresenceState::Offline);
    assert_eq!(presence.last_active_ms, None);
    assert!(!presence.currently_active);
}

#[test]
fn each_user_appears_once_with_the_newest_change() {
    let mut known = Known::default();
    known.set(alice(), PresenceState::Online, None, 1_000);
    known.set(bob(), PresenceState::Online, None, 1_000);
    known.set(alice(), PresenceState::Unavailable, None, 2_000);
    let expected = [
        (bob().to_string(), PresenceState::Online),
        (alice().to_string(), PresenceState::Unavailable),
    ];
    assert_eq!(states(&known, 0, known.version()), expected);
    assert_eq!(states(&known, 2, known.version()), expected[1..]);
    assert!(states(&known, 3, 3).is_empty());
    assert!(states(&known, 9, 3).is_empty());
}

#[test]
fn the_same_again_is_no_change() {
    let mut known = Known::default();
    known.set(alice(), PresenceState::Online, Some("hi".to_owned()), 1_000);
    let version = known.version();
    known.set(alice(), PresenceState::Online, Some("hi".to_owned()), 2_000);
    assert_eq!(known.version(), version);
    known.set(alice(), PresenceState::Online, Some("ho".to_owned()), 2_000);
    assert!(known.version() > version);
}

#[test]
fn who_watches_stays_online_and_goes_offline_after_the_last_watch() {
    let mut known = Known::default();
    known.start_watching(alice(), PresenceState::Online, 0);
    known.sweep(10 * PRESENCE_ONLINE_MS);
    assert_eq!(known.get(alice(), 0).state, PresenceState::Online);
    known.stop_watching(alice(), 10 * PRESENCE_ONLINE_MS);
    known.sweep(11 * PRESENCE_ONLINE_MS - 1);
    assert_eq!(known.get(alice(), 0).state, PresenceState::Online);
    known.sweep(11 * PRESENCE_ONLINE_MS);
    assert_eq!(known.get(alice(), 0).state, PresenceState::Offline);
}

#[test]
fn activity_ends_idleness_but_does_not_unmask_who_is_offline() {
    let mut known = Known::default();
    known.set(alice(), PresenceState::Unavailable, None, 1_000);
    known.set(bob(), PresenceState::Offline, None, 1_000);
    for user_id in [alice(), bob()] {
        known.note_active(user_id, 2_000);
    }
    assert_eq!(known.get(alice(), 2_000).state, PresenceState::Online);
    let presence = known.get(bob(), 2_000);
    assert_eq!(presence.state, PresenceState::Offline);
    assert_eq!(presence.last_active_ms, Some(2_000));
}

#[test]
fn watching_keeps_the_status_message() {
    let mut known = Known::default();
    known.set(alice(), PresenceState::Unavailable, Some("lunch".to_owned()), 0);
    known.start_watching(alice(), PresenceState::Online, 10);
    let presence = known.get(alice(), 10);
    assert_eq!(presence.status_msg.as_deref(), Some("lunch"));
    assert_eq!(presence.state, PresenceState::Online);
    assert!(presence.currently_active);
}

#[test]
fn memory_is_bounded_and_keeps_who_is_online() {
    let mut known = Known::default();
    known.start_watching(alice(), PresenceState::Online, 0);
    for number in 0..=ENTRIES_MAX {
        let user_id = OwnedUserId::try_from(format!("@u{number}:example.org")).unwrap();
        known.remember(&user_id, "x".to_owned());
    }
    assert!(known.entries.len() <= ENTRIES_MAX);
    assert_eq!(known.get(alice(), 0).state, PresenceState::Online);
}

fn told(user_id: &str, state: PresenceState) -> Presence {
    Presence {
        user_id: user_id.try_into().unwrap(),
        currently_active: state == PresenceState::Online,
        state,
        status_msg: None,
        last_active_ms: Some(0),
    }
}

#[test]
fn a_user_of_another_server_is_as_it_says_until_it_is_silent_for_long() {
    let mut known = Known::default();
    known.receive(told("@r:remote.example", PresenceState::Online), 1_000);
    let remote = user_id!("@r:remote.example");
    let later = known.get(remote, 1_000 + 2 * PRESENCE_ACTIVE_MS);
    assert!(later.currently_active, "only its server knows better");
    known.sweep(1_000 + REMOTE_PRESENCE_MS - 1);
    assert_eq!(known.get(remote, 0).state, PresenceState::Online);
    known.sweep(1_000 + REMOTE_PRESENCE_MS);
    assert_eq!(known.get(remote, 0).state, PresenceState::Offline);
    assert_eq!(known.version(), 2);
}

#[test]
fn other_servers_cannot_fill_the_memory() {
    let mut known = Known::default();
    known.start_watching(alice(), PresenceState::Online, 0);
    for number in 0..ENTRIES_OF_SERVER_MAX + 5 {
        known.receive(told(&format!("@u{number}:one.example"), PresenceState::Online), 0);
    }
    assert_eq!(known.entries.len(), ENTRIES_OF_SERVER_MAX + 1);
    for server in 0..6 {
        for number in 0..ENTRIES_OF_SERVER_MAX {
            let user = format!("@u{number}:s{server}.example");
            known.receive(told(&user, PresenceState::Online), 0);
        }
    }
    assert!(known.entries.len() <= ENTRIES_MAX);
    let counted: usize = known.by_server.values().sum();
    assert_eq!(counted + 1, known.entries.len());
    assert_eq!(known.get(alice(), 0).state, PresenceState::Online);
}
