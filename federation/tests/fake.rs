//! A small internet in this process: names, certificates, and servers that answer as told.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use clock::ManualClock;
use event::ServerKey;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use ruma::{OwnedServerName, ServerName};
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value as JsonValue;
use store::Store;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::{
    Client, ClientConfig, OwnKeys,
    client::dial::Network,
    resolve::{Dns, Target},
};

/// What a fake server sends.
pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// Answers what a fake server is asked.
type Handler = Arc<dyn Fn(Asked) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// A request as a fake server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The name for which the certificate was wanted.
    pub(crate) sni: Option<String>,
    /// Whether it came to the port of the web.
    pub(crate) is_web: bool,
    pub(crate) method: Method,
    /// `Host`, or `:authority`.
    pub(crate) host: String,
    /// The path with its query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Which connection it came on.
    pub(crate) connection: usize,
}

/// The internet of one test.
pub(crate) struct Fake {
    pub(crate) dns: Arc<FakeDns>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Store,
    /// The port of the federation, on 127.0.0.1.
    pub(crate) port: u16,
    /// The port of the web, on 127.0.0.1.
    pub(crate) web_port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    certificates: Arc<Certificates>,
    ca_file: tempfile::NamedTempFile,
    _tasks: JoinSet<()>,
}

/// Now, in all tests.
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

/// The server that calls.
pub(crate) fn here() -> OwnedServerName {
    "here.example".try_into().unwrap()
}

impl Fake {
    /// Servers for all names at 127.0.0.1, which answer by `handler`.
    pub(crate) async fn start<F>(handler: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |asked| Box::pin(handler(asked)));
        let authority = authority();
        let mut ca_file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut ca_file, authority.pem.as_bytes()).unwrap();
        let certificates = Arc::new(Certificates::default());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let mut ports = [0; 2];
        for (index, port) in ports.iter_mut().enumerate() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            *port = listener.local_addr().unwrap().port();
            let certificates = Arc::clone(&certificates);
            tasks.spawn(serve(listener, certificates, index == 1, handler.clone(), asked.clone()));
        }
        Self {
            dns: Arc::new(FakeDns::default()),
            clock: Arc::new(ManualClock::new(NOW_MS)),
            store: Store::memory(),
            port: ports[0],
            web_port: ports[1],
            asked,
            certificates,
            ca_file,
            _tasks: tasks,
        }
    }

    /// As [`Fake::start`], answering at once.
    pub(crate) async fn answering(
        handler: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let handler = Arc::new(handler);
        Self::start(move |asked| {
            let handler = Arc::clone(&handler);
            async move { handler(&asked) }
        })
        .await
    }

    /// The settings of a client in this internet.
    pub(crate) fn config(&self) -> ClientConfig {
        ClientConfig {
            extra_root_certificates: vec![self.ca_path()],
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            ..ClientConfig::new(here())
        }
    }

    pub(crate) fn ca_path(&self) -> PathBuf {
        self.ca_file.path().to_owned()
    }

    /// A client with the usual settings.
    pub(crate) fn client(&self) -> Client {
        self.client_with(self.config())
    }

    /// A client with the given settings.
    pub(crate) fn client_with(&self, config: ClientConfig) -> Client {
        let keys = OwnKeys::new(Arc::new(ServerKey::generate("here").unwrap()), Vec::new());
        self.client_of(config, keys)
    }

    pub(crate) fn client_of(&self, config: ClientConfig, keys: OwnKeys) -> Client {
        let network = Network {
            dns: Arc::clone(&self.dns) as Arc<dyn Dns>,
            federation_port: self.port,
            web_port: self.web_port,
            // Here 127.0.0.1 is the internet, and all else is private.
            is_public: |address| {
                address == IpAddr::V4(Ipv4Addr::LOCALHOST)
                    || address == IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)
            },
        };
        Client::in_network(config, keys, self.store.clone(), self.clock.clone(), network).unwrap()
    }

    /// The requests so far, to the web or not.
    pub(crate) fn asked(&self, is_web: bool) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.is_web == is_web).cloned().collect()
    }

    /// Lets the servers of a name show the certificate of another one.
    pub(crate) fn show_certificate_of(&self, sni: &str, other: &str) {
        self.certificates.instead.lock().unwrap().insert(sni.to_owned(), other.to_owned());
    }
}

