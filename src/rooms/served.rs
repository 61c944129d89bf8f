//! How an event is shown to one viewer: the body that all share, and `unsigned`, which is theirs
//! alone.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use event::Pdu;
use ruma::{
    DeviceId, OwnedEventId, OwnedUserId, UserId,
    events::{
        AnyStateEvent, AnySyncStateEvent, AnySyncTimelineEvent, AnyTimelineEvent,
        room::member::MembershipState,
    },
    serde::Raw,
};
use serde::Serialize;
use serde_json::value::RawValue as RawJsonValue;

use crate::{
    Rooms, error::Result, redaction, room::Room, stored_event::StoredEvent, visibility::Lens,
};

/// Who looks at an event.
#[derive(Clone, Copy, Debug)]
pub struct Viewer<'a> {
    /// The user.
    pub user_id: &'a UserId,
    /// The device with which they look, if any. It alone is told of its transaction IDs.
    pub device_id: Option<&'a DeviceId>,
}

/// An event with what one viewer is told besides.
#[derive(Clone, Debug)]
pub struct ServedEvent {
    /// The event; pruned where its sender is erased and the viewer was not there.
    pub event: Arc<StoredEvent>,
    /// The viewer's membership once the event was made.
    pub membership: Option<MembershipState>,
    /// The event that it replaced in the room's state; pruned where that one's sender is erased and
    /// the viewer was not there.
    pub prev_content: Option<Arc<Pdu>>,
    /// The redaction that pruned it, if the viewer may see that; pruned likewise.
    pub redacted_because: Option<Arc<StoredEvent>>,
}

/// Which body an event is shown with.
#[derive(Clone, Copy)]
enum Form {
    /// With the room's ID.
    Client,
    /// Without it, as under a room in `/sync`.
    Sync,
}

impl Form {
    fn body(self, pdu: &Pdu) -> Arc<str> {
        match self {
            Self::Client => pdu.client_json(),
            Self::Sync => pdu.sync_json(),
        }
    }
}

/// What a server adds to an event for one client.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#definition-clientevent_unsigneddata)
#[derive(Serialize)]
struct Unsigned<'a> {
    age: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    membership: Option<&'a MembershipState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_content: Option<&'a RawJsonValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacted_because: Option<Box<RawJsonValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces_state: Option<&'a OwnedEventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_id: Option<&'a str>,
}

impl ServedEvent {
    /// The event as an answer that does not name its room shows it.
    #[must_use]
    pub fn timeline_json(&self, viewer: Viewer<'_>, now_ms: u64) -> Raw<AnyTimelineEvent> {
        Raw::from_json(self.json(viewer, now_ms, Form::Client))
    }

    /// The event as `/sync` shows it in a timeline.
    #[must_use]
    pub fn sync_json(&self, viewer: Viewer<'_>, now_ms: u64) -> Raw<AnySyncTimelineEvent> {
        Raw::from_json(self.json(viewer, now_ms, Form::Sync))
    }

    /// The state event as an answer that does not name its room shows it.
    #[must_use]
    pub fn state_json(&self, viewer: Viewer<'_>, now_ms: u64) -> Raw<AnyStateEvent> {
        Raw::from_json(self.json(viewer, now_ms, Form::Client))
    }

    /// The state event as `/sync` shows it.
    #[must_use]
    pub fn sync_state_json(&self, viewer: Viewer<'_>, now_ms: u64) -> Raw<AnySyncStateEvent> {
        Raw::from_json(self.json(viewer, now_ms, Form::Sync))
    }

    fn json(&self, viewer: Viewer<'_>, now_ms: u64, form: Form) -> Box<RawJsonValue> {
        let event = &self.event;
        let age = |pdu: &Pdu| {
            let sent_ms = u64::from(pdu.origin_server_ts.0);
            i64::try_from(i128::from(now_ms) - i128::from(sent_ms)).unwrap_or(0)
        };
        let transaction_id = event.txn.as_ref().filter(|txn| {
            txn.user_id == viewer.user_id
                && viewer.device_id.is_some_and(|device| device.as_str() == txn.device_id)
        });
        let redacted_because = self.redacted_because.as_ref().map(|redaction| {
            let unsigned = format!("{{\"age\":{}}}", age(&redaction.pdu));
            splice(&form.body(&redaction.pdu), &unsigned)
        });
        let unsigned = Unsigned {
            age: age(&event.pdu),
            membership: self.membership.as_ref(),
            prev_content: self.prev_content.as_ref().map(|pdu| &*pdu.content),
            redacted_because,
            replaces_state: event.prev_state.as_ref(),
            transaction_id: transaction_id.map(|txn| txn.txn_id.as_str()),
        };
        // Nothing in it can fail to be encoded.
        let unsigned = serde_json::to_string(&unsigned).unwrap_or_else(|_| "{}".to_owned());
        splice(&form.body(&event.pdu), &unsigned)
    }
}

