//! A space and its children, as one server tells another.

use ruma::room::RoomSummary;
use ruma::{OwnedRoomId, RoomId, events::space::child::HierarchySpaceChildEvent, serde::Raw};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue as RawJsonValue;

use crate::hierarchy::{CHILDREN_MAX, SpaceRoom};

/// What a server tells of a space: itself, its children, and those of them that the asker may not
/// know of.
#[derive(Clone, Debug)]
pub struct ServerHierarchy {
    /// The space.
    pub room: SpaceRoom,
    /// Its children, as far as the server has them.
    pub children: Vec<RoomSummary>,
    /// Children that the asker's users can not see.
    pub inaccessible: Vec<OwnedRoomId>,
}

/// The JSON of a [`ServerHierarchy`].
#[derive(Serialize, Deserialize)]
struct Answer {
    room: Box<RawJsonValue>,
    #[serde(default)]
    children: Vec<Box<RawJsonValue>>,
    #[serde(default)]
    inaccessible_children: Vec<OwnedRoomId>,
}

/// The part of a room that its summary lacks.
#[derive(Deserialize)]
struct Children {
    #[serde(default)]
    children_state: Vec<Raw<HierarchySpaceChildEvent>>,
}

impl ServerHierarchy {
    /// Reads another server's answer, in which children that make no sense are passed over. `None`
    /// where it is not about the room asked for.
    pub(crate) fn parse(json: &RawJsonValue, room_id: &RoomId) -> Option<Self> {
        let answer: Answer = serde_json::from_str(json.get()).ok()?;
        let summary: RoomSummary = serde_json::from_str(answer.room.get()).ok()?;
        if summary.room_id != room_id {
            return None;
        }
        let Children { mut children_state } = serde_json::from_str(answer.room.get()).ok()?;
        children_state.truncate(CHILDREN_MAX);
        let children = answer.children.iter().take(CHILDREN_MAX);
        Some(Self {
            room: SpaceRoom { summary, children: children_state },
            children: children.filter_map(|json| serde_json::from_str(json.get()).ok()).collect(),
            inaccessible: answer.inaccessible_children,
        })
    }
}
