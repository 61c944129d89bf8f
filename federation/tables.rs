//! The tables of this crate.

use ruma::ServerName;
use store::{Family, Json, Table};

use crate::keyring::ServerKeys;

/// The signing keys of other servers. Key: the server's name. Value: all keys that it ever had, as
/// far as we saw them, and its newest signed document. Written by the key ring whenever it fetched
/// a document. A key is never taken away, since old events are signed with it.
pub(crate) const SERVER_KEYS: Table<String, Json<ServerKeys>> =
    Table::new(0x0401, "server_keys", Family::Main);

/// The key of a server's row.
pub(crate) fn server_key(server: &ServerName) -> String {
    server.as_str().to_owned()
}
