//! Aliases and the list of published rooms.

use serde_json::{Value, json};

use crate::{kit::encode, rooms_people::Town};

#[tokio::test]
async fn an_alias_leads_to_its_room_until_it_is_deleted() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    let path = "/directory/room/%23pond:localhost";
    town.get(path).await.refused(404, "M_NOT_FOUND");
    alice.put_alias("pond", &room).await.ok();
    let found = town.get(path).await.ok();
    assert_eq!(found, json!({ "room_id": room, "servers": ["localhost"] }));
    assert_eq!(bob.post("/join/%23pond:localhost", json!({})).await.ok()["room_id"], room);
    let taken = alice.put_alias("pond", &room).await;
    assert_eq!(taken.status, 409, "{taken:?}");
    alice.put_alias("lake", &room).await.ok();
    let aliases = bob.get(&format!("/rooms/{room}/aliases")).await.ok();
    let mut aliases: Vec<String> = serde_json::from_value(aliases["aliases"].clone()).unwrap();
    aliases.sort_unstable();
    assert_eq!(aliases, [town.alias("lake"), town.alias("pond")]);
    alice.delete(path).await.ok();
    town.get(path).await.refused(404, "M_NOT_FOUND");
    alice.delete(path).await.refused(404, "M_NOT_FOUND");
    town.get("/directory/room/%23lake:localhost").await.ok();
}

#[tokio::test]
async fn an_alias_is_deleted_by_its_maker_or_by_power() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    carol.join(&room).await.ok();
    bob.put_alias("bobs", &room).await.ok();
    bob.put_alias("bobs2", &room).await.ok();
    carol.delete("/directory/room/%23bobs:localhost").await.refused(403, "M_FORBIDDEN");
    bob.delete("/directory/room/%23bobs:localhost").await.ok();
    alice.delete("/directory/room/%23bobs2:localhost").await.ok();
}

#[tokio::test]
async fn aliases_of_elsewhere_or_to_nowhere_are_refused() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    let answer =
        alice.put("/directory/room/%23pond:elsewhere.example", json!({ "room_id": room })).await;
    assert!(matches!(answer.status, 400 | 403), "{answer:?}");
    let answer = alice.put_alias("pond", "!none:localhost").await;
    assert!((400..=404).contains(&answer.status), "{answer:?}");
    for bad in ["pond", "%23pond", "%23:localhost%20"] {
        let answer = alice.put(&format!("/directory/room/{bad}"), json!({ "room_id": room })).await;
        assert!(matches!(answer.status, 400 | 404), "{bad}: {answer:?}");
    }
    let answer = town.get("/directory/room/notanalias").await;
    assert_eq!(answer.status, 400, "{answer:?}");
}

#[tokio::test]
async fn aliases_are_listed_for_those_who_may_read_the_room() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "room_alias_name": "pond" })).await;
    let path = format!("/rooms/{room}/aliases");
    bob.get(&path).await.refused(403, "M_FORBIDDEN");
    let open = json!({ "history_visibility": "world_readable" });
    alice.set_state(&room, "m.room.history_visibility", "", open).await.ok();
    assert_eq!(bob.get(&path).await.ok()["aliases"], json!([town.alias("pond")]));
}

#[tokio::test]
async fn aliases_are_not_listed_for_those_who_left_or_were_banned() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    let room = alice.create(json!({ "preset": "public_chat", "room_alias_name": "pond" })).await;
    let path = format!("/rooms/{room}/aliases");
    bob.join(&room).await.ok();
    carol.join(&room).await.ok();
    assert_eq!(bob.get(&path).await.ok()["aliases"], json!([town.alias("pond")]));
    bob.leave(&room).await.ok();
    alice.post(&format!("/rooms/{room}/ban"), json!({ "user_id": carol.id })).await.ok();
    for who in [&bob, &carol] {
        who.get(&path).await.refused(403, "M_FORBIDDEN");
    }
    let open = json!({ "history_visibility": "world_readable" });
    alice.set_state(&room, "m.room.history_visibility", "", open).await.ok();
    for who in [&bob, &carol] {
        who.get(&path).await.ok();
    }
}

