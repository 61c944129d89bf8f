//! Who may read which part of a room's history, for each visibility.

use serde_json::{Value, json};

use crate::rooms_people::{Person, Town};

/// A room and the texts that were said in it, with their event IDs.
struct Story {
    room: String,
    said: Vec<(&'static str, String)>,
}

/// The people of a story: its teller, one invited only, one invited who joined late, one who joined
/// late without an invite being pending for long, one who left, and one who was never there.
struct Cast {
    alice: Person,
    invited: Person,
    late: Person,
    gone: Person,
    never: Person,
}

async fn cast(town: &Town) -> Cast {
    let [alice, invited, late, gone, never] =
        town.people(["alice", "invited", "late", "gone", "never"]).await;
    Cast { alice, invited, late, gone, never }
}

/// Tells the story in a room of this visibility.
async fn tell(cast: &Cast, visibility: &str) -> Story {
    let Cast { alice, invited, late, gone, .. } = cast;
    let state = json!([{
        "type": "m.room.history_visibility",
        "content": { "history_visibility": visibility },
    }]);
    let room = alice.create(json!({ "initial_state": state, "preset": "private_chat" })).await;
    let mut said = Vec::new();
    let mut say = async |text: &'static str| said.push((text, alice.say(&room, text).await));
    say("first").await;
    alice.invite(&room, gone).await.ok();
    gone.join(&room).await.ok();
    say("gone is here").await;
    gone.leave(&room).await.ok();
    say("gone is gone").await;
    alice.invite(&room, invited).await.ok();
    alice.invite(&room, late).await.ok();
    say("late is invited").await;
    late.join(&room).await.ok();
    say("late is here").await;
    Story { room, said }
}

/// The texts that one can read, by paging both ways and one by one; all must agree.
async fn readable(who: &Person, story: &Story) -> Vec<&'static str> {
    let mut one_by_one = Vec::new();
    for (text, event_id) in &story.said {
        let answer = who.event(&story.room, event_id).await;
        match answer.status {
            200 => one_by_one.push(*text),
            _ => answer.hidden(),
        }
    }
    for dir in ["f", "b"] {
        let answer = who.messages(&story.room, &format!("dir={dir}&limit=100")).await;
        if answer.status != 200 {
            answer.hidden();
            assert_eq!(one_by_one, Vec::<&str>::new());
            continue;
        }
        let page = answer.ok();
        let mut texts: Vec<&str> = page["chunk"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|event| event["content"]["body"].as_str())
            .collect();
        if dir == "b" {
            texts.reverse();
        }
        assert_eq!(texts, one_by_one, "{} {dir}", who.id);
    }
    one_by_one
}

const ALL: [&str; 5] = ["first", "gone is here", "gone is gone", "late is invited", "late is here"];

#[tokio::test]
async fn a_world_readable_room_is_read_by_everybody() {
    let town = Town::start().await;
    let cast = cast(&town).await;
    let story = tell(&cast, "world_readable").await;
    let Cast { alice, invited, late, gone, never } = &cast;
    for who in [alice, late, invited, never] {
        assert_eq!(readable(who, &story).await, ALL, "{}", who.id);
    }
    let texts = readable(gone, &story).await;
    assert!(texts.starts_with(&ALL[..2]), "{texts:?}");
    never.get(&format!("/rooms/{}/state", story.room)).await.ok();
    never.state(&story.room, "m.room.create", "").await.ok();
}

#[tokio::test]
async fn a_shared_room_is_read_by_members() {
    let town = Town::start().await;
    let cast = cast(&town).await;
    let story = tell(&cast, "shared").await;
    assert_eq!(readable(&cast.alice, &story).await, ALL);
    assert_eq!(readable(&cast.late, &story).await, ALL);
    assert_eq!(readable(&cast.gone, &story).await, ALL[..2]);
    assert_eq!(readable(&cast.invited, &story).await, [""; 0]);
    assert_eq!(readable(&cast.never, &story).await, [""; 0]);
}

#[tokio::test]
async fn with_invited_one_reads_from_the_invite_on() {
    let town = Town::start().await;
    let cast = cast(&town).await;
    let story = tell(&cast, "invited").await;
    assert_eq!(readable(&cast.alice, &story).await, ALL);
    assert_eq!(readable(&cast.late, &story).await, ALL[3..]);
    assert_eq!(readable(&cast.gone, &story).await, ALL[1..2]);
    assert_eq!(readable(&cast.never, &story).await, [""; 0]);
}

