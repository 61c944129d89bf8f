//! A server that is none: it signs as it should, and says whatever a test wants.
//!
//! It may have several names, all with the same key, to stand for many servers.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use clock::{Clock as _, SystemClock};
use event::ServerKey;
use http::{HeaderMap, Method, StatusCode};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use ruma::{CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use super::{
    authority::Authority,
    client::{Reply, reply},
    server::TestServer,
};

/// Longest that a test waits for a request.
const WAIT: Duration = Duration::from_secs(20);

/// A request that came to the peer.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) method: Method,
    /// The path with the query, percent-encoded.
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Heard {
    /// The body as JSON; `null` where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Whether the body contains a text.
    pub(crate) fn body_has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(text)
    }

    /// Which of the peer's names the request is for.
    pub(crate) fn destination(&self) -> String {
        let header = self.headers.get("authorization").and_then(|value| value.to_str().ok());
        let (_, rest) = header.unwrap_or("").split_once("destination=").unwrap_or(("", ""));
        rest.split(',').next().unwrap_or("").trim_matches('"').to_owned()
    }
}

type Answer = Box<dyn Fn(&Heard) -> Response + Send + Sync>;

/// What the peer has heard and what it answers.
struct Inner {
    names: Vec<OwnedServerName>,
    key: ServerKey,
    /// Method, part of the path, answer: the newest comes first.
    answers: Mutex<Vec<(Method, String, Answer)>>,
    heard: watch::Sender<Vec<Heard>>,
}

/// A server that says whatever a test wants.
pub(crate) struct Peer {
    inner: Arc<Inner>,
    address: SocketAddr,
    http: reqwest::Client,
    root: reqwest::Certificate,
    _task: JoinSet<()>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Peer").field("names", &self.inner.names).finish_non_exhaustive()
    }
}

impl Peer {
    /// Starts a peer with some names. It answers with its keys, takes every transaction, and knows
    /// nothing else.
    pub(crate) async fn start(authority: &Authority, names: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let texts: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certified = authority.certify(&texts);
        let chain = CertificateDer::pem_file_iter(&certified.certificate).unwrap();
        let key = PrivateKeyDer::from_pem_file(&certified.key).unwrap();
        let mut tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let inner = Arc::new(Inner {
            names: texts.iter().map(|name| name.as_str().try_into().unwrap()).collect(),
            key: ServerKey::generate("peer").unwrap(),
            answers: Mutex::default(),
            heard: watch::Sender::new(Vec::new()),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&inner));
        let mut task = JoinSet::new();
        task.spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), router));
        let root = std::fs::read(authority.root()).unwrap();
        let root = reqwest::Certificate::from_pem(&root).unwrap();
        let http = reqwest::Client::builder().tls_certs_only([root.clone()]).build().unwrap();
        Self { inner, address, http, root, _task: task }
    }

    /// The peer's names.
    pub(crate) fn names(&self) -> &[OwnedServerName] {
        &self.inner.names
    }

    /// Its first name.
    pub(crate) fn name(&self) -> &ServerName {
        &self.inner.names[0]
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key with which it signs.
    pub(crate) fn key(&self) -> &ServerKey {
        &self.inner.key
    }

    /// Sets what is answered to requests whose path has a part. The newest answer counts.
    pub(crate) fn on(
        &self,
        method: Method,
        part: &str,
        answer: impl Fn(&Heard) -> Response + Send + Sync + 'static,
    ) {
        let mut answers = self.inner.answers.lock().unwrap();
        answers.insert(0, (method, part.to_owned(), Box::new(answer)));
    }

    /// As [`Peer::on`], with one JSON for all.
    pub(crate) fn on_json(&self, method: Method, part: &str, body: Value) {
        self.on(method, part, move |_| axum::Json(body.clone()).into_response());
    }

    /// Everything that was asked so far.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.inner.heard.borrow().clone()
    }

    /// Waits until the requests so far satisfy `wanted`, and gives what that gives.
    pub(crate) async fn wait_heard<T>(&self, wanted: impl Fn(&[Heard]) -> Option<T>) -> T {
        let mut heard = self.inner.heard.subscribe();
        let waiting = async {
            loop {
                if let Some(found) = wanted(&heard.borrow_and_update()) {
                    return found;
                }
                heard.changed().await.unwrap();
            }
        };
        tokio::time::timeout(WAIT, waiting).await.expect("what is awaited should be asked")
    }

    /// Sends a signed request as the peer's first name.
    pub(crate) async fn send(
        &self,
        server: &TestServer,
        method: Method,
        uri: &str,
        body: Option<Value>,
    ) -> Reply {
        self.send_as(self.name(), server, method, uri, body).await
    }

    /// Sends a signed request as one of the peer's names.
    pub(crate) async fn send_as(
        &self,
        origin: &ServerName,
        server: &TestServer,
        method: Method,
        uri: &str,
        body: Option<Value>,
    ) -> Reply {
        let destination = server.server().name().to_owned();
        let header = self.authorization(origin, &destination, &method, uri, body.as_ref());
        reply(self.request(server, method, uri, body).header("authorization", header)).await
    }

    /// A request to a server that is not signed yet.
    pub(crate) fn request(
        &self,
        server: &TestServer,
        method: Method,
        uri: &str,
        body: Option<Value>,
    ) -> reqwest::RequestBuilder {
        let destination = server.server().name().to_owned();
        let address = server.server().addresses()[1].address;
        // A client for each server would do, but connections are cheap here.
        let http = reqwest::Client::builder()
            .tls_certs_only([self.root.clone()])
            .resolve(destination.as_str(), address)
            .build()
            .unwrap_or_else(|_| self.http.clone());
        let url = format!("https://{destination}:{}{uri}", address.port());
        let request = http.request(method, url);
        match body {
            Some(body) => request.json(&body),
            None => request,
        }
    }

    /// The value of the header that signs a request.
    pub(crate) fn authorization(
        &self,
        origin: &ServerName,
        destination: &ServerName,
        method: &Method,
        uri: &str,
        body: Option<&Value>,
    ) -> String {
        let mut signed = json!({
            "method": method.as_str(), "uri": uri, "origin": origin, "destination": destination,
        });
        if let Some(body) = body {
            signed["content"] = body.clone();
        }
        let mut object: CanonicalJsonObject = serde_json::from_value(signed).unwrap();
        self.inner.key.sign_json(origin, &mut object).unwrap();
        let signed = serde_json::to_value(&object).unwrap();
        let key_id = self.inner.key.key_id();
        let signature = signed["signatures"][origin.as_str()][key_id.as_str()].as_str().unwrap();
        format!(
            r#"X-Matrix origin="{origin}",destination="{destination}",key="{key_id}",sig="{signature}""#
        )
    }
}

