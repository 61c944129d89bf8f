use std::collections::BTreeMap;

use event::{Draft, Pdu, ServerKey};
use ruma::{
    MilliSecondsSinceUnixEpoch, RoomId, RoomVersionId, ServerName, UInt, UserId,
    events::{
        StateEventType, TimelineEventType,
        room::{history_visibility::HistoryVisibility, member::MembershipState},
    },
};
use serde_json::{json, value::to_raw_value};

use super::{Around, Later, may_see};
use crate::{MembersQuery, tests::life::Home};

const VISIBILITIES: [HistoryVisibility; 4] = [
    HistoryVisibility::WorldReadable,
    HistoryVisibility::Shared,
    HistoryVisibility::Invited,
    HistoryVisibility::Joined,
];

const MEMBERSHIPS: [MembershipState; 5] = [
    MembershipState::Join,
    MembershipState::Invite,
    MembershipState::Knock,
    MembershipState::Leave,
    MembershipState::Ban,
];

/// What the specification says of an ordinary event, written down case by case: for each visibility
/// and each membership of
/// [`MEMBERSHIPS`], whether the event is shown to one who did not join later, and to one who did.
const EXPECTED: [[(bool, bool); 5]; 4] = [
    // World readable: to everybody.
    [(true, true), (true, true), (true, true), (true, true), (true, true)],
    // Shared: to members, and to those who came later.
    [(true, true), (false, true), (false, true), (false, true), (false, true)],
    // Invited: to members and to those who were invited.
    [(true, true), (true, true), (false, false), (false, false), (false, false)],
    // Joined: to members.
    [(true, true), (false, false), (false, false), (false, false), (false, false)],
];

fn pdu(kind: TimelineEventType, state_key: Option<&str>) -> Pdu {
    let draft = Draft {
        room_id: Some(RoomId::parse("!room:home.example").unwrap()),
        sender: UserId::parse("@alice:home.example").unwrap(),
        kind,
        state_key: state_key.map(str::to_owned),
        content: to_raw_value(&json!({})).unwrap(),
        redacts: None,
        prev_events: Vec::new(),
        auth_events: Vec::new(),
        reference_hashes: BTreeMap::new(),
        depth: UInt::from(1_u32),
        origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::from(1_u32)),
    };
    let key = ServerKey::from_parts([9; 32], "k1").unwrap();
    let rules = event::rules(&RoomVersionId::V11).unwrap();
    event::build(draft, <&ServerName>::try_from("home.example").unwrap(), &key, &rules).unwrap()
}

fn cases() -> impl Iterator<Item = (Around, bool, bool)> {
    VISIBILITIES.into_iter().zip(EXPECTED).flat_map(|(visibility, row)| {
        MEMBERSHIPS.into_iter().zip(row).map(move |(membership, (never, later))| {
            (Around { visibility: visibility.clone(), membership }, never, later)
        })
    })
}

#[test]
fn an_ordinary_event_is_shown_as_the_table_says() {
    let viewer = UserId::parse("@viewer:home.example").unwrap();
    let others = [
        pdu(TimelineEventType::RoomMessage, None),
        pdu(TimelineEventType::RoomTopic, Some("")),
        pdu(TimelineEventType::RoomMember, Some("@other:home.example")),
    ];
    for (around, never, later) in cases() {
        for event in &others {
            let shown = |when| may_see(event, &viewer, &around, &around, when);
            assert_eq!(shown(Later::NotJoined), never, "{around:?}, {}", event.kind);
            assert_eq!(shown(Later::Joined), later, "{around:?}, {}", event.kind);
        }
    }
}

#[test]
fn events_about_the_visibility_and_about_oneself_are_shown_when_either_side_allows_it() {
    let viewer = UserId::parse("@viewer:home.example").unwrap();
    let own = pdu(TimelineEventType::RoomMember, Some(viewer.as_str()));
    let rule = pdu(TimelineEventType::RoomHistoryVisibility, Some(""));
    for (before, before_never, before_later) in cases() {
        for (after, after_never, after_later) in cases() {
            for event in [&own, &rule] {
                let shown = |when| may_see(event, &viewer, &before, &after, when);
                assert_eq!(shown(Later::NotJoined), before_never || after_never);
                assert_eq!(shown(Later::Joined), before_later || after_later);
            }
        }
    }
}

#[test]
fn a_visibility_that_we_do_not_know_counts_as_shared() {
    let visibility = HistoryVisibility::from("m.moonlight");
    let around = Around { visibility, membership: MembershipState::Leave };
    assert!(around.allows(Later::Joined));
    assert!(!around.allows(Later::NotJoined));
}

/// What bob reads in a room of a visibility, in which something was said in each phase of his
/// membership.
async fn what_bob_reads(visibility: &str) -> Vec<String> {
    let home = Home::new().await;
    let room = home.private_room("alice").await;
    home.set_visibility("alice", &room, visibility).await;
    home.say("alice", &room, "before").await;
    home.invite("alice", &room, "bob").await.unwrap();
    home.say("alice", &room, "invited").await;
    home.join("bob", &room).await.unwrap();
    home.say("alice", &room, "joined").await;
    home.leave("bob", &room).await.unwrap();
    home.say("alice", &room, "left").await;
    home.texts("bob", &room).await
}

