//! An HTTP client that may carry an access token.

use std::sync::{Arc, Mutex};

use serde_json::Value;

/// Status and JSON body of an answer. The body is `null` where there is none.
pub(crate) type Reply = (u16, Value);

/// Makes a text safe as one segment of a path or as a value of a query.
pub(crate) fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Where the server is now: it may move when it is restarted.
pub(crate) type BaseUrl = Arc<Mutex<String>>;

/// Talks to one server, with or without an access token.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) base_url: BaseUrl,
    pub(crate) http: reqwest::Client,
    pub(crate) token: Option<String>,
}

impl Client {
    /// Makes a client without a token.
    pub(crate) fn new(base_url: BaseUrl) -> Self {
        // Fails where an earlier test installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
        Self { base_url, http, token: None }
    }

    /// Makes a client that sends a token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The whole address of a path that begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url.lock().unwrap())
    }

    /// Begins a request, for tests that look at headers or send unusual bodies.
    pub(crate) fn request(&self, method: http::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, self.url(path));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        reply(self.request(http::Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        reply(self.request(http::Method::POST, path).json(&body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        reply(self.request(http::Method::PUT, path).json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        reply(self.request(http::Method::DELETE, path)).await
    }

    pub(crate) async fn delete_with(&self, path: &str, body: Value) -> Reply {
        reply(self.request(http::Method::DELETE, path).json(&body)).await
    }

    pub(crate) async fn do_get(&self, path: &str) -> Value {
        ok(path, self.get(path).await)
    }

    pub(crate) async fn do_post(&self, path: &str, body: Value) -> Value {
        ok(path, self.post(path, body).await)
    }

    pub(crate) async fn do_put(&self, path: &str, body: Value) -> Value {
        ok(path, self.put(path, body).await)
    }

    pub(crate) async fn do_delete(&self, path: &str) -> Value {
        ok(path, self.delete(path).await)
    }
}

/// Sends a request and reads its answer.
pub(crate) async fn reply(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.expect("the server should answer");
    let status = response.status().as_u16();
    let body = response.bytes().await.expect("the answer should be whole");
    let json = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&body)))
    };
    (status, json)
}

/// Checks that a request was refused in these words.
#[track_caller]
pub(crate) fn refused((status, body): Reply, wanted: u16, errcode: &str) {
    assert_eq!((status, body["errcode"].as_str()), (wanted, Some(errcode)), "{body}");
}

/// The body of an answer that must be 200.
#[track_caller]
fn ok(path: &str, (status, body): Reply) -> Value {
    assert_eq!(status, 200, "{path} answered {body}");
    body
}
