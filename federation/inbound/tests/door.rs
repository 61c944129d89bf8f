//! Who gets in.

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use ruma::server_name;
use serde_json::json;

use super::kit::{Here, far};

const PROFILE: &str = "/_matrix/federation/v1/query/profile?user_id=@alice:here.test";

#[tokio::test]
async fn requests_without_a_right_signature_are_refused() {
    let here = Here::new().await;
    here.sign_up("alice").await;
    let far = far("far");
    assert_eq!(here.get(&far, PROFILE).await.0, StatusCode::OK);
    let (status, answer) = here.ask(Method::GET, PROFILE).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::UNAUTHORIZED, &json!("M_UNAUTHORIZED")));

    let mut moved = far.signed(Method::GET, PROFILE, None);
    *moved.uri_mut() = format!("{PROFILE}&field=displayname").parse().unwrap();
    assert_eq!(here.send(moved).await.0, StatusCode::UNAUTHORIZED);

    let elsewhere = server_name!("elsewhere.test");
    let misdirected = far.signed_for(elsewhere, Method::GET, PROFILE, None);
    assert_eq!(here.send(misdirected).await.0, StatusCode::UNAUTHORIZED);

    let path = "/_matrix/federation/v1/user/keys/query";
    let signed = far.signed(Method::POST, path, Some("{\"device_keys\":{}}"));
    let (parts, _) = signed.into_parts();
    let changed = Body::from("{\"device_keys\":{\"@alice:here.test\":[]}}");
    assert_eq!(here.send(Request::from_parts(parts, changed)).await.0, StatusCode::UNAUTHORIZED);

    let mut malformed = far.signed(Method::GET, PROFILE, None);
    let value = "X-Matrix origin=far.test".parse().unwrap();
    malformed.headers_mut().insert(header::AUTHORIZATION, value);
    assert_eq!(here.send(malformed).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_server_whose_keys_are_not_to_be_had_is_refused() {
    let here = Here::new().await;
    let (status, answer) = here.get(&far("unknown"), PROFILE).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::UNAUTHORIZED, &json!("M_UNAUTHORIZED")));
}

#[tokio::test]
async fn a_server_on_the_list_of_the_denied_is_refused() {
    let here = Here::new().await;
    let (status, answer) = here.get(&far("denied"), PROFILE).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN")));
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_told_apart() {
    let here = Here::new().await;
    for path in ["/_matrix/federation/v1/nothing", "/_matrix/key/v9", "/_matrix/federation"] {
        let (status, answer) = here.ask(Method::GET, path).await;
        assert_eq!((status, &answer["errcode"]), (StatusCode::NOT_FOUND, &json!("M_UNRECOGNIZED")));
    }
    let (status, answer) = here.ask(Method::DELETE, "/_matrix/federation/v1/version").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer["errcode"], "M_UNRECOGNIZED");
}

#[tokio::test]
async fn malformed_bodies_and_arguments_are_named() {
    let here = Here::new().await;
    let far = far("far");
    let claim = "/_matrix/federation/v1/user/keys/claim";
    let send = |body: &'static [u8]| {
        let request = Request::post(claim).header(
            header::AUTHORIZATION,
            "X-Matrix origin=far.test,key=\"ed25519:far\",sig=\"dGVzdA\"",
        );
        here.send(request.body(Body::from(body)).unwrap())
    };
    for body in [b"{".as_slice(), b"\xff\xfe", b"{}}"] {
        let (status, answer) = send(body).await;
        assert_eq!((status, &answer["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_NOT_JSON")));
    }
    for body in [json!([]), json!({}), json!({ "one_time_keys": 7 })] {
        let (status, answer) = here.post(&far, claim, &body).await;
        assert_eq!((status, &answer["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_BAD_JSON")));
    }
    let (status, answer) = here.get(&far, "/_matrix/federation/v1/query/profile").await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_MISSING_PARAM")));
    let (status, answer) = here.get(&far, "/_matrix/federation/v1/state/notaroom?event_id=x").await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_INVALID_PARAM")));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let here = Here::new().await;
    let body = json!({ "device_keys": {}, "x": "y".repeat(2 * 1024 * 1024) });
    let (status, answer) =
        here.post(&far("far"), "/_matrix/federation/v1/user/keys/query", &body).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("M_TOO_LARGE"))
    );
}
