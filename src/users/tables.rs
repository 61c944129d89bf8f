//! The tables of users. Every key begins with a user's ID.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as JsonValue;
use store::{Family, Json, Position, Stamped, Table};

use crate::{accounts::AccountRow, presence::StatusRow, tokens::TokenHash};

/// The accounts. Key: user. Value: rights and password hash.
/// Written by `accounts` and `deactivation`. A row is never deleted, so that no ID is given out
/// twice.
pub(crate) const ACCOUNTS: Table<String, Json<AccountRow>> =
    Table::new(0x0201, "accounts", Family::Main);

/// The devices, each with its tokens. Key: user, device. Value: name, last seen, token pairs.
/// Written by `sessions` and `devices`. Names exactly the tokens of the device that are in
/// `TOKENS`.
pub(crate) const DEVICES: Table<(String, String), Json<DeviceRow>> =
    Table::new(0x0202, "devices", Family::Main);

/// Access and refresh tokens. Key: user, SHA-256 of the token. Value: the device.
/// Written together with `DEVICES`, which says what each token is.
pub(crate) const TOKENS: Table<(String, [u8; 32]), String> =
    Table::new(0x0203, "tokens", Family::Main);

/// Tokens for one login. Key: user, SHA-256 of the token. Value: when it ends, in milliseconds
/// since the Unix epoch. Written by `login_tokens`. Deleted when used.
pub(crate) const LOGIN_TOKENS: Table<(String, [u8; 32]), u64> =
    Table::new(0x0204, "login_tokens", Family::Main);

/// The profiles. Key: user. Value: all fields.
/// Written by `profiles`. At most 64 KiB.
pub(crate) const PROFILES: Table<String, Json<BTreeMap<String, JsonValue>>> =
    Table::new(0x0205, "profiles", Family::Main);

/// Account data. Key: user, room or none, type. Value: when it was set last, and the JSON.
/// Written by `account_data`.
pub(crate) const ACCOUNT_DATA: Table<(String, Option<String>, String), Stamped<String>> =
    Table::new(0x0206, "account_data", Family::Index);

/// Account data in the order of change. Key: user, position, room or none, type. Value: empty.
/// Written with `ACCOUNT_DATA`. One row for each of its rows.
pub(crate) const ACCOUNT_DATA_CHANGES: Table<(String, Position, Option<String>, String), ()> =
    Table::new(0x0207, "account_data_changes", Family::Index);

/// Filters. Key: user, filter. Value: the JSON.
/// Written by `filters`. The ID is a hash of the JSON.
pub(crate) const FILTERS: Table<(String, String), String> =
    Table::new(0x0208, "filters", Family::Main);

/// What users say of their presence. Key: user. Value: the status message.
/// Written by `presence` and `deactivation`. Whether the user is online is kept in memory only.
pub(crate) const PRESENCE_STATUS: Table<String, Json<StatusRow>> =
    Table::new(0x0209, "presence_status", Family::Main);

/// Users whose accounts are closed but who have not left their rooms yet. Key: user. Value: empty.
/// Written by `deactivation`. Empty most of the time.
pub(crate) const DEPARTURES: Table<String, ()> = Table::new(0x020a, "departures", Family::Main);

/// A device as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) display_name: Option<String>,
    pub(crate) created_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_seen_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_seen_ip: Option<String>,
    /// The pair in use, and perhaps the one that a refresh made and that is not used yet. At most
    /// two.
    pub(crate) tokens: Vec<TokenPair>,
}

/// An access token with the refresh token that was given out together with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenPair {
    pub(crate) access: TokenHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) access_expires_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refresh: Option<TokenHash>,
}

impl TokenPair {
    /// The hashes of both tokens.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = TokenHash> {
        [Some(self.access), self.refresh].into_iter().flatten()
    }
}
