//! Tokens: 256 random bits, known to the client only. The store keeps their SHA-256.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{TryRngCore, rngs::OsRng};
use ruma::{OwnedUserId, ServerName, UserId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};

use crate::error::{Result, UsersError};

/// What tokens begin with, so that people and scanners recognise them.
const PREFIX: &str = "njt";

/// The SHA-256 of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TokenHash(pub(crate) [u8; 32]);

impl TokenHash {
    fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

impl Serialize for TokenHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(D::Error::custom)?;
        let hash = bytes.try_into().map_err(|_| D::Error::custom("a hash has 32 bytes"))?;
        Ok(Self(hash))
    }
}

/// A token that was just made: the only time that its text is known here.
#[derive(Clone)]
pub(crate) struct NewToken {
    pub(crate) text: String,
    pub(crate) hash: TokenHash,
}

impl NewToken {
    /// Makes a token of a user. It names its user, so that it is looked up under the user's key.
    pub(crate) fn for_user(user_id: &UserId) -> Result<Self> {
        let owner = URL_SAFE_NO_PAD.encode(user_id.localpart());
        let secret = URL_SAFE_NO_PAD.encode(random::<32>()?);
        let text = format!("{PREFIX}.{owner}.{secret}");
        let hash = TokenHash::of(&text);
        Ok(Self { text, hash })
    }
}

/// Whose a token claims to be, and its hash. `None` where the text cannot be a token of ours.
pub(crate) fn parse(token: &str, server_name: &ServerName) -> Option<(OwnedUserId, TokenHash)> {
    let mut parts = token.split('.');
    let (prefix, owner, _secret) = (parts.next()?, parts.next()?, parts.next()?);
    if prefix != PREFIX || parts.next().is_some() {
        return None;
    }
    let localpart = String::from_utf8(URL_SAFE_NO_PAD.decode(owner).ok()?).ok()?;
    let user_id = UserId::parse(format!("@{localpart}:{server_name}")).ok()?;
    Some((user_id, TokenHash::of(token)))
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| UsersError::NoRandomness { why: error.to_string() })?;
    Ok(bytes)
}

/// Random text of letters out of an alphabet of 32 at most, about 5 bits each.
pub(crate) fn random_text<const N: usize>(alphabet: &[u8; 32]) -> Result<String> {
    let letter = |byte: u8| alphabet.get(usize::from(byte % 32)).copied().unwrap_or(b'x');
    Ok(random::<N>()?.into_iter().map(|byte| char::from(letter(byte))).collect())
}

#[cfg(test)]
mod tests {
    use ruma::{server_name, user_id};

    use super::*;

    #[test]
    fn a_token_leads_back_to_its_user_and_hash() {
        let user = user_id!("@Old.Name:localhost");
        let token = NewToken::for_user(user).unwrap();
        let (owner, hash) = parse(&token.text, server_name!("localhost")).unwrap();
        assert_eq!((owner.as_str(), hash), (user.as_str(), token.hash));
        assert_ne!(NewToken::for_user(user).unwrap().hash, hash);
    }

    #[test]
    fn what_is_no_token_is_not_parsed() {
        for text in ["", "njt", "njt.YQ", "njt.YQ.a.b", "syt.YQ.a", "njt.!.a"] {
            assert!(parse(text, server_name!("localhost")).is_none(), "{text}");
        }
    }

    #[test]
    fn a_hash_survives_its_json() {
        let hash = TokenHash([7; 32]);
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(serde_json::from_str::<TokenHash>(&json).unwrap(), hash);
    }
}
