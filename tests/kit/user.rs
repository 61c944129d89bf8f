//! A user with a device: what people do with their clients, in one line each.

use std::{
    ops::Deref,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use super::client::{Client, Reply, encode};

/// Longest that [`User::sync_until`] waits for what should come.
const SYNC_UNTIL: Duration = Duration::from_secs(20);

/// The password of every user whom the kit registers.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// Makes transaction IDs differ.
static TXN: AtomicU64 = AtomicU64::new(0);

/// A user who is logged in with one device. Requests of [`Client`] carry the access token.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) user_id: String,
    pub(crate) device_id: String,
    pub(crate) token: String,
    client: Client,
}

impl Deref for User {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl User {
    /// Takes the user out of an answer to `/register` or `/login`.
    pub(crate) fn new(client: &Client, answer: &Value) -> Self {
        let field = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        let token = field("access_token");
        assert!(!token.is_empty(), "no access token in {answer}");
        let client = client.with_token(&token);
        Self { user_id: field("user_id"), device_id: field("device_id"), token, client }
    }

    /// Registers a user with [`PASSWORD`] and logs a device in.
    pub(crate) async fn register(client: &Client, localpart: &str) -> Self {
        let body = json!({
            "username": localpart, "password": PASSWORD, "auth": { "type": "m.login.dummy" },
        });
        let answer = client.do_post("/_matrix/client/v3/register", body).await;
        Self::new(client, &answer)
    }

    /// Creates a room and returns its ID.
    pub(crate) async fn create_room(&self, body: Value) -> String {
        let answer = self.do_post("/_matrix/client/v3/createRoom", body).await;
        answer["room_id"].as_str().unwrap().to_owned()
    }

    /// Sends a message event with a transaction ID of the test's choosing.
    pub(crate) async fn send(&self, room: &str, kind: &str, txn: &str, content: Value) -> Reply {
        let (room, kind, txn) = (encode(room), encode(kind), encode(txn));
        self.put(&format!("/_matrix/client/v3/rooms/{room}/send/{kind}/{txn}"), content).await
    }

    /// Sends a text and returns its event ID.
    pub(crate) async fn say(&self, room: &str, text: &str) -> String {
        let content = json!({ "msgtype": "m.text", "body": text });
        let txn = format!("kit{}", TXN.fetch_add(1, Ordering::Relaxed));
        let (status, answer) = self.send(room, "m.room.message", &txn, content).await;
        assert_eq!(status, 200, "{answer}");
        answer["event_id"].as_str().unwrap().to_owned()
    }

    /// Sends a state event.
    pub(crate) async fn put_state(
        &self,
        room: &str,
        kind: &str,
        key: &str,
        content: Value,
    ) -> Reply {
        let (room, kind, key) = (encode(room), encode(kind), encode(key));
        self.put(&format!("/_matrix/client/v3/rooms/{room}/state/{kind}/{key}"), content).await
    }

    /// Reads the content of a state event.
    pub(crate) async fn get_state(&self, room: &str, kind: &str, key: &str) -> Reply {
        let (room, kind, key) = (encode(room), encode(kind), encode(key));
        self.get(&format!("/_matrix/client/v3/rooms/{room}/state/{kind}/{key}")).await
    }

    /// Does something to a room that is a `POST` with a body: `join`, `invite`, `kick`,
    /// `read_markers` …
    pub(crate) async fn room_post(&self, room: &str, action: &str, body: Value) -> Reply {
        self.post(&format!("/_matrix/client/v3/rooms/{}/{action}", encode(room)), body).await
    }

    /// Invites a user, who must be invitable.
    pub(crate) async fn invite(&self, room: &str, target: &User) {
        let reply = self.room_post(room, "invite", json!({ "user_id": target.user_id })).await;
        assert_eq!(reply.0, 200, "{}", reply.1);
    }

    /// Joins a room that must be open to the user.
    pub(crate) async fn join(&self, room: &str) {
        let reply = self.room_post(room, "join", json!({})).await;
        assert_eq!(reply.0, 200, "{}", reply.1);
    }

    /// Leaves a room or rejects an invite.
    pub(crate) async fn leave(&self, room: &str) {
        let reply = self.room_post(room, "leave", json!({})).await;
        assert_eq!(reply.0, 200, "{}", reply.1);
    }

    /// Syncs: from the beginning, or after `since`; `query` adds parameters, like
    /// `timeout=0&full_state=true`.
    pub(crate) async fn sync(&self, since: Option<&str>, query: &str) -> Value {
        let since = since.map(|since| format!("since={}&", encode(since))).unwrap_or_default();
        self.do_get(&format!("/_matrix/client/v3/sync?{since}{query}")).await
    }

    /// Where the user's sync stream is now.
    pub(crate) async fn sync_token(&self) -> String {
        let answer = self.sync(None, "timeout=0").await;
        answer["next_batch"].as_str().unwrap().to_owned()
    }

    /// Syncs on from `since` until an answer satisfies `wanted`; moves `since` and returns that
    /// answer.
    pub(crate) async fn sync_until(
        &self,
        since: &mut String,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Value {
        let answers = async {
            loop {
                let answer = self.sync(Some(since), "timeout=5000").await;
                since.clear();
                since.push_str(answer["next_batch"].as_str().unwrap());
                if wanted(&answer) {
                    return answer;
                }
            }
        };
        tokio::time::timeout(SYNC_UNTIL, answers).await.expect("what is awaited should come")
    }
}
