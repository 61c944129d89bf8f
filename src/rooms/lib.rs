//! What is true in each room, and who may do what: events, their graph, state, membership, aliases
//! and receipts.
//!
//! Every local event goes through [`Rooms::send`] or a sibling of it, is authorised by the rules of
//! its room version and becomes
//! durable in one batch. This crate does not know HTTP, users' devices, sync, or who follows the
//! log.

mod acl;
mod aliases;
mod append;
mod auth_chain;
mod cache;
mod check;
mod codec;
mod commit;
mod config;
mod create;
mod directory;
mod erasure;
mod error;
mod for_servers;
mod head;
mod hierarchy;
mod history;
mod invite;
mod join;
mod knock;
mod lane;
mod leave;
mod log_row;
mod members;
mod membership;
mod moderate;
mod new_event;
mod outliers;
mod partial;
mod policy;
mod power;
mod prepare;
mod preview;
mod profile_change;
mod receipts;
mod receive;
mod redaction;
mod remote;
mod room;
mod send;
mod served;
mod servers;
mod state;
mod stored_event;
mod summary;
mod tables;
mod third_party;
mod timeline;
mod timestamp;
mod typing;
mod upgrade;
mod visibility;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use clock::Clock;
use ruma::{ServerName, UserId};
use store::Store;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    cache::Caches, for_servers::ServerStates, hierarchy::Walks, lane::Lanes, partial::Partials,
    typing::Typing,
};

pub use crate::{
    aliases::DeletedBy,
    check::*,
    config::{CACHE_BYTES_DEFAULT, RoomsConfig},
    create::{NewRoom, RoomPreset, Visibility},
    directory::{PublicRoomsPage, PublicRoomsQuery},
    error::{Result, RoomsError},
    for_servers::{NumberedId, StateForServer},
    head::Head,
    hierarchy::{HierarchyPage, HierarchyQuery, ServerHierarchy, SpaceRoom},
    lane::Lane,
    log_row::{LOG_TOPIC, RoomsLogRow},
    members::MembersQuery,
    membership::{JoinGrant, MembershipRecord, Memberships, Profile},
    new_event::{NewEvent, TxnKey},
    power::Powers,
    preview::{Asker, Preview},
    receipts::Receipt,
    receive::Received,
    remote::*,
    room::Room,
    served::{ServedEvent, Viewer},
    servers::JoinedServers,
    state::{StateKeyEntry, StateSelect},
    stored_event::{StoredEvent, Txn},
    summary::Summary,
    tables::{EventNumber, NodeNumber, RoomNumber, StateKeyNumber, StateRoot},
    third_party::ThirdPartyInvite,
    timeline::{Context, EventFilter, MessagesPage, MessagesQuery, PageToken},
    typing::{REMOTE_TYPING_MS, TYPING_TIMEOUT_MS_MAX},
    upgrade::Upgrade,
};
pub use event::{Pdu, SUPPORTED as SUPPORTED_VERSIONS};
pub use store::Position;

/// The rooms of this server: the one handle through which they are read and changed. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct Rooms {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones of [`Rooms`] share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) config: RoomsConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lanes: Lanes,
    pub(crate) caches: Caches,
    pub(crate) typing: Typing,
    pub(crate) walks: Walks,
    pub(crate) server_states: ServerStates,
    pub(crate) tasks: TaskTracker,
    pub(crate) partials: Partials,
    /// Cancelled when we stop: whoever waits for other servers gives up.
    pub(crate) closing: CancellationToken,
}

impl Rooms {
    /// Opens the rooms kept in a store.
    ///
    /// # Errors
    /// [`RoomsError::UnsupportedVersion`] when the default room version is not one we can make
    /// rooms of.
    pub async fn open(store: Store, config: RoomsConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        config.check()?;
        let caches = Caches::new(config.cache_bytes);
        let inner = Inner {
            store,
            config,
            clock,
            lanes: Lanes::default(),
            caches,
            typing: Typing::default(),
            walks: Walks::default(),
            server_states: ServerStates::default(),
            tasks: TaskTracker::new(),
            partials: Partials::default(),
            closing: CancellationToken::new(),
        };
        let rooms = Self { inner: Arc::new(inner) };
        rooms.resume_partials().await?;
        Ok(rooms)
    }

    /// Waits until every commit under way has reached the store and the caches. New work must not
    /// be started after this.
    pub async fn stop(&self) {
        self.inner.closing.cancel();
        self.inner.typing.end();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Runs what a change in a room entails and nobody waits for. [`Rooms::stop`] waits for it.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.inner.tasks.spawn(work);
    }

    /// The name of this server, the domain of its users.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.inner.config.server_name
    }

    /// Whether a user belongs to this server.
    #[must_use]
    pub fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.server_name()
    }

    /// The room version that new rooms get where the creator names none.
    #[must_use]
    pub fn default_version(&self) -> &ruma::RoomVersionId {
        &self.inner.config.default_version
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.inner.clock.now_ms()
    }
}