/// An answer of JSON.
pub(crate) fn json(value: &JsonValue) -> Response<Body> {
    text(200, &value.to_string())
}

/// An answer of text.
pub(crate) fn text(status: u16, body: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_owned())).boxed();
    Response::builder().status(status).body(body).unwrap()
}

/// The names of the small internet. A host that nobody told of is at 127.0.0.1.
#[derive(Debug, Default)]
pub(crate) struct FakeDns {
    pub(crate) hosts: Mutex<HashMap<String, Vec<IpAddr>>>,
    pub(crate) services: Mutex<HashMap<String, Vec<Target>>>,
    pub(crate) failing: Mutex<HashSet<String>>,
}

impl FakeDns {
    pub(crate) fn host(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.hosts.lock().unwrap().insert(name.to_owned(), addresses);
    }

    pub(crate) fn service(&self, name: &str, host: &str, port: u16) {
        let target = Target { priority: 10, weight: 5, host: host.to_owned(), port };
        self.services.lock().unwrap().entry(name.to_owned()).or_default().push(target);
    }
}

#[async_trait]
impl Dns for FakeDns {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let local = || vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        Ok(self.hosts.lock().unwrap().get(host).cloned().unwrap_or_else(local))
    }

    async fn targets(&self, service: &str) -> Result<Vec<Target>, String> {
        if self.failing.lock().unwrap().contains(service) {
            return Err("SERVFAIL".to_owned());
        }
        Ok(self.services.lock().unwrap().get(service).cloned().unwrap_or_default())
    }
}

/// A throw-away authority, one for all tests.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    })
}

/// Certificates for every name that is asked for; without a name, for 127.0.0.1.
#[derive(Debug, Default)]
struct Certificates {
    instead: Mutex<HashMap<String, String>>,
    made: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or("127.0.0.1").to_owned();
        let name = self.instead.lock().unwrap().get(&name).cloned().unwrap_or(name);
        let mut made = self.made.lock().unwrap();
        let certificate = made.entry(name).or_insert_with_key(|name| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.clone(), "::1".to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &authority().issuer).unwrap();
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let provider = rustls::crypto::ring::default_provider();
            let chain = vec![certificate.der().clone()];
            Arc::new(CertifiedKey::from_der(chain, key, &provider).unwrap())
        });
        Some(Arc::clone(certificate))
    }
}

async fn serve(
    listener: TcpListener,
    certificates: Arc<Certificates>,
    is_web: bool,
    handler: Handler,
    asked: Arc<Mutex<Vec<Asked>>>,
) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut connections = JoinSet::new();
    for connection in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, handler, asked) = (acceptor.clone(), handler.clone(), asked.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let sni = stream.get_ref().1.server_name().map(ToOwned::to_owned);
            let service = service_fn(move |request: Request<Incoming>| {
                let (handler, asked, sni) = (handler.clone(), asked.clone(), sni.clone());
                async move {
                    let one = read(request, sni, is_web, connection).await;
                    asked.lock().unwrap().push(one.clone());
                    Ok::<_, Infallible>(handler(one).await)
                }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            // Clients go away as they like.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn read(
    request: Request<Incoming>,
    sni: Option<String>,
    is_web: bool,
    connection: usize,
) -> Asked {
    let (parts, body) = request.into_parts();
    let host = match parts.headers.get("host") {
        Some(host) => host.to_str().unwrap().to_owned(),
        None => parts.uri.authority().unwrap().to_string(),
    };
    Asked {
        sni,
        is_web,
        method: parts.method,
        host,
        path: parts.uri.path_and_query().unwrap().to_string(),
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
        connection,
    }
}

/// A server name.
pub(crate) fn name(name: &str) -> &ServerName {
    name.try_into().unwrap()
}

/// An address at which nobody listens.
pub(crate) async fn dead_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap()
}
