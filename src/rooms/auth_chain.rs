//! Auth chains: the events that allow an event, and those that allow them, and so on.

use std::{collections::HashMap, sync::Arc};

use event::Pdu;
use ruma::OwnedEventId;

use crate::{
    append::Assembly,
    error::{Result, RoomsError},
};

/// Most events of an auth chain that are looked at.
pub(crate) const AUTH_CHAIN_LEN_MAX: usize = 200_000;

impl Assembly<'_> {
    /// Adds the auth chains of the events in a map to it.
    pub(crate) async fn load_auth_chains(
        &self,
        events: &mut HashMap<OwnedEventId, Arc<Pdu>>,
    ) -> Result<()> {
        let mut work: Vec<OwnedEventId> =
            events.values().flat_map(|pdu| pdu.auth_events.iter().cloned()).collect();
        while let Some(event_id) = work.pop() {
            if events.contains_key(&event_id) {
                continue;
            }
            if events.len() >= AUTH_CHAIN_LEN_MAX {
                return Err(RoomsError::invalid("an auth chain is too long"));
            }
            let Some(event) = self.event_by_id(&event_id).await? else {
                return Err(RoomsError::MissingEvent { event: event_id });
            };
            work.extend(event.pdu.auth_events.iter().cloned());
            events.insert(event_id, Arc::clone(&event.pdu));
        }
        Ok(())
    }
}
