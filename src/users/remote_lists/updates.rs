//! What other servers tell of their users' devices and keys.

use ruma::{
    ServerName, UserId,
    api::federation::transactions::edu::{DeviceListUpdateContent, SigningKeyUpdateContent},
};
use store::{Batch, Json, StoreError};

use super::{REMOTE_DEVICES_MAX, RemoteDevice, RemoteList, stage_list};
use crate::{
    Users,
    accounts::TRIES,
    device_lists::ListChange,
    error::{Result, UsersError},
};

/// Whether a user of another server is in a room with anybody here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharesRoom {
    /// They are: clients are told of what changes.
    Yes,
    /// They are not, or nobody knows: only what is kept of them is kept right.
    No,
}

/// What an update does to a list that is known.
enum Effect {
    /// It is in the list already.
    Known,
    /// The list with the update in it.
    Next { list: RemoteList, is_visible: bool },
    /// Something before it is missing.
    Gap,
}

impl Users {
    /// Takes in what another server tells of a device of one of its users. Where something before
    /// it was missed, the whole list is asked for.
    ///
    /// # Errors
    /// [`UsersError::Forbidden`] where the user is not of that server; when the store fails.
    pub async fn receive_device_list_update(
        &self,
        origin: &ServerName,
        content: &DeviceListUpdateContent,
        shares_room: SharesRoom,
    ) -> Result<()> {
        let user_id = &content.user_id;
        check_origin(origin, user_id)?;
        let is_fetched = self.inner.fetching.disturb(user_id);
        for _ in 0..TRIES {
            let Some(old) = self.remote_list(user_id).await? else {
                if is_fetched || shares_room == SharesRoom::Yes {
                    self.log_remote_change(user_id).await?;
                }
                return Ok(());
            };
            let mut batch = Batch::new();
            let is_gap = match effect(&old.0, content) {
                Effect::Known => return Ok(()),
                Effect::Next { list, is_visible } => {
                    stage_list(&mut batch, user_id, Some(&old), &list);
                    if is_visible {
                        self.stage_list_change(&mut batch, user_id, ListChange::default()).await?;
                    }
                    false
                }
                Effect::Gap => {
                    self.stage_distrust(&mut batch, user_id, &old).await?;
                    true
                }
            };
            match self.store().commit(batch).await {
                Ok(_) if is_gap => {
                    self.resync_behind(user_id);
                    return Ok(());
                }
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(UsersError::Contended)
    }

    /// Takes in what another server tells of the cross-signing keys of one of its users.
    ///
    /// # Errors
    /// [`UsersError::Forbidden`] where the user is not of that server; when the store fails.
    pub async fn receive_signing_key_update(
        &self,
        origin: &ServerName,
        content: &SigningKeyUpdateContent,
        shares_room: SharesRoom,
    ) -> Result<()> {
        let user_id = &content.user_id;
        check_origin(origin, user_id)?;
        let is_fetched = self.inner.fetching.disturb(user_id);
        for _ in 0..TRIES {
            let Some(old) = self.remote_list(user_id).await? else {
                if is_fetched || shares_room == SharesRoom::Yes {
                    self.log_remote_change(user_id).await?;
                }
                return Ok(());
            };
            let mut list = old.0.clone();
            list.set_signing_keys(
                user_id,
                content.master_key.as_ref(),
                content.self_signing_key.as_ref(),
            );
            // What was not told stays as it was.
            if content.master_key.is_none() {
                list.master.clone_from(&old.0.master);
            }
            if content.self_signing_key.is_none() {
                list.self_signing.clone_from(&old.0.self_signing);
            }
            if list.master == old.0.master && list.self_signing == old.0.self_signing {
                return Ok(());
            }
            let mut batch = Batch::new();
            stage_list(&mut batch, user_id, Some(&old), &list);
            self.stage_list_change(&mut batch, user_id, ListChange::default()).await?;
            match self.store().commit(batch).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(UsersError::Contended)
    }

    async fn stage_distrust(
        &self,
        batch: &mut Batch,
        user_id: &UserId,
        old: &Json<RemoteList>,
    ) -> Result<()> {
        let new = RemoteList { fresh: false, ..old.0.clone() };
        stage_list(batch, user_id, Some(old), &new);
        self.stage_list_change(batch, user_id, ListChange::default()).await
    }

    /// Asks for the whole list of a user while nobody waits for it. Where that fails, the next
    /// client that asks for the user's keys does it.
    fn resync_behind(&self, user_id: &UserId) {
        let fetching = self.inner.fetching.clone();
        if !fetching.queue(user_id) {
            return;
        }
        let (users, user_id) = (self.clone(), user_id.to_owned());
        tokio::spawn(async move {
            let permit = fetching.behind.acquire().await;
            let _turn = fetching.turn(user_id.server_name()).await;
            fetching.unqueue(&user_id);
            if permit.is_err() {
                return;
            }
            if let Err(error) = users.resync(&user_id).await {
                tracing::warn!(%error, user.id = %user_id, "a list of devices is not kept");
            }
        });
    }

    async fn resync(&self, user_id: &UserId) -> Result<()> {
        let fetch = self.inner.fetching.begin(vec![user_id.to_owned()]);
        let old = self.remote_list(user_id).await?;
        if old.as_ref().is_none_or(|old| old.0.fresh) {
            return Ok(());
        }
        match self.inner.config.remote.devices(user_id).await {
            Ok(answer) if fetch.is_undisturbed(user_id) => {
                self.keep_list(user_id, old.as_ref(), &RemoteList::of_devices(user_id, &answer))
                    .await
            }
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, user.id = %user_id, "devices cannot be asked for");
                Ok(())
            }
        }
    }
}

/// What an update does to a list.
fn effect(old: &RemoteList, content: &DeviceListUpdateContent) -> Effect {
    let stream_id = u64::from(content.stream_id);
    if old.fresh && old.stream_id == Some(stream_id) {
        return Effect::Known;
    }
    let follows = !content.prev_id.is_empty()
        && content.prev_id.iter().all(|prev| Some(u64::from(*prev)) == old.stream_id);
    if !old.fresh || !follows {
        return Effect::Gap;
    }
    let mut list = old.clone();
    list.stream_id = Some(stream_id);
    let before = list.devices.get(&content.device_id).cloned();
    if content.deleted == Some(true) {
        list.devices.remove(&content.device_id);
    } else {
        let name = content.device_display_name.clone();
        list.put(&content.user_id, &content.device_id, content.keys.as_ref(), name);
    }
    if list.devices.len() > REMOTE_DEVICES_MAX {
        return Effect::Gap;
    }
    let shown = |device: Option<RemoteDevice>| device.filter(|device| device.keys.is_some());
    let after = list.devices.get(&content.device_id).cloned();
    let is_visible = shown(before) != shown(after);
    Effect::Next { list, is_visible }
}

/// Refuses what a server tells of the users of others.
pub(crate) fn check_origin(origin: &ServerName, user_id: &UserId) -> Result<()> {
    if user_id.server_name() == origin {
        return Ok(());
    }
    Err(UsersError::Forbidden { what: format!("{user_id} is not a user of {origin}") })
}
