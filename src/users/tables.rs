//! The tables of users. Every key begins with a user's ID.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as JsonValue;
use store::{Family, Json, Position, Stamped, Table};

use crate::{
    accounts::AccountRow,
    dehydrated::DehydratedRow,
    device_lists::StreamRow,
    key_backup::{BackupKeyRow, BackupRow},
    one_time_keys::FallbackRow,
    presence::StatusRow,
    remote_lists::RemoteList,
    signatures::SignedMasterRow,
    tokens::TokenHash,
};

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

/// Identity keys of this server's devices. Key: user, device. Value: the JSON object, with no
/// signatures but the owner's, and without `unsigned`.
/// Written by `device_keys` and `signatures`. Only for devices that exist.
pub(crate) const DEVICE_KEYS: Table<(String, String), String> =
    Table::new(0x020b, "device_keys", Family::Main);

/// One-time keys that nobody has claimed. Key: user, device, algorithm, when it was uploaded, name.
/// Value: the JSON. Written by `one_time_keys`. Deleted by the claim that hands it out.
pub(crate) const ONE_TIME_KEYS: Table<OneTimeKeyKey, String> =
    Table::new(0x020c, "one_time_keys", Family::Index);

/// Every one-time key that a device ever uploaded. Key: user, device, algorithm, name. Value: when
/// it was uploaded, or zero once it is claimed; SHA-256 of its canonical JSON.
/// Written with `ONE_TIME_KEYS`. Tells a key that comes a second time from a new one.
pub(crate) const ONE_TIME_KEY_NAMES: Table<KeyNameKey, Stamped<[u8; 32]>> =
    Table::new(0x020d, "one_time_key_names", Family::Main);

/// Fallback keys. Key: user, device, algorithm. Value: name, JSON, whether it was handed out.
/// Written by `one_time_keys`.
pub(crate) const FALLBACK_KEYS: Table<(String, String, String), Json<FallbackRow>> =
    Table::new(0x020e, "fallback_keys", Family::Main);

/// Cross-signing keys of this server's users. Key: user, usage. Value: the JSON object, with no
/// signatures but the owner's. Written by `cross_signing` and `signatures`.
pub(crate) const CROSS_SIGNING_KEYS: Table<(String, String), String> =
    Table::new(0x020f, "cross_signing_keys", Family::Main);

/// What a user of this server has signed of others. Key: who signed, whose master key. Value: when,
/// which key, and the signatures. Written by `signatures`. Shown to who signed only.
pub(crate) const SIGNED_MASTERS: Table<(String, String), Stamped<Json<SignedMasterRow>>> =
    Table::new(0x0210, "signed_masters", Family::Main);

/// The same in the order of change. Key: who signed, position, whose master key. Value: empty.
/// Written with `SIGNED_MASTERS`. One row for each of its rows.
pub(crate) const SIGNED_MASTERS_CHANGES: Table<(String, Position, String), ()> =
    Table::new(0x0211, "signed_masters_changes", Family::Index);

/// When the devices or cross-signing keys of a user changed last, here or elsewhere. Key: user.
/// Value: the position, and the number of the last change that other servers are told of.
/// Written by `device_lists`.
pub(crate) const DEVICE_LISTS: Table<String, Stamped<u64>> =
    Table::new(0x0212, "device_lists", Family::Main);

/// The same in the order of change. Key: position, user. Value: empty. The one table here whose
/// keys do not begin with a user: it answers who changed since a point.
/// Written with `DEVICE_LISTS`. One row for each of its rows.
pub(crate) const DEVICE_LISTS_CHANGES: Table<(Position, String), ()> =
    Table::new(0x0213, "device_lists_changes", Family::Index);

/// The changes that other servers are told of. Key: user, number. Value: the device.
/// Written by `device_lists`, for this server's users. The last thousand of a user are kept.
pub(crate) const DEVICE_LIST_STREAM: Table<(String, u64), Json<StreamRow>> =
    Table::new(0x0214, "device_list_stream", Family::Index);

/// What is known of the devices of other servers' users. Key: user. Value: devices, keys, and
/// whether they can be relied on. Written by `remote_lists`.
pub(crate) const REMOTE_LISTS: Table<String, Json<RemoteList>> =
    Table::new(0x0215, "remote_lists", Family::Events);

/// Messages that wait for a device. Key: user, device, position. Value: the event's JSON.
/// Written by `to_device`. Deleted once the device has told that it has them.
pub(crate) const INBOX: Table<(String, String, Position), String> =
    Table::new(0x0216, "inbox", Family::Events);

/// Messages for devices that were taken in already. Key: who sent it, their device or none for one
/// of another server, type, transaction or message ID. Value: when. Written by `to_device`.
pub(crate) const TO_DEVICE_DONE: Table<KeyNameKey, Stamped<()>> =
    Table::new(0x0217, "to_device_done", Family::Main);

/// The same in order. Key: user, device, position, type, ID. Value: empty.
/// Written with `TO_DEVICE_DONE`. About the last thousand of a device are kept.
pub(crate) const TO_DEVICE_DONE_ORDER: Table<DoneOrderKey, ()> =
    Table::new(0x0218, "to_device_done_order", Family::Index);

/// Messages for devices of other servers. Key: server, position, number within the commit. Value:
/// content of the EDU. Written by `to_device`; deleted by who delivers them.
pub(crate) const TO_DEVICE_OUT: Table<(String, Position, u32), String> =
    Table::new(0x0219, "to_device_out", Family::Events);

/// Tokens that prove to others who a user is. Key: user, SHA-256 of the token. Value: when it ends,
/// in milliseconds since the Unix epoch. Written by `openid`.
pub(crate) const OPENID_TOKENS: Table<(String, [u8; 32]), u64> =
    Table::new(0x021a, "openid_tokens", Family::Main);

/// Versions of key backups. Key: user, version. Value: algorithm, count and etag.
/// Written by `key_backup`. A deleted one stays, so that no version is given out twice.
pub(crate) const BACKUPS: Table<(String, u64), Json<BackupRow>> =
    Table::new(0x021b, "backups", Family::Main);

/// Keys in backups. Key: user, version, room, session. Value: the JSON and what decides which of
/// two is kept. Written by `key_backup`, which counts them in `BACKUPS`.
pub(crate) const BACKUP_KEYS: Table<(String, u64, String, String), Json<BackupKeyRow>> =
    Table::new(0x021c, "backup_keys", Family::Events);

/// Dehydrated devices. Key: user. Value: which device, and what brings it back.
/// Written by `dehydrated`. The device is among `DEVICES`, without tokens.
pub(crate) const DEHYDRATED: Table<String, Json<DehydratedRow>> =
    Table::new(0x021d, "dehydrated", Family::Main);

/// User, device, algorithm, position, name.
type OneTimeKeyKey = (String, String, String, Position, String);

/// User, device, position, type, ID.
type DoneOrderKey = (String, String, Position, String, String);

/// User, device, algorithm or type, name.
type KeyNameKey = (String, String, String, String);

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
