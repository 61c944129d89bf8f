//! A room that a [`Peer`] made itself, and lets others join.

use std::sync::{Arc, Mutex};

use axum::response::IntoResponse as _;
use http::{Method, StatusCode};
use ruma::RoomVersionId;
use serde_json::{Value, json};

use super::{
    peer::{Heard, Peer},
    peer_room::{Made, PeerRoom, event_id},
};

/// A room with the peer as its host, shared with the peer's answers.
pub(crate) type Hosted = Arc<Mutex<PeerRoom>>;

impl Peer {
    /// Makes a public room with a creator of the peer's first name and some more members, who are
    /// spread over all its names.
    pub(crate) fn found(&self, version: &RoomVersionId, members: usize) -> PeerRoom {
        let rules = version.rules().unwrap();
        let user = format!("@creator:{}", self.name());
        let room_id = format!("!hosted-{version}:{}", self.name());
        let mut room = PeerRoom::new(room_id, rules, user.clone());
        let mut content = json!({ "room_version": version });
        if !room.rules.authorization.use_room_create_sender {
            content["creator"] = user.clone().into();
        }
        let mut create = room.draft("m.room.create", Some(""), content);
        if room.rules.authorization.room_create_event_id_as_room_id {
            create.as_object_mut().unwrap().remove("room_id");
        }
        let create = self.seal(create, &room.rules);
        if room.rules.authorization.room_create_event_id_as_room_id {
            room.room_id = create.event_id.replacen('$', "!", 1);
        }
        room.follow(&create);
        let mut powers = json!({ "users": { user.clone(): 100 } });
        if room.rules.authorization.explicitly_privilege_room_creators {
            powers = json!({ "users": {} });
        }
        for (kind, key, content) in [
            ("m.room.member", user.as_str(), json!({ "membership": "join" })),
            ("m.room.power_levels", "", powers),
            ("m.room.join_rules", "", json!({ "join_rule": "public" })),
            ("m.room.history_visibility", "", json!({ "history_visibility": "shared" })),
        ] {
            self.put_state(&mut room, kind, key, content);
        }
        for number in 0..members {
            let server = &self.names()[number % self.names().len()];
            room.user = format!("@member-{number}:{server}");
            let content =
                json!({ "membership": "join", "displayname": format!("Member {number}") });
            let member = room.user.clone();
            self.put_state(&mut room, "m.room.member", &member, content);
        }
        room.user = user;
        room
    }

    /// Sets a state event of the room's user.
    pub(crate) fn put_state(
        &self,
        room: &mut PeerRoom,
        kind: &str,
        key: &str,
        content: Value,
    ) -> Made {
        let made = self.seal(room.draft(kind, Some(key), content), &room.rules);
        room.follow(&made);
        made
    }

    /// Lets others join the room, and answers what they ask about it.
    pub(crate) fn host(&self, version: &str, room: PeerRoom) -> Hosted {
        let hosted = Arc::new(Mutex::new(room));
        let version = version.to_owned();
        let with = |answer: fn(&mut PeerRoom, &str, &Heard) -> Value| {
            let (room, version) = (Arc::clone(&hosted), version.clone());
            move |heard: &Heard| {
                axum::Json(answer(&mut room.lock().unwrap(), &version, heard)).into_response()
            }
        };
        self.on(Method::GET, "/make_join/", with(|room, version, heard| {
            json!({ "room_version": version, "event": room.join_template(heard) })
        }));
        self.on(
            Method::PUT,
            "/v2/send_join/",
            with(|room, _, heard| {
                let omit = heard.uri.contains("omit_members=true");
                let answer = room.join_answer(omit);
                let event = heard.json();
                let event_id = event_id(&event, &room.rules);
                room.follow(&Made { event_id, json: event });
                answer
            }),
        );
        self.on(
            Method::GET,
            "/state/",
            with(|room, _, _| {
                let answer = room.join_answer(false);
                json!({ "pdus": answer["state"], "auth_chain": answer["auth_chain"] })
            }),
        );
        self.on(
            Method::GET,
            "/state_ids/",
            with(|room, _, _| {
                let ids: Vec<_> = room.state.values().map(|made| made.event_id.clone()).collect();
                let auth: Vec<_> = room.auth_chain().map(|made| made.event_id.clone()).collect();
                json!({ "pdu_ids": ids, "auth_chain_ids": auth })
            }),
        );
        let room = Arc::clone(&hosted);
        self.on(Method::GET, "/v1/event/", move |heard| {
            let room = room.lock().unwrap();
            let wanted = heard.uri.rsplit('/').next().unwrap_or("").replace("%24", "$");
            match room.state.values().find(|made| made.event_id == wanted) {
                Some(made) => axum::Json(json!({ "pdus": [made.json] })).into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        });
        self.on_json(Method::POST, "/get_missing_events/", json!({ "events": [] }));
        self.on_json(Method::GET, "/backfill/", json!({ "pdus": [] }));
        hosted
    }
}

impl PeerRoom {
    /// The event that a user has to complete to join.
    fn join_template(&self, heard: &Heard) -> Value {
        let path = heard.uri.split('?').next().unwrap_or("");
        let user = path.rsplit('/').next().unwrap_or("");
        let user = percent_encoding::percent_decode_str(user).decode_utf8().unwrap().into_owned();
        let room = PeerRoom { user: user.clone(), ..self.clone() };
        room.draft("m.room.member", Some(&user), json!({ "membership": "join" }))
    }

    /// What a join is answered with: the state before it.
    pub(crate) fn join_answer(&self, omit_members: bool) -> Value {
        let is_needed = |made: &&Made| {
            !omit_members || made.json["type"] != "m.room.member" || self.is_auth(made)
        };
        let state: Vec<_> = self.state.values().filter(is_needed).map(|made| &made.json).collect();
        let auth: Vec<_> = self.auth_chain().map(|made| &made.json).collect();
        let mut answer =
            json!({ "state": state, "auth_chain": auth, "members_omitted": omit_members });
        if omit_members {
            let members = self.state.keys().filter(|(kind, _)| kind == "m.room.member");
            let servers: std::collections::BTreeSet<_> =
                members.filter_map(|(_, key)| Some(key.split_once(':')?.1)).collect();
            answer["servers_in_room"] = json!(servers);
        }
        answer
    }

    /// The events that allow others.
    fn auth_chain(&self) -> impl Iterator<Item = &Made> {
        self.state.values().filter(|made| self.is_auth(made))
    }

    fn is_auth(&self, made: &Made) -> bool {
        match made.json["type"].as_str() {
            Some("m.room.create" | "m.room.power_levels" | "m.room.join_rules") => true,
            Some("m.room.member") => made.json["state_key"] == self.user.as_str(),
            _ => false,
        }
    }
}
