//! What other servers tell that is not part of a room's history: who types, who has read what, who
//! is online, and news of devices.
//!
//! A server speaks for its own users only; the crates that are told check that. What is malformed
//! or fails is left out, and never spoils the rest.

use rooms::RoomsError;
use ruma::{
    ServerName, UserId,
    api::federation::transactions::edu::{
        DeviceListUpdateContent, DirectDeviceContent, PresenceUpdate, SigningKeyUpdateContent,
        TypingContent,
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use users::{SharesRoom, UsersError};

use crate::{
    door::Door,
    inbound::{
        error::{Refusal, Result},
        transaction_body::EduPart,
    },
};

/// Why an EDU came to nothing.
enum Trouble {
    /// It makes no sense, or is not its sender's to send.
    Theirs(String),
    /// This server could not take it now: it should come again.
    Ours(Refusal),
}

impl From<RoomsError> for Trouble {
    fn from(error: RoomsError) -> Self {
        match error {
            RoomsError::Store(_) | RoomsError::Stopping => Self::Ours(error.into()),
            other => Self::Theirs(other.to_string()),
        }
    }
}

impl From<UsersError> for Trouble {
    fn from(error: UsersError) -> Self {
        match error {
            UsersError::Store(_)
            | UsersError::Busy
            | UsersError::Contended
            | UsersError::Stopping => Self::Ours(error.into()),
            other => Self::Theirs(other.to_string()),
        }
    }
}

/// Takes note of EDUs, one by one and in order.
///
/// # Errors
/// Where this server is at fault: the transaction should come again.
pub(super) async fn receive(
    door: &Door,
    origin: &ServerName,
    edus: Vec<EduPart<'_>>,
) -> Result<()> {
    for edu in edus {
        match receive_one(door, origin, &edu).await {
            Ok(()) => {}
            Err(Trouble::Theirs(why)) => {
                tracing::info!(%origin, kind = edu.kind, why, "an EDU is passed over");
            }
            Err(Trouble::Ours(refusal)) => return Err(refusal),
        }
    }
    Ok(())
}

/// Takes note of one EDU.
async fn receive_one(door: &Door, origin: &ServerName, edu: &EduPart<'_>) -> Result<(), Trouble> {
    let Door { rooms, users, .. } = door;
    match edu.kind.as_str() {
        "m.typing" => {
            let TypingContent { room_id, user_id, typing, .. } = content(edu)?;
            rooms.receive_typing(origin, &room_id, &user_id, typing).await?;
        }
        "m.receipt" => rooms.receive_receipts(origin, edu.content).await?,
        "m.presence" => users.receive_presence(origin, presence_updates(edu)?),
        "m.device_list_update" => {
            let update: DeviceListUpdateContent = content(edu)?;
            let shares_room = shares_room(door, &update.user_id).await?;
            users.receive_device_list_update(origin, &update, shares_room).await?;
        }
        // Older servers write the second name.
        "m.signing_key_update" | "org.matrix.signing_key_update" => {
            let update: SigningKeyUpdateContent = content(edu)?;
            let shares_room = shares_room(door, &update.user_id).await?;
            users.receive_signing_key_update(origin, &update, shares_room).await?;
        }
        "m.direct_to_device" => {
            let message: DirectDeviceContent = content(edu)?;
            users.receive_to_device(origin, &message).await?;
        }
        _ => return Err(Trouble::Theirs("no EDUs of this type are known".to_owned())),
    }
    Ok(())
}

fn content<T: DeserializeOwned>(edu: &EduPart<'_>) -> Result<T, Trouble> {
    serde_json::from_str(edu.content.get()).map_err(|error| Trouble::Theirs(error.to_string()))
}

/// Reads presences one by one, so that a malformed one does not spoil the others. Synapse leaves
/// `last_active_ago` out for those who were never active.
fn presence_updates(edu: &EduPart<'_>) -> Result<Vec<PresenceUpdate>, Trouble> {
    #[derive(Deserialize)]
    struct Content {
        push: Vec<Value>,
    }
    let Content { push } = content(edu)?;
    let read = |mut update: Value| {
        update.as_object_mut()?.entry("last_active_ago").or_insert_with(|| 0.into());
        serde_json::from_value(update).ok()
    };
    Ok(push.into_iter().filter_map(read).collect())
}

/// Whether a user of another server is in a room with anybody here.
async fn shares_room(door: &Door, user: &UserId) -> Result<SharesRoom, RoomsError> {
    for number in door.rooms.rooms_of(user).await? {
        let room = door.rooms.room_by_number(number).await?;
        if door.rooms.joined_servers(&room).await?.contains(&door.server_name) {
            return Ok(SharesRoom::Yes);
        }
    }
    Ok(SharesRoom::No)
}
