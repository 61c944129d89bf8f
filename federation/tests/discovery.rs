use http::Method;
use rooms::RemoteError;
use ruma::ServerName;
use serde_json::json;

use super::fake::{Asked, Body, Fake, dead_address, json, name, text};
use crate::{Certificates, Client, Limits, RawRequest};

/// A request like any other.
fn version() -> RawRequest {
    let path = "/_matrix/federation/v1/version".to_owned();
    RawRequest { method: Method::GET, path, body: None }
}

async fn ask(client: &Client, server: &ServerName) -> Result<(), RemoteError> {
    client.send_raw(server, version(), Limits::URGENT).await.map(|_| ())
}

/// Answers everything; on the web, with what `documents` say of a name.
fn with_documents(documents: &[(&str, String)]) -> impl Fn(&Asked) -> http::Response<Body> + use<> {
    let documents: Vec<(String, String)> =
        documents.iter().map(|(name, to)| ((*name).to_owned(), to.clone())).collect();
    move |asked| {
        if !asked.is_web {
            return json(&json!({}));
        }
        assert_eq!(asked.path, "/.well-known/matrix/server");
        assert!(!asked.headers.contains_key("authorization"), "the web gets no signature");
        match documents.iter().find(|(name, _)| *name == asked.host) {
            Some((_, to)) => json(&json!({ "m.server": to })),
            None => text(404, "no such page"),
        }
    }
}

/// Asks a server once and gives how it was asked: SNI and `Host`.
async fn seen(fake: &Fake, server: &str) -> (Option<String>, String) {
    let before = fake.asked(false).len();
    ask(&fake.client(), name(server)).await.unwrap();
    let asked = fake.asked(false).into_iter().nth(before).expect("a request");
    (asked.sni, asked.host)
}

fn sni(name: &str, host: &str) -> (Option<String>, String) {
    (Some(name.to_owned()), host.to_owned())
}

#[tokio::test]
async fn an_ip_literal_is_called_as_it_is() {
    let fake = Fake::answering(with_documents(&[])).await;
    assert_eq!(seen(&fake, "127.0.0.1").await, (None, "127.0.0.1".to_owned()));
    let with_port = format!("127.0.0.1:{}", fake.port);
    assert_eq!(seen(&fake, &with_port).await, (None, with_port));
    assert_eq!(fake.asked(true).len(), 0, "no document is asked for");
}

#[tokio::test]
async fn a_name_with_a_port_is_called_there_without_asking_the_web_or_for_services() {
    let fake = Fake::answering(with_documents(&[("a.example", "b.example".to_owned())])).await;
    fake.dns.service("_matrix-fed._tcp.a.example", "elsewhere.example", 1);
    let server = format!("a.example:{}", fake.port);
    assert_eq!(seen(&fake, &server).await, sni("a.example", &server));
    assert_eq!(fake.asked(true).len(), 0);
}

#[tokio::test]
async fn a_document_delegates_to_an_ip_literal() {
    let fake = Fake::answering(with_documents(&[("a.example", "127.0.0.1".to_owned())])).await;
    assert_eq!(seen(&fake, "a.example").await, (None, "127.0.0.1".to_owned()));
}

#[tokio::test]
async fn a_document_delegates_to_a_name_with_a_port() {
    let port = dead_address().await.port();
    let documents = [("a.example", format!("b.example:{port}"))];
    let fake = Fake::answering(with_documents(&documents)).await;
    fake.dns.service("_matrix-fed._tcp.b.example", "c.example", fake.port);
    let error = ask(&fake.client(), name("a.example")).await.unwrap_err();
    assert!(error.to_string().contains(&port.to_string()), "at that port and no other: {error}");
}

#[tokio::test]
async fn a_document_delegates_to_a_name_whose_services_are_looked_up() {
    let documents =
        ["a", "d", "f"].map(|server| format!("{server}.example")).map(|name| (name, "b.example"));
    let documents: Vec<(&str, String)> =
        documents.iter().map(|(name, to)| (name.as_str(), (*to).to_owned())).collect();
    let fake = Fake::answering(with_documents(&documents)).await;
    // By the registered name of the service: another host, and another port than the usual.
    fake.dns.host("b.example", &["127.0.0.9"]);
    fake.dns.service("_matrix-fed._tcp.b.example", "c.example", fake.port);
    fake.dns.service("_matrix._tcp.b.example", "old.example", 1);
    assert_eq!(seen(&fake, "a.example").await, sni("b.example", "b.example"));
    // By the deprecated name.
    fake.dns.services.lock().unwrap().clear();
    fake.dns.service("_matrix._tcp.b.example", "c.example", fake.port);
    assert_eq!(seen(&fake, "d.example").await, sni("b.example", "b.example"));
    // By no name, at the usual port; also where nobody can say.
    fake.dns.services.lock().unwrap().clear();
    fake.dns.failing.lock().unwrap().insert("_matrix-fed._tcp.b.example".to_owned());
    fake.dns.host("b.example", &["127.0.0.1"]);
    assert_eq!(seen(&fake, "f.example").await, sni("b.example", "b.example"));
}

