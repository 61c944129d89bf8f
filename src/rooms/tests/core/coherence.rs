use ruma::events::room::member::MembershipState;
use serde_json::json;

use super::{rooms, state, user};
use crate::{NewEvent, NewRoom, RoomPreset, Rooms, RoomsLogRow};

fn member(name: &str, membership: &str) -> NewEvent {
    state("m.room.member", user(name).as_str(), json!({ "membership": membership }))
}

/// Reads what the log tells of, as soon as it does, and holds it against what the caches say.
async fn follow(rooms: Rooms, events: usize) {
    let mut tail = rooms.store().tail(store::Position::ZERO);
    let mut seen = 0;
    while seen < events {
        for entry in tail.next().await.unwrap().iter() {
            let RoomsLogRow::Event { room, event, member, .. } =
                RoomsLogRow::decode(&entry.payload).unwrap()
            else {
                continue;
            };
            seen += 1;
            let room = rooms.room_by_number(room).await.unwrap();
            let head = rooms.head_of(&room).await.unwrap();
            assert!(head.next_event > event, "the head is older than what the log tells of");
            let stored = rooms.load_event(&room, event).await.unwrap();
            assert_eq!(stored.position, entry.position);
            let Some((user, membership)) = member else { continue };
            let newest = rooms.store().position();
            let record = rooms.memberships(&user).await.unwrap();
            let record = record.get(room.number).unwrap();
            assert!(record.position >= entry.position, "the membership is older than the log");
            let joined = rooms.joined_users(&room).await.unwrap();
            if rooms.store().position() == newest && record.event == event {
                let joins = membership == MembershipState::Join;
                assert_eq!(joined.contains(&user), joins, "the joined users are not up to date");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_the_log_wakes_finds_what_it_tells_of() {
    let rooms = rooms().await;
    let new = NewRoom { preset: Some(RoomPreset::PublicChat), ..NewRoom::default() };
    let room = rooms.create(&user("alice"), new).await.unwrap();
    let names = ["bob", "carol", "dave"];
    let rounds = 60;
    let events = 6 + names.len() * rounds * 2;
    let followers: Vec<_> = (0..3).map(|_| tokio::spawn(follow(rooms.clone(), events))).collect();
    let writers = names.map(|name| {
        let (rooms, room) = (rooms.clone(), room.clone());
        tokio::spawn(async move {
            for _ in 0..rounds {
                rooms.send(&user(name), &room, member(name, "join")).await.unwrap();
                rooms.send(&user(name), &room, member(name, "leave")).await.unwrap();
            }
        })
    });
    for task in writers {
        task.await.unwrap();
    }
    for task in followers {
        task.await.unwrap();
    }
    let room = rooms.load_room(&room).await.unwrap();
    assert_eq!(rooms.joined_users(&room).await.unwrap().len(), 1);
    assert_eq!(rooms.head_of(&room).await.unwrap().joined_count(), 1);
}
