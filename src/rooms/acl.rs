//! Server access control lists: which servers may take part in a room.

use event::Pdu;
use ruma::{
    ServerName,
    events::{StateEventType, room::server_acl::RoomServerAclEventContent},
};
use serde_json::{Map, Value as JsonValue};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    room::Room,
};

impl Rooms {
    /// Whether the room's access control list lets a server take part now. A room without a list
    /// lets all.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls)
    ///
    /// # Errors
    /// [`RoomsError::Store`].
    pub async fn acl_allows(&self, room: &Room, server: &ServerName) -> Result<bool> {
        let root = self.current_state(room).await?;
        let event = self.state_event(room, root, &StateEventType::RoomServerAcl, "").await?;
        Ok(event.is_none_or(|event| allows(&event, server)))
    }

    /// Refuses a server that the room's access control list does not let in.
    ///
    /// # Errors
    /// [`RoomsError::Forbidden`] then.
    pub async fn check_acl(&self, room: &Room, server: &ServerName) -> Result<()> {
        if self.acl_allows(room, server).await? {
            return Ok(());
        }
        let room_id = &room.room_id;
        Err(RoomsError::forbidden(format!("{server} is denied access to {room_id} by its ACL")))
    }
}

/// Whether an `m.room.server_acl` event lets a server in. What is not a list is an empty one, and
/// what is not a text in a list matches nothing, so that a mangled event errs on the side of
/// locking out, as the default of `allow` does.
pub(crate) fn allows(acl: &Pdu, server: &ServerName) -> bool {
    let content: Map<String, JsonValue> = acl.content_as().unwrap_or_default();
    let list = |field: &str| -> Vec<String> {
        let entries = content.get(field).and_then(JsonValue::as_array);
        let texts = entries.into_iter().flatten().filter_map(JsonValue::as_str);
        texts.map(str::to_owned).collect()
    };
    let literals = content.get("allow_ip_literals").and_then(JsonValue::as_bool).unwrap_or(true);
    RoomServerAclEventContent::new(literals, list("allow"), list("deny")).is_allowed(server)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ruma::{RoomVersionId, server_name};
    use serde_json::json;

    use super::*;
    use crate::tests::core::{rooms, state, user, wish};

    fn acl(content: JsonValue) -> Pdu {
        let event = json!({
            "type": "m.room.server_acl", "state_key": "", "sender": "@a:one.example",
            "room_id": "!r:one.example", "content": content, "prev_events": [],
            "auth_events": [], "depth": 1, "origin_server_ts": 1,
        });
        let rules = event::rules(&RoomVersionId::V11).unwrap();
        let id = ruma::owned_event_id!("$acl");
        Pdu::from_stored(id, Arc::from(event.to_string()), &rules).unwrap()
    }

    #[test]
    fn deny_goes_before_allow_and_the_port_does_not_count() {
        let event = acl(json!({ "allow": ["*"], "deny": ["*.evil.example", "bad?.example"] }));
        assert!(allows(&event, server_name!("one.example:8448")));
        assert!(!allows(&event, server_name!("x.evil.example:1")));
        assert!(!allows(&event, server_name!("BAD1.example")));
        assert!(allows(&event, server_name!("bad12.example")));
        assert!(allows(&event, server_name!("1.2.3.4")));
    }

    #[test]
    fn address_literals_are_refused_where_the_list_says_so() {
        let event = acl(json!({ "allow": ["*"], "allow_ip_literals": false }));
        assert!(!allows(&event, server_name!("1.2.3.4:80")));
        assert!(!allows(&event, server_name!("[::1]")));
        assert!(allows(&event, server_name!("one.example")));
    }

    #[test]
    fn a_mangled_list_lets_nobody_in() {
        assert!(!allows(&acl(json!({})), server_name!("one.example")));
        assert!(!allows(&acl(json!({ "allow": "*" })), server_name!("one.example")));
        let event = acl(json!({ "allow": ["*", 7], "deny": 1, "allow_ip_literals": "no" }));
        assert!(allows(&event, server_name!("1.2.3.4")));
    }

    #[tokio::test]
    async fn the_list_of_the_current_state_decides() {
        let rooms = rooms().await;
        let alice = user("alice");
        let room_id = rooms.create(&alice, wish(RoomVersionId::V12)).await.unwrap();
        let room = rooms.load_room(&room_id).await.unwrap();
        let evil = server_name!("evil.example");
        assert!(rooms.acl_allows(&room, evil).await.unwrap());
        let content = json!({ "allow": ["*"], "deny": ["evil.example"] });
        rooms.send(&alice, &room_id, state("m.room.server_acl", "", content)).await.unwrap();
        assert!(!rooms.acl_allows(&room, evil).await.unwrap());
        let error = rooms.check_acl(&room, evil).await.unwrap_err();
        assert!(matches!(error, RoomsError::Forbidden { .. }), "{error}");
    }
}