/// Takes connections until the peer is dropped.
async fn serve(listener: TcpListener, tls: TlsAcceptor, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (tls, service) = (tls.clone(), TowerToHyperService::new(router.clone()));
        connections.spawn(async move {
            let Ok(stream) = tls.accept(socket).await else { return };
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Notes a request and answers as the test wants.
async fn answer(State(inner): State<Arc<Inner>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let uri = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let host = parts.uri.host().map(str::to_owned).or_else(|| {
        let host = parts.headers.get("host")?.to_str().ok()?;
        Some(host.split(':').next().unwrap_or(host).to_owned())
    });
    let heard = Heard { method: parts.method, uri, headers: parts.headers, body };
    inner.heard.send_modify(|all| all.push(heard.clone()));
    let answers = inner.answers.lock().unwrap();
    let fits = |(method, part, _): &&(Method, String, Answer)| {
        *method == heard.method && heard.uri.contains(part.as_str())
    };
    if let Some((_, _, answer)) = answers.iter().find(fits) {
        return answer(&heard);
    }
    drop(answers);
    if heard.uri.starts_with("/_matrix/key/v2/server") {
        let name = inner.names.iter().find(|name| Some(name.host()) == host.as_deref());
        return key_document(&inner, name.unwrap_or(&inner.names[0]));
    }
    if heard.uri.starts_with("/_matrix/federation/v1/send/") {
        return axum::Json(json!({ "pdus": {} })).into_response();
    }
    let error = json!({ "errcode": "M_UNRECOGNIZED", "error": "the peer does not know this" });
    (StatusCode::NOT_FOUND, axum::Json(error)).into_response()
}

fn key_document(inner: &Inner, name: &ServerName) -> Response {
    let valid_until_ms = SystemClock.now_ms() + 24 * 60 * 60 * 1_000;
    let valid_until = MilliSecondsSinceUnixEpoch(valid_until_ms.try_into().unwrap());
    event::key_document(name, &inner.key, &[], valid_until).unwrap().into_response()
}
