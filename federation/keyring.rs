//! The keys of other servers: fetched from them, or else from notaries, remembered, and used to
//! verify what they sign.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys)

mod document;
mod fetch;
mod needs;
mod notary;
mod shelf;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use event::RequiredKeys;
use ruma::{OwnedServerName, signatures::PublicKeyMap};
use store::StoreError;
use tokio::sync::SemaphorePermit;

use crate::{Client, XMatrix, XMatrixError};

pub(crate) use self::{
    document::{KeyUse, ServerKeys},
    needs::{Gathered, Needs},
    shelf::Shelf,
};

/// Longest that an unknown server waits for its turn to be asked for its keys.
const STRANGER_WAIT: Duration = Duration::from_secs(5);

/// Verifies what other servers signed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keyring {
    client: Client,
}

/// Why a request is not taken for that of the server that it claims to come from.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RequestError {
    /// It is not signed, or not readably.
    #[error(transparent)]
    Header(#[from] XMatrixError),
    /// It is for another server.
    #[error("the request is for {0}")]
    OtherDestination(OwnedServerName),
    /// The server may not talk with us.
    #[error("{origin} may not talk with this server")]
    Denied {
        /// The server.
        origin: OwnedServerName,
    },
    /// The key that it is signed with could not be had, or is no longer valid.
    #[error("the key of {origin} is not known: {why}")]
    NoKey {
        /// The server.
        origin: OwnedServerName,
        /// What happened, as a sentence for people.
        why: String,
    },
    /// The signature is wrong.
    #[error("the signature of {origin} is wrong: {why}")]
    Wrong {
        /// The server.
        origin: OwnedServerName,
        /// What is wrong, as a sentence for people.
        why: String,
    },
}

impl Client {
    /// The keys of other servers.
    #[must_use]
    pub fn keyring(&self) -> Keyring {
        Keyring { client: self.clone() }
    }
}

impl Keyring {
    /// The keys of the given IDs, fetched where they are not known, whenever they were valid.
    pub async fn keys_for(&self, needed: Vec<RequiredKeys>) -> PublicKeyMap {
        let mut needs = Needs::default();
        for (server, key_ids) in &needed {
            needs.add(server, key_ids, KeyUse::AnyTime);
        }
        let gathered = self.gather(&needs).await;
        let mut keys = PublicKeyMap::new();
        for (server, key_ids) in &needed {
            let found = gathered.usable(server, key_ids, KeyUse::AnyTime);
            keys.entry(server.to_string()).or_default().extend(found);
        }
        keys
    }

    /// Checks that a request was signed by the server that it claims to come from, for this server,
    /// and that we talk with that server. Gives its name.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#request-authentication)
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn verify_request<T: AsRef<[u8]>>(
        &self,
        request: &http::Request<T>,
    ) -> Result<OwnedServerName, RequestError> {
        let signed = XMatrix::of_headers(request.headers())?;
        let here = self.client.server_name();
        let mut first_error = None;
        for one in signed {
            match self.verify_one(request, &one, here).await {
                Ok(()) => {
                    self.client.note_alive(&one.origin);
                    return Ok(one.origin);
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or(RequestError::Header(XMatrixError::Missing)))
    }

    async fn verify_one<T: AsRef<[u8]>>(
        &self,
        request: &http::Request<T>,
        signed: &XMatrix,
        here: &ruma::ServerName,
    ) -> Result<(), RequestError> {
        let origin = signed.origin.clone();
        if let Some(destination) = &signed.destination
            && destination != here
        {
            return Err(RequestError::OtherDestination(destination.clone()));
        }
        if self.client.check_allowed(&origin).is_err() {
            return Err(RequestError::Denied { origin });
        }
        let key_ids = [signed.key.clone()];
        let key_use = KeyUse::Request(self.client.now_ms());
        let mut needs = Needs::default();
        needs.add(&origin, &key_ids, key_use);
        let _turn = self.turn_of(&origin).await?;
        let gathered = self.gather(&needs).await;
        let usable = gathered.usable(&origin, &key_ids, key_use);
        if usable.is_empty() {
            let why = gathered.why_not(&origin);
            return Err(RequestError::NoKey { origin, why });
        }
        let keys: PublicKeyMap = [(origin.to_string(), usable)].into();
        signed.verify(request, here, &keys).map_err(|why| RequestError::Wrong { origin, why })
    }

    /// Waits until a server of which nothing is known may be asked for its keys. Whoever invents
    /// names must not keep us busy with asking; known servers need not wait.
    async fn turn_of(
        &self,
        origin: &OwnedServerName,
    ) -> Result<Option<SemaphorePermit<'_>>, RequestError> {
        if self.known(origin).await.is_ok_and(|known| !known.keys.is_empty()) {
            return Ok(None);
        }
        let turn = tokio::time::timeout(STRANGER_WAIT, self.client.strangers().acquire()).await;
        turn.map(Result::ok).map_err(|_| RequestError::NoKey {
            origin: origin.clone(),
            why: "too many unknown servers speak to this one just now".to_owned(),
        })
    }

    /// Documents of other servers' keys, for those who ask us as a notary, with the signatures that
    /// they came with. `wanted` says until when each should be valid, in milliseconds; a server
    /// whose known document holds for less is asked. Servers of which nothing is known are absent.
    pub async fn documents(
        &self,
        wanted: &BTreeMap<OwnedServerName, u64>,
    ) -> BTreeMap<OwnedServerName, String> {
        let fetched = self.fetch_documents(wanted).await;
        fetched
            .into_iter()
            .filter_map(|(server, keys)| Some((server, keys.document.clone()?)))
            .collect()
    }

    /// The client that fetches keys.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What is known of a server's keys, our own among them.
    async fn known(&self, server: &OwnedServerName) -> Result<Arc<ServerKeys>, StoreError> {
        if server == self.client.server_name() {
            Ok(Arc::new(ServerKeys::of_this_server(self.client.own_keys())))
        } else {
            self.client.shelf().get(server).await
        }
    }
}
