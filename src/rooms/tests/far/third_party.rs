use event::ServerKey;
use ruma::{
    CanonicalJsonObject, RoomVersionId, ServerName, UserId, events::room::member::MembershipState,
};
use serde_json::{json, value::to_raw_value};

use super::Far;
use crate::{RemoteError, RoomsError, ThirdPartyInvite};

/// What an identity server says: the token belongs to the user.
fn signed(key: &ServerKey, user: &UserId, token: &str) -> Box<serde_json::value::RawValue> {
    let said = json!({ "mxid": user, "token": token });
    let mut said: CanonicalJsonObject = serde_json::from_value(said).unwrap();
    key.sign_json(&ServerName::parse("id.example").unwrap(), &mut said).unwrap();
    to_raw_value(&said).unwrap()
}

#[tokio::test]
async fn an_invite_to_an_address_becomes_one_of_the_user_whose_it_is() {
    for version in [RoomVersionId::V6, RoomVersionId::V12] {
        let far = Far::new(2).await;
        let (alice, bob) = (far.net.user("alice", 0), far.net.user("bob", 1));
        let room = far.private_room(version).await;
        let key = ServerKey::from_parts([77; 32], "0").unwrap();
        let public_key = key.public_key_base64();
        let sent = json!({
            "display_name": "b...@example.com",
            "key_validity_url": "https://id.example/valid",
            "public_key": public_key,
            "public_keys": [{ "public_key": public_key }],
        });
        let set = far.net.nodes[0].set(&alice, &room, "m.room.third_party_invite", "tok", sent);
        set.await.unwrap();
        let invite = |signed| ThirdPartyInvite {
            room_id: room.clone(),
            sender: alice.clone(),
            user: bob.clone(),
            signed,
        };
        let rooms = &far.net.nodes[1].rooms;
        // Of another identity server, and of another user.
        let other = ServerKey::from_parts([78; 32], "0").unwrap();
        let carol = far.net.user("carol", 1);
        for forged in
            [signed(&other, &bob, "tok"), signed(&key, &carol, "tok"), signed(&key, &bob, "x")]
        {
            let refused = rooms.bind_third_party(invite(forged)).await;
            let Err(RoomsError::Servers { failures }) = &refused else { panic!("{refused:?}") };
            let forbidden = matches!(&failures[..], [RemoteError::Refused { status: 403, .. }]);
            assert!(forbidden, "{failures:?}");
            assert_eq!(far.membership(("bob", 1), &room).await, None);
        }
        rooms.bind_third_party(invite(signed(&key, &bob, "tok"))).await.unwrap();
        assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Invite));
        assert_eq!(far.seen(0, &bob, &room).await, Some(MembershipState::Invite));
        far.join(("bob", 1), &room, &[]).await.unwrap();
        far.are_sound().await;
    }
}
