//! Power levels, as the authorisation rules count them.

use std::{collections::HashSet, sync::Arc};

use event::Pdu;
use ruma::{
    Int, OwnedUserId, UserId,
    events::{StateEventType, TimelineEventType, room::power_levels::UserPowerLevel},
    room_version_rules::AuthorizationRules,
    state_res::events::{RoomCreateEvent, RoomPowerLevelsEvent, RoomPowerLevelsIntField},
};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    room::Room,
    tables::StateRoot,
};

/// Who may do what in one state of a room.
#[derive(Debug)]
pub struct Powers {
    rules: AuthorizationRules,
    creators: HashSet<OwnedUserId>,
    levels: Option<Arc<Pdu>>,
}

/// The level of a room's creator where there are no power levels yet.
const CREATOR_LEVEL: i32 = 100;

impl Powers {
    /// The powers that follow from the create event and the power levels, if there are any.
    ///
    /// # Errors
    /// [`RoomsError::Invalid`] when the create event does not name its creators.
    pub fn new(
        create: &Arc<Pdu>,
        levels: Option<Arc<Pdu>>,
        rules: &AuthorizationRules,
    ) -> Result<Self> {
        let creators = RoomCreateEvent::new(create.as_ref()).creators(rules);
        let creators = creators.map_err(RoomsError::invalid)?;
        Ok(Self { rules: rules.clone(), creators, levels })
    }

    /// The level of a user. That of a creator is infinite from room version 12 on.
    #[must_use]
    pub fn of(&self, user: &UserId) -> UserPowerLevel {
        let creator = self.creators.contains(user);
        if creator && self.rules.explicitly_privilege_room_creators {
            return UserPowerLevel::Infinite;
        }
        match &self.levels {
            Some(levels) => {
                let level = RoomPowerLevelsEvent::new(levels.as_ref())
                    .user_power_level(user, &self.rules)
                    .unwrap_or_default();
                UserPowerLevel::Int(level)
            }
            None if creator => UserPowerLevel::Int(Int::from(CREATOR_LEVEL)),
            None => UserPowerLevel::Int(RoomPowerLevelsIntField::UsersDefault.default_value()),
        }
    }

    /// The level that an action needs.
    #[must_use]
    pub fn needed(&self, field: RoomPowerLevelsIntField) -> Int {
        let level = self.levels.as_ref().and_then(|levels| {
            RoomPowerLevelsEvent::new(levels.as_ref())
                .get_as_int_or_default(field, &self.rules)
                .ok()
        });
        level.unwrap_or_else(|| field.default_value())
    }

    /// The level that sending an event needs.
    #[must_use]
    pub fn needed_to_send(&self, kind: &TimelineEventType, state_key: Option<&str>) -> Int {
        let level = self.levels.as_ref().and_then(|levels| {
            RoomPowerLevelsEvent::new(levels.as_ref())
                .event_power_level(kind, state_key, &self.rules)
                .ok()
        });
        level.unwrap_or_else(|| match state_key {
            Some(_) => RoomPowerLevelsIntField::StateDefault.default_value(),
            None => RoomPowerLevelsIntField::EventsDefault.default_value(),
        })
    }

    /// Whether a user has the level that an action needs.
    #[must_use]
    pub fn may(&self, user: &UserId, field: RoomPowerLevelsIntField) -> bool {
        self.of(user) >= self.needed(field)
    }

    /// Whether a user has the level that sending an event needs.
    #[must_use]
    pub fn may_send(
        &self,
        user: &UserId,
        kind: &TimelineEventType,
        state_key: Option<&str>,
    ) -> bool {
        self.of(user) >= self.needed_to_send(kind, state_key)
    }
}

impl Rooms {
    /// The powers in a state of a room.
    ///
    /// # Errors
    /// [`RoomsError::Damaged`] when the state has no create event.
    pub async fn powers(&self, room: &Room, root: StateRoot) -> Result<Powers> {
        let keys = [
            (StateEventType::RoomCreate, String::new()),
            (StateEventType::RoomPowerLevels, String::new()),
        ];
        let numbers = self.state_numbers(room, root, &keys).await?;
        let numbers: Vec<_> = numbers.into_iter().flatten().collect();
        let events = self.events(room, &numbers).await?;
        let find = |kind: &TimelineEventType| {
            events.iter().find(|event| event.pdu.kind == *kind).map(|event| Arc::clone(&event.pdu))
        };
        let create = find(&TimelineEventType::RoomCreate);
        let levels = find(&TimelineEventType::RoomPowerLevels);
        let create = create.ok_or_else(|| RoomsError::Damaged {
            room: room.room_id.clone(),
            why: "no create event in the state".to_owned(),
        })?;
        Powers::new(&create, levels, &room.rules.authorization)
    }
}
