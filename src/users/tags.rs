//! Tags: a user's labels for a room, kept as its `m.tag` account data.

use ruma::{RoomId, UserId};
use serde_json::{Map, Value as JsonValue, value::RawValue as RawJsonValue};

use crate::{
    Users,
    account_data::json_text,
    error::{Result, UsersError},
};

/// The type of account data that holds tags.
const TAG: &str = "m.tag";

/// Tags of one room at most.
const TAGS_MAX: usize = 200;

/// Longest name of a tag, in bytes.
const TAG_BYTES_MAX: usize = 255;

impl Users {
    /// The tags that a user gave a room: name and information.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tags(&self, user_id: &UserId, room: &RoomId) -> Result<Map<String, JsonValue>> {
        let content = self.account_data(user_id, Some(room), TAG).await?;
        let mut content = object(content.as_ref().map(|content| content.get()));
        Ok(take_tags(&mut content))
    }

    /// Gives a room a tag, or changes it.
    ///
    /// # Errors
    /// [`UsersError::TooLarge`] for too long a name, or too many.
    pub async fn set_tag(
        &self,
        user_id: &UserId,
        room: &RoomId,
        tag: &str,
        info: &RawJsonValue,
    ) -> Result<()> {
        if tag.len() > TAG_BYTES_MAX {
            return Err(UsersError::TooLarge { what: "the name of the tag" });
        }
        let info: JsonValue = serde_json::from_str(info.get())
            .map_err(|error| UsersError::BadJson { what: error.to_string() })?;
        self.update_tags(user_id, room, |tags| {
            tags.insert(tag.to_owned(), info.clone());
            if tags.len() > TAGS_MAX {
                return Err(UsersError::TooLarge { what: "the list of tags" });
            }
            Ok(())
        })
        .await
    }

    /// Takes a tag away. Nothing happens where there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete_tag(&self, user_id: &UserId, room: &RoomId, tag: &str) -> Result<()> {
        self.update_tags(user_id, room, |tags| {
            tags.remove(tag);
            Ok(())
        })
        .await
    }

    async fn update_tags(
        &self,
        user_id: &UserId,
        room: &RoomId,
        change: impl Fn(&mut Map<String, JsonValue>) -> Result<()>,
    ) -> Result<()> {
        self.update_account_data(user_id, Some(room), TAG, |old| {
            let mut content = object(old);
            let before = take_tags(&mut content);
            let mut tags = before.clone();
            change(&mut tags)?;
            if tags == before && old.is_some() {
                return Ok(None);
            }
            content.insert("tags".to_owned(), JsonValue::Object(tags));
            json_text(&content).map(Some)
        })
        .await
    }
}

fn object(json: Option<&str>) -> Map<String, JsonValue> {
    json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

fn take_tags(content: &mut Map<String, JsonValue>) -> Map<String, JsonValue> {
    match content.remove("tags") {
        Some(JsonValue::Object(tags)) => tags,
        _ => Map::new(),
    }
}