#[tokio::test]
async fn only_power_publishes_a_room() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let path = format!("/directory/list/room/{room}");
    assert_eq!(town.get(&path).await.ok()["visibility"], "private");
    let public = json!({ "visibility": "public" });
    bob.put(&path, public.clone()).await.refused(403, "M_FORBIDDEN");
    alice.put(&path, public).await.ok();
    assert_eq!(town.get(&path).await.ok()["visibility"], "public");
    alice.put(&path, json!({ "visibility": "private" })).await.ok();
    assert_eq!(town.get(&path).await.ok()["visibility"], "private");
    let bad = alice.put(&path, json!({ "visibility": "glass" })).await;
    assert_eq!(bad.status, 400, "{bad:?}");
    town.get("/directory/list/room/!none:localhost").await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn published_rooms_are_described() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice
        .create(json!({
            "visibility": "public", "name": "Pond", "topic": "Frogs", "room_alias_name": "pond",
            "initial_state": [
                { "type": "m.room.avatar", "content": { "url": "mxc://localhost/frog" } },
                { "type": "m.room.history_visibility",
                  "content": { "history_visibility": "world_readable" } },
                { "type": "m.room.guest_access", "content": { "guest_access": "can_join" } },
            ],
        }))
        .await;
    bob.join(&room).await.ok();
    let list = town.get("/publicRooms").await.ok();
    assert_eq!(list["total_room_count_estimate"], 1);
    assert_eq!(
        list["chunk"],
        json!([{
            "room_id": room, "name": "Pond", "topic": "Frogs", "num_joined_members": 2,
            "canonical_alias": town.alias("pond"), "avatar_url": "mxc://localhost/frog",
            "world_readable": true, "guest_can_join": true,
        }]),
    );
}

#[tokio::test]
async fn the_list_is_paged_and_searched() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let mut rooms = Vec::new();
    for n in 0..5 {
        let body = json!({ "visibility": "public", "name": format!("Pond {n}") });
        rooms.push(alice.create(body).await);
    }
    let space = alice
        .create(json!({
            "visibility": "public", "topic": "All the WATER",
            "creation_content": { "type": "m.space" },
        }))
        .await;
    bob.join(&rooms[3]).await.ok();
    let ids = |list: &Value| -> Vec<String> {
        let rooms = list["chunk"].as_array().unwrap();
        rooms.iter().map(|room| room["room_id"].as_str().unwrap().to_owned()).collect()
    };
    let mut since = String::new();
    let mut seen = Vec::new();
    for _ in 0..10 {
        let page = alice.get(&format!("/publicRooms?limit=2{since}")).await.ok();
        assert!(page["chunk"].as_array().unwrap().len() <= 2);
        seen.extend(ids(&page));
        match page["next_batch"].as_str() {
            Some(next) => since = format!("&since={}", encode(next)),
            None => break,
        }
    }
    assert_eq!(seen[0], rooms[3], "the room with most members comes first");
    seen.sort_unstable();
    let mut all = rooms.clone();
    all.push(space.clone());
    all.sort_unstable();
    assert_eq!(seen, all);
    for (filter, expected) in [
        (json!({ "generic_search_term": "pond 2" }), vec![rooms[2].clone()]),
        (json!({ "generic_search_term": "water" }), vec![space.clone()]),
        (json!({ "room_types": ["m.space"] }), vec![space.clone()]),
        (json!({ "generic_search_term": "pond", "room_types": ["m.space"] }), vec![]),
        (json!({ "generic_search_term": "desert" }), vec![]),
    ] {
        let list = alice.post("/publicRooms", json!({ "filter": filter })).await.ok();
        assert_eq!(ids(&list), expected, "{filter}");
    }
    let body = json!({ "filter": { "room_types": [null] } });
    let list = alice.post("/publicRooms", body).await.ok();
    assert_eq!(ids(&list).len(), 5);
    let list = alice.post("/publicRooms", json!({ "limit": 1 })).await.ok();
    assert_eq!(ids(&list), [rooms[3].clone()]);
    let answer = alice.get("/publicRooms?since=nonsense").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let elsewhere = alice.get("/publicRooms?server=elsewhere.example").await;
    assert!(elsewhere.status >= 400, "{elsewhere:?}");
    let here = alice.get("/publicRooms?server=localhost&limit=1").await.ok();
    assert_eq!(ids(&here).len(), 1);
}
