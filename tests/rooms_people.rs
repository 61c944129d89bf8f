//! People of one server and what they do in rooms: short words for the room tests.

use serde_json::{Value, json};

use crate::kit::{Client, Process, TestServer, User, encode, reply, server, server_with};

/// A running server.
#[derive(Debug)]
pub(crate) struct Town {
    server: TestServer,
}

impl Town {
    /// Starts a server.
    pub(crate) async fn start() -> Self {
        Self { server: server().await }
    }

    /// Starts a server that lets guests in.
    pub(crate) async fn start_with_guests() -> Self {
        Self { server: server_with(|config| config.registration.guests = true).await }
    }

    /// Lets a guest in.
    pub(crate) async fn guest(&self) -> Person {
        let path = "/_matrix/client/v3/register?kind=guest";
        let answer = self.server.client().do_post(path, json!({})).await;
        Person::new(User::new(self.server.client(), &answer))
    }

    /// A client without an access token.
    pub(crate) fn nobody(&self) -> &Client {
        self.server.client()
    }

    /// The server's name.
    pub(crate) fn name(&self) -> &'static str {
        "localhost"
    }

    /// An alias on this server.
    pub(crate) fn alias(&self, localpart: &str) -> String {
        format!("#{localpart}:{}", self.name())
    }

    /// Signs up a person.
    pub(crate) async fn person(&self, localpart: &str) -> Person {
        Person::new(self.server.register(localpart).await)
    }

    /// Signs up some people.
    pub(crate) async fn people<const N: usize>(&self, localparts: [&str; N]) -> [Person; N] {
        let mut people = Vec::with_capacity(N);
        for localpart in localparts {
            people.push(self.person(localpart).await);
        }
        people.try_into().expect("as many people as names")
    }

    /// Logs a person in on a new device, or on one they had.
    pub(crate) async fn log_in(&self, localpart: &str, device_id: Option<&str>) -> Person {
        let extra = device_id.map_or(json!({}), |id| json!({ "device_id": id }));
        Person::new(self.server.log_in(localpart, extra).await)
    }

    /// Stops and starts the server.
    pub(crate) async fn restart(&mut self) {
        self.server.restart().await;
    }

    /// Stops the server and lets the program check its store; gives what it says.
    pub(crate) async fn stop_and_check(&mut self) -> String {
        self.server.stop().await;
        let output = Process::new(self.server.data_dir.path()).run(&["store", "check"]).await;
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Reads without an access token.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::new(path, self.server.client().get(&full(path)).await)
    }
}

/// Someone with a device.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) user: User,
}

/// What the server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    request: String,
}

impl Answer {
    fn new(request: &str, (status, body): (u16, Value)) -> Self {
        Self { status, body, request: request.to_owned() }
    }

    /// The body of a 200.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}: {}", self.request, self.body);
        self.body
    }

    /// The event ID in the body of a 200.
    #[track_caller]
    pub(crate) fn event_id(self) -> String {
        self.ok()["event_id"].as_str().expect("an event ID").to_owned()
    }

    /// Checks a refusal.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, errcode: &str) {
        let (got, body, request) = (self.status, &self.body, &self.request);
        assert_eq!((got, &body["errcode"]), (status, &json!(errcode)), "{request}: {body}");
        assert!(body["error"].is_string(), "{request}: {body}");
    }

    /// Checks that a room or event is kept from the asker.
    #[track_caller]
    pub(crate) fn hidden(self) {
        let (status, body, request) = (self.status, &self.body, &self.request);
        assert!(matches!(status, 403 | 404), "{request}: {status} {body}");
    }
}

fn full(path: &str) -> String {
    format!("/_matrix/client/v3{path}")
}

/// The content of a text message.
pub(crate) fn text_of(text: &str) -> Value {
    json!({ "msgtype": "m.text", "body": text })
}

/// Types and state keys of events.
pub(crate) fn type_keys(events: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events = events.as_array().expect("a list of events");
    events.iter().map(|event| (text(&event["type"]), text(&event["state_key"]))).collect()
}

/// IDs of events.
pub(crate) fn event_ids(events: &Value) -> Vec<String> {
    let events = events.as_array().expect("a list of events");
    events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
}

