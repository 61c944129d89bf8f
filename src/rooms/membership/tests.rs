use ruma::events::room::member::MembershipState;

use crate::{
    Profile,
    tests::life::{Home, membership},
};

#[tokio::test]
async fn memberships_follow_every_change() {
    let home = Home::new().await;
    let (first, second) = (home.public_room("alice").await, home.private_room("alice").await);
    let bob = home.user("bob");
    assert!(home.rooms.memberships(&bob).await.unwrap().is_empty());
    home.join("bob", &first).await.unwrap();
    home.invite("alice", &second, "bob").await.unwrap();
    assert_eq!(home.rooms.joined_rooms(&bob).await.unwrap(), std::slice::from_ref(&first));
    assert_eq!(membership(&home, "bob", &second).await, Some(MembershipState::Invite));
    home.join("bob", &second).await.unwrap();
    home.leave("bob", &first).await.unwrap();
    assert_eq!(home.rooms.joined_rooms(&bob).await.unwrap(), [second]);
    assert_eq!(home.rooms.memberships(&bob).await.unwrap().len(), 2);
}

#[tokio::test]
async fn memberships_of_many_rooms_are_read_over_several_pages() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let mut batch = store::Batch::new();
    for number in 0..1_300 {
        let row = crate::tables::MembershipRow {
            room_id: room.clone(),
            membership: MembershipState::Join,
            event: crate::EventNumber::new(1),
            forgotten: false,
        };
        let key = ("@zoe:home.example".to_owned(), crate::RoomNumber::new(number));
        batch.put(&crate::tables::MEMBERSHIPS, &key, &store::Stamped::pending(store::Json(row)));
    }
    home.rooms.store().commit(batch).await.unwrap();
    let memberships = home.rooms.memberships(&home.user("zoe")).await.unwrap();
    assert_eq!(memberships.len(), 1_300);
}

#[tokio::test]
async fn the_joined_users_of_a_room_follow_every_change() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let (alice, bob) = (home.user("alice"), home.user("bob"));
    let joined = async || {
        let room = home.room(&room).await;
        home.rooms.joined_users(&room).await.unwrap().iter().cloned().collect::<Vec<_>>()
    };
    assert_eq!(joined().await, std::slice::from_ref(&alice));
    home.join("bob", &room).await.unwrap();
    assert_eq!(joined().await, [alice.clone(), bob]);
    home.ban("alice", &room, "bob").await.unwrap();
    assert_eq!(joined().await, [alice]);
}

#[tokio::test]
async fn joining_a_joined_room_makes_no_event() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.join("bob", &room).await.unwrap();
    let before = home.rooms.store().position();
    let profile = Profile { displayname: Some("Bob".to_owned()), avatar_url: None };
    home.rooms
        .join(&home.user("bob"), &room, &[], profile, Some("again".to_owned()))
        .await
        .unwrap();
    assert_eq!(home.rooms.store().position(), before);
}
