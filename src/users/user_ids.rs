//! The grammar of user IDs: strict for new ones, historical for those that are asked for.
//! [Spec](https://spec.matrix.org/v1.19/appendices/#user-identifiers)

use ruma::{OwnedUserId, ServerName, UserId};

use crate::{
    error::{Result, UsersError},
    tokens::random_text,
};

/// Letters of random names: no vowels (no words), nothing that looks like something else.
const NAME_LETTERS: &[u8; 32] = b"bcdfghjklmnpqrstvwxz0123456789-_";

/// The ID of a new user. Upper case becomes lower case.
pub(crate) fn new_user_id(localpart: &str, server_name: &ServerName) -> Result<OwnedUserId> {
    let localpart = localpart.to_ascii_lowercase();
    if localpart.is_empty() {
        return Err(UsersError::InvalidUsername { why: "a user name has at least one letter" });
    }
    let wrong = UsersError::InvalidUsername {
        why: "a user name holds only a-z, 0-9 and ._=-/+, and is at most 255 bytes long \
              together with the server's name",
    };
    let Ok(user_id) = UserId::parse(format!("@{localpart}:{server_name}")) else {
        return Err(wrong);
    };
    match user_id.validate_strict() {
        Ok(()) if user_id.localpart() == localpart => Ok(user_id),
        _ => Err(wrong),
    }
}

/// An ID that nobody has, most likely.
pub(crate) fn random_user_id(server_name: &ServerName) -> Result<OwnedUserId> {
    let name = random_text::<16>(NAME_LETTERS)?;
    new_user_id(&format!("u{name}"), server_name)
}

/// The local user that `user` names: an ID or its first part. Historical IDs count.
pub(crate) fn existing_user_id(user: &str, server_name: &ServerName) -> Option<OwnedUserId> {
    let user_id = if user.starts_with('@') {
        UserId::parse(user).ok()?
    } else {
        UserId::parse(format!("@{user}:{server_name}")).ok()?
    };
    (user_id.server_name() == server_name).then_some(user_id)
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn new_names_are_strict_and_lower_case() {
        let server = server_name!("localhost");
        let id = |name: &str| new_user_id(name, server).map(|id| id.to_string()).ok();
        assert_eq!(id("Alice"), Some("@alice:localhost".to_owned()));
        assert_eq!(id("a.b_c=d-e/f+1"), Some("@a.b_c=d-e/f+1:localhost".to_owned()));
        for bad in ["", "a b", "a:b", "é", "a!b", "a@b", &"x".repeat(250)] {
            assert_eq!(id(bad), None, "{bad}");
        }
        assert!(random_user_id(server).is_ok());
    }

    #[test]
    fn historical_names_are_found() {
        let server = server_name!("localhost");
        let id = |name: &str| existing_user_id(name, server).map(|id| id.to_string());
        assert_eq!(id("Old!Name"), Some("@Old!Name:localhost".to_owned()));
        assert_eq!(id("@Old!Name:localhost"), Some("@Old!Name:localhost".to_owned()));
        assert_eq!(id("@a:elsewhere"), None);
    }
}