#[tokio::test]
async fn one_who_left_reads_the_room_as_they_left_it() {
    assert_eq!(what_bob_reads("shared").await, ["before", "invited", "joined"]);
    assert_eq!(what_bob_reads("invited").await, ["invited", "joined"]);
    assert_eq!(what_bob_reads("joined").await, ["joined"]);
    assert_eq!(what_bob_reads("world_readable").await, ["before", "invited", "joined", "left"]);
}

#[tokio::test]
async fn one_who_comes_back_reads_what_was_said_meanwhile_if_it_is_shared() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.join("bob", &room).await.unwrap();
    home.leave("bob", &room).await.unwrap();
    home.say("alice", &room, "meanwhile, shared").await;
    home.set_visibility("alice", &room, "joined").await;
    home.say("alice", &room, "meanwhile, joined").await;
    home.join("bob", &room).await.unwrap();
    home.say("alice", &room, "after").await;
    assert_eq!(home.texts("bob", &room).await, ["meanwhile, shared", "after"]);
}

#[tokio::test]
async fn one_invited_again_or_banned_still_reads_what_they_could() {
    let home = Home::new().await;
    let room = home.private_room("alice").await;
    home.invite("alice", &room, "bob").await.unwrap();
    home.join("bob", &room).await.unwrap();
    home.say("alice", &room, "joined").await;
    home.leave("bob", &room).await.unwrap();
    home.say("alice", &room, "left").await;
    home.invite("alice", &room, "bob").await.unwrap();
    assert_eq!(home.texts("bob", &room).await, ["joined"]);
    home.ban("alice", &room, "bob").await.unwrap();
    assert_eq!(home.texts("bob", &room).await, ["joined"]);
}

#[tokio::test]
async fn strangers_and_the_forgetful_read_nothing() {
    let home = Home::new().await;
    let room = home.private_room("alice").await;
    let said = home.say("alice", &room, "secret").await;
    home.invite("alice", &room, "bob").await.unwrap();
    for user in ["bob", "carol"] {
        let query = (None, 'b', 10);
        assert!(home.messages(user, &room, query, json!({})).await.is_err(), "{user}");
        assert!(home.rooms.event(&home.user(user), &room, &said).await.is_err(), "{user}");
        assert!(home.rooms.state(&home.user(user), &room).await.is_err(), "{user}");
    }
    home.join("bob", &room).await.unwrap();
    assert!(home.rooms.event(&home.user("bob"), &room, &said).await.is_ok());
    home.leave("bob", &room).await.unwrap();
    assert!(home.rooms.event(&home.user("bob"), &room, &said).await.is_ok());
    home.rooms.forget(&home.user("bob"), &room).await.unwrap();
    assert!(home.rooms.event(&home.user("bob"), &room, &said).await.is_err());
    assert!(home.messages("bob", &room, (None, 'b', 10), json!({})).await.is_err());
}

#[tokio::test]
async fn everybody_reads_a_world_readable_room() {
    let home = Home::new().await;
    let room = home.private_room("alice").await;
    home.say("alice", &room, "before").await;
    home.set_visibility("alice", &room, "world_readable").await;
    home.say("alice", &room, "open").await;
    assert_eq!(home.texts("carol", &room).await, ["open"]);
    assert!(!home.rooms.state(&home.user("carol"), &room).await.unwrap().is_empty());
    home.set_visibility("alice", &room, "shared").await;
    assert!(home.messages("carol", &room, (None, 'b', 10), json!({})).await.is_err());
}

#[tokio::test]
async fn one_who_left_gets_the_state_of_then_even_if_the_room_is_open_now() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.join("bob", &room).await.unwrap();
    home.set("alice", &room, "m.room.topic", "", json!({ "topic": "then" })).await;
    home.leave("bob", &room).await.unwrap();
    home.set_visibility("alice", &room, "world_readable").await;
    home.set("alice", &room, "m.room.topic", "", json!({ "topic": "now" })).await;
    home.join("dave", &room).await.unwrap();
    for (name, topic, len) in [("bob", "then", 2), ("carol", "now", 3), ("dave", "now", 3)] {
        let viewer = home.user(name);
        let kind = StateEventType::RoomTopic;
        let event = home.rooms.state_event_for(&viewer, &room, &kind, "").await.unwrap();
        let content: serde_json::Value = event.event.pdu.content_as().unwrap();
        assert_eq!(content["topic"], topic, "{name}");
        let state = home.rooms.state(&viewer, &room).await.unwrap();
        assert!(state.iter().any(|event| event.event.pdu.content.get().contains(topic)), "{name}");
        let members = home.rooms.members(&viewer, &room, MembersQuery::default()).await.unwrap();
        assert_eq!(members.len(), len, "{name}");
    }
    let said = home.say("alice", &room, "open").await;
    assert!(home.rooms.event(&home.user("bob"), &room, &said).await.is_ok());
}