/// Adds `unsigned` to the JSON object of an event.
fn splice(body: &str, unsigned: &str) -> Box<RawJsonValue> {
    let open = body.strip_suffix('}').unwrap_or(body);
    let json = format!("{open},\"unsigned\":{unsigned}}}");
    RawJsonValue::from_string(json).unwrap_or_else(|error| {
        tracing::error!(%error, "an event could not be encoded");
        RawJsonValue::NULL.to_owned()
    })
}

impl Rooms {
    /// Shows events of a room to a user of this server. Those that they may not see are left out.
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn serve(
        &self,
        viewer: &UserId,
        room: &Room,
        events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<ServedEvent>> {
        let mut lens = Lens::new(self, room, viewer).await?;
        let mut seen = Vec::with_capacity(events.len());
        for event in events {
            if lens.shows(&event).await? {
                seen.push(event);
            }
        }
        self.dress(&mut lens, room, seen).await
    }

    /// Shows events whatever the history visibility says: the state of a room to those who may see
    /// it, or a user's own leave.
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn serve_all(
        &self,
        viewer: &UserId,
        room: &Room,
        events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<ServedEvent>> {
        let mut lens = Lens::new(self, room, viewer).await?;
        self.dress(&mut lens, room, events).await
    }

    /// Adds to events what one viewer is told besides.
    pub(crate) async fn dress(
        &self,
        lens: &mut Lens<'_>,
        room: &Room,
        events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<ServedEvent>> {
        let mut memberships = Vec::with_capacity(events.len());
        let mut senders = BTreeSet::new();
        for event in &events {
            let membership = lens.membership(event).await?;
            if membership != MembershipState::Join {
                senders.insert(event.pdu.sender.clone());
            }
            memberships.push(membership);
        }
        let extras = self.extras(room, &events).await?;
        senders.extend(extras.values().map(|event| event.pdu.sender.clone()));
        senders.retain(|sender| self.is_local(sender));
        let erased = self.erased_among(senders).await?;
        let mut served = Vec::with_capacity(events.len());
        for (event, membership) in events.into_iter().zip(memberships) {
            let hidden = membership != MembershipState::Join && erased.contains(&event.pdu.sender);
            let find = |id: &Option<OwnedEventId>| id.as_ref().and_then(|id| extras.get(id));
            let prev_content = match find(&event.prev_state) {
                Some(before) if !hidden => Some(veiled(lens, room, &erased, before).await?),
                _ => None,
            };
            let redacted_because = match find(&event.redacted_by) {
                Some(redaction) if lens.shows(redaction).await? => {
                    Some(veiled(lens, room, &erased, redaction).await?)
                }
                _ => None,
            };
            let event = if hidden { redaction::pruned(&event, room)? } else { event };
            served.push(ServedEvent {
                event,
                membership: Some(membership),
                prev_content: prev_content.map(|event| Arc::clone(&event.pdu)),
                redacted_because,
            });
        }
        Ok(served)
    }

    /// The events that others replaced or were redacted by, as far as we have them.
    async fn extras(
        &self,
        room: &Room,
        events: &[Arc<StoredEvent>],
    ) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>> {
        let ids: BTreeSet<&OwnedEventId> = events
            .iter()
            .flat_map(|event| [event.prev_state.as_ref(), event.redacted_by.as_ref()])
            .flatten()
            .collect();
        let ids: Vec<OwnedEventId> = ids.into_iter().cloned().collect();
        let numbers = self.event_numbers(room, &ids).await?;
        let numbers: Vec<_> = numbers.into_iter().flatten().collect();
        let found = self.events(room, &numbers).await?;
        Ok(found.into_iter().map(|event| (event.pdu.event_id.clone(), event)).collect())
    }
}

/// An event that tells of another, without its content where its own sender is erased and the
/// viewer was not there.
async fn veiled(
    lens: &mut Lens<'_>,
    room: &Room,
    erased: &BTreeSet<OwnedUserId>,
    event: &Arc<StoredEvent>,
) -> Result<Arc<StoredEvent>> {
    let hidden = erased.contains(&event.pdu.sender)
        && lens.membership(event).await? != MembershipState::Join;
    if hidden { redaction::pruned(event, room) } else { Ok(Arc::clone(event)) }
}