#[tokio::test]
async fn with_joined_one_reads_from_the_join_on() {
    let town = Town::start().await;
    let cast = cast(&town).await;
    let story = tell(&cast, "joined").await;
    assert_eq!(readable(&cast.alice, &story).await, ALL);
    assert_eq!(readable(&cast.late, &story).await, ALL[4..]);
    assert_eq!(readable(&cast.gone, &story).await, ALL[1..2]);
    assert_eq!(readable(&cast.invited, &story).await, [""; 0]);
    assert_eq!(readable(&cast.never, &story).await, [""; 0]);
}

#[tokio::test]
async fn an_outsider_learns_nothing_of_a_room_that_is_not_world_readable() {
    let town = Town::start().await;
    let cast = cast(&town).await;
    for visibility in ["shared", "invited", "joined"] {
        let Story { room, said } = tell(&cast, visibility).await;
        for path in [
            "state".to_owned(),
            "state/m.room.name".to_owned(),
            "state/m.room.create".to_owned(),
            "members".to_owned(),
            "joined_members".to_owned(),
            "messages?dir=b".to_owned(),
            "aliases".to_owned(),
            format!("context/{}", said[0].1),
            format!("event/{}", said[0].1),
        ] {
            cast.never.get(&format!("/rooms/{room}/{path}")).await.hidden();
        }
    }
}

#[tokio::test]
async fn opening_a_room_later_does_not_open_its_past() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let state = json!([{
        "type": "m.room.history_visibility", "content": { "history_visibility": "joined" },
    }]);
    let room = alice.create(json!({ "preset": "public_chat", "initial_state": state })).await;
    let mut said = vec![("secret", alice.say(&room, "secret").await)];
    let open = json!({ "history_visibility": "shared" });
    alice.set_state(&room, "m.room.history_visibility", "", open).await.ok();
    said.push(("open", alice.say(&room, "open").await));
    let close = json!({ "history_visibility": "joined" });
    alice.set_state(&room, "m.room.history_visibility", "", close).await.ok();
    said.push(("closed", alice.say(&room, "closed").await));
    bob.join(&room).await.ok();
    said.push(("joined", alice.say(&room, "joined").await));
    let story = Story { room, said };
    assert_eq!(readable(&bob, &story).await, ["open", "joined"]);
    assert_eq!(readable(&alice, &story).await, ["secret", "open", "closed", "joined"]);
}

#[tokio::test]
async fn ones_own_comings_and_goings_are_always_seen() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    for visibility in ["world_readable", "shared", "invited", "joined"] {
        let state = json!([{
            "type": "m.room.history_visibility", "content": { "history_visibility": visibility },
        }]);
        let room = alice.create(json!({ "initial_state": state })).await;
        alice.say(&room, "before").await;
        alice.invite(&room, &bob).await.ok();
        bob.join(&room).await.ok();
        let joined = bob.state_event(&room, "m.room.member", &bob.id).await;
        bob.event(&room, joined["event_id"].as_str().unwrap()).await.ok();
        bob.leave(&room).await.ok();
        let page = bob.messages(&room, "dir=b&limit=2").await.ok();
        let memberships: Vec<&Value> = page["chunk"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| &event["content"]["membership"])
            .collect();
        assert_eq!(memberships, ["leave", "join"], "{visibility}");
    }
}

#[tokio::test]
async fn one_thrown_out_reads_up_to_then_and_one_never_inside_reads_nothing() {
    let town = Town::start().await;
    let [alice, kicked, banned, refuser] =
        town.people(["alice", "kicked", "banned", "refuser"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    kicked.join(&room).await.ok();
    banned.join(&room).await.ok();
    let mut said = vec![("before", alice.say(&room, "before").await)];
    for (what, whom) in [("kick", &kicked), ("ban", &banned)] {
        let body = json!({ "user_id": whom.id });
        alice.post(&format!("/rooms/{room}/{what}"), body).await.ok();
    }
    alice.invite(&room, &refuser).await.ok();
    refuser.leave(&room).await.ok();
    said.push(("after", alice.say(&room, "after").await));
    let story = Story { room, said };
    assert_eq!(readable(&kicked, &story).await, ["before"]);
    assert_eq!(readable(&banned, &story).await, ["before"]);
    assert_eq!(readable(&refuser, &story).await, [""; 0]);
    // Invited again, one still reads what one has read before, and no more.
    alice.invite(&story.room, &kicked).await.ok();
    assert_eq!(readable(&kicked, &story).await, ["before"]);
    kicked.join(&story.room).await.ok();
    assert_eq!(readable(&kicked, &story).await, ["before", "after"]);
}