#[tokio::test]
async fn without_a_document_the_services_of_the_name_itself_are_looked_up() {
    let fake = Fake::answering(with_documents(&[])).await;
    for service in ["_matrix-fed._tcp.a.example", "_matrix._tcp.d.example"] {
        fake.dns.service(service, "c.example", fake.port);
    }
    fake.dns.host("a.example", &["127.0.0.9"]);
    fake.dns.host("d.example", &["127.0.0.9"]);
    // The web of both is not there at all, which is as good as a missing document.
    assert_eq!(seen(&fake, "a.example").await, sni("a.example", "a.example"));
    assert_eq!(seen(&fake, "d.example").await, sni("d.example", "d.example"));
}

#[tokio::test]
async fn without_document_and_services_the_name_is_called_at_the_usual_port() {
    let fake = Fake::answering(with_documents(&[])).await;
    assert_eq!(seen(&fake, "a.example").await, sni("a.example", "a.example"));
    assert_eq!(seen(&fake, "hs1").await, sni("hs1", "hs1"));
}

#[tokio::test]
async fn the_next_target_of_a_service_is_tried_when_one_is_dead() {
    let fake = Fake::answering(with_documents(&[])).await;
    let service = "_matrix-fed._tcp.a.example";
    fake.dns.service(service, "dead.example", dead_address().await.port());
    fake.dns.service(service, "c.example", fake.port);
    fake.dns.services.lock().unwrap().get_mut(service).unwrap()[0].priority = 1;
    assert_eq!(seen(&fake, "a.example").await, sni("a.example", "a.example"));
}

#[tokio::test]
async fn a_service_that_is_not_offered_is_an_error() {
    let fake = Fake::answering(with_documents(&[])).await;
    fake.dns.service("_matrix-fed._tcp.a.example", "", fake.port);
    let error = ask(&fake.client(), name("a.example")).await.unwrap_err();
    assert!(error.to_string().contains("no such service"), "{error}");
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_is_dead() {
    let fake = Fake::answering(with_documents(&[])).await;
    // Nobody listens at the first two.
    fake.dns.host("a.example", &["127.0.0.7", "::1", "127.0.0.1"]);
    let config = crate::ClientConfig { allow_private_addresses: true, ..fake.config() };
    let client = fake.client_with(config);
    let server = format!("a.example:{}", fake.port);
    ask(&client, name(&server)).await.unwrap();
}

#[tokio::test]
async fn the_certificate_must_be_that_of_the_name_and_not_of_the_target() {
    let fake = Fake::answering(with_documents(&[])).await;
    fake.dns.service("_matrix-fed._tcp.a.example", "target.example", fake.port);
    fake.show_certificate_of("a.example", "target.example");
    let error = ask(&fake.client(), name("a.example")).await.unwrap_err();
    assert!(matches!(error, RemoteError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(fake.asked(false).len(), 0, "nothing is sent to whom is not known");
    // Not where the administrator wants none to be checked.
    let config = crate::ClientConfig { certificates: Certificates::Any, ..fake.config() };
    ask(&fake.client_with(config), name("a.example")).await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let fake = Fake::answering(with_documents(&[])).await;
    let config = crate::ClientConfig { extra_root_certificates: Vec::new(), ..fake.config() };
    let error = ask(&fake.client_with(config), name("a.example")).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn an_override_leads_to_its_address_with_the_name_of_the_server() {
    let fake = Fake::answering(with_documents(&[("a.example", "b.example".to_owned())])).await;
    fake.dns.host("a.example", &["127.0.0.9"]);
    let address = format!("127.0.0.1:{}", fake.port).parse().unwrap();
    let overrides = ["a.example", "b.example:77"].map(|server| (name(server).to_owned(), address));
    let config = crate::ClientConfig { overrides: overrides.into(), ..fake.config() };
    let client = fake.client_with(config);
    ask(&client, name("a.example")).await.unwrap();
    ask(&client, name("b.example:77")).await.unwrap();
    let asked: Vec<_> = fake.asked(false).into_iter().map(|a| (a.sni, a.host)).collect();
    assert_eq!(asked, [sni("a.example", "a.example"), sni("b.example", "b.example:77")]);
    assert_eq!(fake.asked(true).len(), 0);
}

#[tokio::test]
async fn private_addresses_are_refused_after_resolution() {
    let fake = Fake::answering(with_documents(&[])).await;
    fake.dns.host("a.example", &["127.0.0.2", "169.254.169.254", "10.0.0.1", "fd00::1"]);
    fake.dns.service("_matrix-fed._tcp.b.example", "a.example", fake.port);
    fake.dns.service("_matrix-fed._tcp.d.example", "127.0.0.2", fake.port);
    let literal = format!("127.0.0.2:{}", fake.port);
    for server in ["a.example", "b.example", "d.example", &literal, "[fd00::1]:1"] {
        let error = ask(&fake.client(), name(server)).await.unwrap_err();
        assert!(error.to_string().contains("private address"), "{server}: {error}");
    }
    assert_eq!(fake.asked(false).len(), 0);
    let config = crate::ClientConfig { allow_private_addresses: true, ..fake.config() };
    let error = ask(&fake.client_with(config), name(&literal)).await.unwrap_err();
    assert!(!error.to_string().contains("private address"), "{error}");
}
