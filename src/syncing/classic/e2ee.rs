//! What end-to-end encryption needs of a sync: messages for the device, whose devices changed, and
//! how many keys of the device are left.
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#extensions-to-sync-2)

use rooms::{Memberships, Position};
use ruma::{
    OneTimeKeyAlgorithm, UInt,
    api::client::sync::sync_events::{
        DeviceLists,
        v3::{Response, ToDevice},
    },
};

use super::{Stretch, Wish};
use crate::{Syncing, device_lists, error::Result, token::SyncToken};

/// Messages for a device in one response; the rest comes with the next ones.
const TO_DEVICE_MAX: usize = 100;

/// Adds to a response what the device needs for encryption. Gives the token that goes with it.
pub(super) async fn add(
    syncing: &Syncing,
    wish: &Wish<'_>,
    stretch: Stretch,
    memberships: &Memberships,
    response: &mut Response,
) -> Result<SyncToken> {
    let users = &syncing.inner.users;
    let (viewer, device_id) = (&wish.request.user_id, &wish.request.device_id);
    let upto = stretch.upto.position;
    let after = stretch.since.map_or(Position::ZERO, |since| since.to_device);
    let inbox = users.inbox(viewer, device_id, after, upto, TO_DEVICE_MAX).await?;
    response.to_device = ToDevice::new();
    response.to_device.events = inbox.events;
    response.device_lists = match stretch.since {
        Some(since) => {
            device_lists::between(syncing, viewer, memberships, since.position, upto).await?
        }
        // Who has nothing asks for everybody.
        None => DeviceLists::new(),
    };
    let counts = users.key_counts(viewer, device_id).await?;
    // Clients take a missing number for "as before".
    let number = response.device_one_time_keys_count.entry(OneTimeKeyAlgorithm::SignedCurve25519);
    number.or_default();
    for (algorithm, count) in counts.one_time {
        let count = UInt::new(count).unwrap_or(UInt::MAX);
        response.device_one_time_keys_count.insert(algorithm, count);
    }
    response.device_unused_fallback_key_types = Some(counts.unused_fallback);
    let next = SyncToken { to_device: inbox.upto, ..stretch.upto };
    response.next_batch = next.to_string();
    Ok(next)
}
