//! Events without their content, for those who may not see it. (Redactions themselves take effect
//! in `append`.)

use std::sync::Arc;

use crate::{error::Result, room::Room, stored_event::StoredEvent};

/// The event as a redaction would leave it, without being one.
pub(crate) fn pruned(event: &StoredEvent, room: &Room) -> Result<Arc<StoredEvent>> {
    let pdu = Arc::new(event::redact(&event.pdu, &room.rules)?);
    Ok(Arc::new(StoredEvent { pdu, ..event.clone() }))
}