impl Person {
    fn new(user: User) -> Self {
        Self { id: user.user_id.clone(), user }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::new(path, self.user.get(&full(path)).await)
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::new(path, self.user.post(&full(path), body).await)
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        Answer::new(path, self.user.put(&full(path), body).await)
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::new(path, self.user.delete(&full(path)).await)
    }

    pub(crate) async fn put_text(&self, path: &str, body: &str) -> Answer {
        self.put_bytes(path, body.as_bytes()).await
    }

    pub(crate) async fn put_bytes(&self, path: &str, body: &[u8]) -> Answer {
        let request = self.user.request(http::Method::PUT, &full(path)).body(body.to_vec());
        Answer::new(path, reply(request).await)
    }

    pub(crate) async fn post_text(&self, path: &str, body: &str) -> Answer {
        let request = self.user.request(http::Method::POST, &full(path)).body(body.to_owned());
        Answer::new(path, reply(request).await)
    }

    pub(crate) async fn create(&self, body: Value) -> String {
        self.user.create_room(body).await
    }

    pub(crate) async fn say(&self, room: &str, text: &str) -> String {
        self.user.say(room, text).await
    }

    pub(crate) async fn state(&self, room: &str, kind: &str, key: &str) -> Answer {
        Answer::new(kind, self.user.get_state(room, kind, key).await)
    }

    pub(crate) async fn state_event(&self, room: &str, kind: &str, key: &str) -> Value {
        let path = format!("/rooms/{room}/state/{kind}/{}?format=event", encode(key));
        self.get(&path).await.ok()
    }

    pub(crate) async fn set_state(
        &self,
        room: &str,
        kind: &str,
        key: &str,
        content: Value,
    ) -> Answer {
        Answer::new(kind, self.user.put_state(room, kind, key, content).await)
    }

    pub(crate) async fn set_levels(&self, room: &str, content: Value) -> Answer {
        self.set_state(room, "m.room.power_levels", "", content).await
    }

    /// Sets one user's power.
    pub(crate) async fn empower(&self, room: &str, other: &Self, level: i64) {
        let mut levels = self.state(room, "m.room.power_levels", "").await.ok();
        levels["users"][&other.id] = json!(level);
        self.set_levels(room, levels).await.ok();
    }

    pub(crate) async fn event(&self, room: &str, event_id: &str) -> Answer {
        self.get(&format!("/rooms/{room}/event/{}", encode(event_id))).await
    }

    pub(crate) async fn messages(&self, room: &str, query: &str) -> Answer {
        self.get(&format!("/rooms/{room}/messages?{query}")).await
    }

    pub(crate) async fn join(&self, room: &str) -> Answer {
        self.post(&format!("/rooms/{room}/join"), json!({})).await
    }

    pub(crate) async fn leave(&self, room: &str) -> Answer {
        self.post(&format!("/rooms/{room}/leave"), json!({})).await
    }

    pub(crate) async fn invite(&self, room: &str, other: &Self) -> Answer {
        self.post(&format!("/rooms/{room}/invite"), json!({ "user_id": other.id })).await
    }

    /// The membership of another, as this person sees it.
    pub(crate) async fn membership(&self, room: &str, other: &Self) -> String {
        let member = self.state(room, "m.room.member", &other.id).await.ok();
        member["membership"].as_str().expect("a membership").to_owned()
    }

    /// The users in the answer of `/members`, sorted.
    pub(crate) async fn members(&self, room: &str, query: &str) -> Vec<String> {
        let answer = self.get(&format!("/rooms/{room}/members{query}")).await.ok();
        let chunk = answer["chunk"].as_array().expect("a list of members");
        let mut users: Vec<String> =
            chunk.iter().map(|event| event["state_key"].as_str().unwrap().to_owned()).collect();
        users.sort_unstable();
        users
    }

    pub(crate) async fn joined_rooms(&self) -> Vec<String> {
        let answer = self.get("/joined_rooms").await.ok();
        serde_json::from_value(answer["joined_rooms"].clone()).expect("a list of rooms")
    }

    pub(crate) async fn put_alias(&self, localpart: &str, room: &str) -> Answer {
        let path = format!("/directory/room/%23{localpart}:localhost");
        self.put(&path, json!({ "room_id": room })).await
    }

    /// Syncs at once.
    pub(crate) async fn sync(&self, since: Option<&str>) -> Value {
        self.user.sync(since, "timeout=0").await
    }
}
