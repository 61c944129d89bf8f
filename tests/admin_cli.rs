//! The command line: users on a running server and on a stopped one, the configuration, the store.

use std::process::Output;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::kit::{Process, User};

/// What a successful command printed.
#[track_caller]
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Why a command failed.
#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The password that a command made up.
fn password(printed: &str) -> String {
    printed.trim_end().rsplit(' ').next().unwrap().to_owned()
}

/// Logs in with a password.
async fn log_in(process: &Process, user: &str, password: &str) -> (u16, Value) {
    let body = json!({
        "type": "m.login.password", "password": password,
        "identifier": { "type": "m.id.user", "user": user },
    });
    process.client().post("/_matrix/client/v3/login", body).await
}

#[tokio::test]
async fn users_are_made_and_changed_on_a_running_server_and_on_a_stopped_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::new(dir.path());
    let message = refused(&process.run(&["user", "list"]).await);
    assert!(message.contains("no server in this data directory"), "{message}");
    let create = ["user", "create", "alice", "--server-name", "localhost", "--admin"];
    let made = printed(&process.run(&create).await);
    assert!(made.starts_with("Made @alice:localhost with password "), "{made}");

    process.start().await;
    let (status, answer) = log_in(&process, "alice", &password(&made)).await;
    assert_eq!(status, 200, "{answer}");
    let message = refused(&process.run(&["user", "create", "Alice"]).await);
    assert!(message.contains("@alice:localhost"), "{message}");
    printed(&process.run(&["user", "create", "bob"]).await);
    let reset = printed(&process.run(&["user", "reset-password", "bob"]).await);
    let (status, answer) = log_in(&process, "bob", &password(&reset)).await;
    assert_eq!(status, 200, "{answer}");
    let bob = User::new(process.client(), &answer);
    printed(&process.run(&["user", "make-admin", "@bob:localhost"]).await);
    let list = printed(&process.run(&["user", "list"]).await);
    assert_eq!(list, "@alice:localhost\tadmin\n@bob:localhost\tadmin\n");
    printed(&process.run(&["user", "deactivate", "bob", "--erase"]).await);
    assert_eq!(bob.get("/_matrix/client/v3/account/whoami").await.0, 401);
    process.terminate().await;

    let list = printed(&process.run(&["user", "list"]).await);
    assert_eq!(list, "@alice:localhost\tadmin\n@bob:localhost\tdeactivated\n");
    printed(&process.run(&["user", "make-admin", "alice", "--revoke"]).await);
    let message = refused(&process.run(&["user", "make-admin", "nobody"]).await);
    assert!(message.contains("there is no user nobody"), "{message}");
    let check = printed(&process.run(&["store", "check"]).await);
    assert!(check.contains("all agree"), "{check}");
}

#[tokio::test]
async fn the_configuration_is_checked_and_printed() {
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_natterjack"));
        command.args(arguments).env_clear().output().await.unwrap()
    };
    assert_eq!(printed(&run(&["--version"]).await), "natterjack 0.1.0\n");
    let default = printed(&run(&["config", "print-default"]).await);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("natterjack.toml");
    std::fs::write(&file, &default).unwrap();
    let file = file.to_str().unwrap();
    printed(&run(&["config", "check", "--config", file]).await);
    std::fs::write(file, default.replace("cache_mib = 256", "cache_mib = 0")).unwrap();
    let message = refused(&run(&["config", "check", "--config", file]).await);
    assert!(message.contains(": storage.cache_mib: 0 is out of range; expected 1 to"), "{message}");
    assert!(message.contains(", line "), "{message}");
    let message = refused(&run(&["config", "check", "--config", "/nowhere.toml"]).await);
    assert!(message.contains("/nowhere.toml can't be read"), "{message}");
}

/// What a running server publishes of its keys.
async fn published(process: &Process) -> Value {
    let (status, keys) = process.client().get("/_matrix/key/v2/server").await;
    assert_eq!(status, 200, "{keys}");
    keys
}

/// The names of the keys in a part of what is published.
fn names(keys: &Value, part: &str) -> Vec<String> {
    keys[part].as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn the_signing_key_is_rotated_and_the_old_one_published() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::new(dir.path());
    let message = refused(&process.run(&["key", "rotate"]).await);
    assert!(message.contains("no server in this data directory"), "{message}");
    process.start().await;
    let first = published(&process).await;
    let made = printed(&process.run(&["user", "create", "alice"]).await);
    let (_, answer) = log_in(&process, "alice", &password(&made)).await;
    let alice = User::new(process.client(), &answer);
    let room = alice.create_room(json!({})).await;
    let told = printed(&process.run(&["key", "rotate"]).await);
    assert_eq!(published(&process).await["verify_keys"], first["verify_keys"], "not yet");
    process.terminate().await;

    process.start().await;
    let second = published(&process).await;
    let [new] = names(&second, "verify_keys").try_into().unwrap();
    assert!(told.contains(&new), "{told}");
    assert_eq!(names(&second, "old_verify_keys"), names(&first, "verify_keys"));
    alice.say(&room, "signed with the new key").await;
    process.terminate().await;
    printed(&process.run(&["key", "rotate"]).await);
    process.start().await;
    assert_eq!(names(&published(&process).await, "old_verify_keys").len(), 2);
    process.terminate().await;
    let check = printed(&process.run(&["store", "check"]).await);
    assert!(check.contains("all agree"), "{check}");
}
