use ruma::events::room::member::MembershipState;

use crate::{MembersQuery, PageToken, Profile, RoomsError, tests::life::Home};

#[tokio::test]
async fn members_are_listed_by_membership_and_as_of_a_place() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let alice = home.user("alice");
    home.join("bob", &room).await.unwrap();
    let at = PageToken::after_all(home.rooms.store().position());
    home.invite("alice", &room, "carol").await.unwrap();
    home.leave("bob", &room).await.unwrap();
    let listed = async |query: MembersQuery| {
        let members = home.rooms.members(&alice, &room, query).await.unwrap();
        let mut names: Vec<_> = members
            .iter()
            .map(|event| {
                let user = event.event.pdu.state_key.clone().unwrap();
                let membership = event.event.pdu.membership().unwrap();
                format!("{} {membership}", &user[1..user.find(':').unwrap()])
            })
            .collect();
        names.sort();
        names
    };
    let all = MembersQuery::default();
    assert_eq!(listed(all.clone()).await, ["alice join", "bob leave", "carol invite"]);
    let then = MembersQuery { at: Some(at), ..all.clone() };
    assert_eq!(listed(then).await, ["alice join", "bob join"]);
    let only = MembersQuery { membership: Some(MembershipState::Join), ..all.clone() };
    assert_eq!(listed(only).await, ["alice join"]);
    let not = MembersQuery { not_membership: Some(MembershipState::Leave), ..all };
    assert_eq!(listed(not).await, ["alice join", "carol invite"]);
}

#[tokio::test]
async fn members_of_a_time_that_one_may_not_see_are_not_shown() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.set_visibility("alice", &room, "joined").await;
    home.say("alice", &room, "hello").await;
    let at = Some(PageToken::after_all(home.rooms.store().position()));
    home.join("bob", &room).await.unwrap();
    let query = MembersQuery { at, ..MembersQuery::default() };
    let refused = home.rooms.members(&home.user("bob"), &room, query.clone()).await;
    assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
    assert_eq!(home.rooms.members(&home.user("alice"), &room, query).await.unwrap().len(), 1);
}

#[tokio::test]
async fn joined_members_are_told_to_joined_members_only() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let (alice, bob) = (home.user("alice"), home.user("bob"));
    let profile = Profile {
        displayname: Some("Bob".to_owned()),
        avatar_url: Some("mxc://home.example/bob".to_owned()),
    };
    home.rooms.join(&bob, &room, &[], profile.clone(), None).await.unwrap();
    home.invite("alice", &room, "carol").await.unwrap();
    let members = home.rooms.joined_members(&alice, &room).await.unwrap();
    assert_eq!(members, [(alice, Profile::default()), (bob.clone(), profile)]);
    let invited = home.rooms.joined_members(&home.user("carol"), &room).await;
    assert!(matches!(invited, Err(RoomsError::Forbidden { .. })), "{invited:?}");
    home.leave("bob", &room).await.unwrap();
    let left = home.rooms.joined_members(&bob, &room).await;
    assert!(matches!(left, Err(RoomsError::Forbidden { .. })), "{left:?}");
}
