//! Checking everything that is stored of the rooms, for `natterjack store check`.
//!
//! Every row is read by pages; what is held at once is a page, a few thousand events, and a few
//! bytes for each event, tree node and state entry of one room.

mod authority;
mod bits;
mod events;
mod forks;
mod gaps;
mod indexes;
mod log;
mod members;
mod outside;
mod pages;
mod report;
mod room;
mod states;
mod tables;
#[cfg(test)]
mod tests;

use ruma::{ServerName, signatures::PublicKeyMap};
use store::{Position, Store};

pub use self::report::CheckReport;
use self::{pages::Pages, room::RoomCheck};
use crate::{error::Result, tables::ROOMS};

/// Checks every room, event, state and index of a store, and that they agree with each other.
///
/// `keys` are all public keys that this server ever signed with. Nothing may be written meanwhile.
/// A
/// row that cannot be read is a disagreement as well, and ends the check of its room or table only.
///
/// # Errors
/// [`crate::RoomsError::Store`] when not even the list of rooms can be read.
pub async fn check(
    store: &Store,
    server_name: &ServerName,
    keys: PublicKeyMap,
) -> Result<CheckReport> {
    let oldest = store.read_log(Position::ZERO, log::PAGE_ROWS).await?;
    let mut check = Check {
        store,
        server_name,
        keys,
        log_start: oldest.first().map_or(Position::PENDING, |entry| entry.position),
        report: CheckReport::default(),
        local_members: 0,
        logged_events: 0,
    };
    let mut rooms = Pages::new(store, &ROOMS, ());
    while let Some(page) = rooms.next().await? {
        for (number, record) in page {
            let record = record.0;
            let room_id = record.room_id.clone();
            if let Err(error) = RoomCheck::run(&mut check, number, record).await {
                check.report.say(format!("room {room_id} cannot be read on: {error}"));
            }
        }
    }
    check.tables().await;
    check.log().await;
    Ok(check.report)
}

/// A check under way.
struct Check<'a> {
    store: &'a Store,
    server_name: &'a ServerName,
    /// Our key, for what we have signed.
    keys: PublicKeyMap,
    /// The position of the oldest row of the log.
    log_start: Position,
    report: CheckReport,
    /// Memberships of our users in all rooms.
    local_members: u64,
    /// Events in timelines that are not older than the log.
    logged_events: u64,
}
