//! The tables of files.

use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};
use store::{Family, Json, Table};

/// The files. Key: server, media ID. Written by `upload` and `download`, after the bytes are safe
/// on disk. Never changes.
pub(crate) const FILES: Table<(String, String), Json<FileRow>> =
    Table::new(0x0601, "media_files", Family::Main);

/// The files that users have announced. Key: user, media ID. Value: until when they may come, in
/// milliseconds since the Unix epoch. Deleted when the file comes.
pub(crate) const PROMISES: Table<(String, String), u64> =
    Table::new(0x0602, "media_promises", Family::Index);

/// Who has announced a file. Key: media ID. Value: user. Written and deleted with [`PROMISES`].
pub(crate) const PROMISED_BY: Table<String, String> =
    Table::new(0x0603, "media_promised_by", Family::Main);

/// Smaller pictures. Key: server, media ID, form. Written by `thumbnails`.
pub(crate) const THUMBNAILS: Table<(String, String, String), Json<FileRow>> =
    Table::new(0x0604, "media_thumbnails", Family::Main);

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRow {
    /// SHA-256 of the bytes, in hexadecimal digits: the name under which they are kept.
    pub(crate) hash: String,
    /// How many bytes it has.
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) filename: Option<String>,
    /// The user of ours who uploaded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uploader: Option<OwnedUserId>,
    pub(crate) created_ms: u64,
}
