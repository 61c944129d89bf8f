//! Profiles, devices and keys of other servers' users.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ruma::{
    OwnedDeviceId, OwnedUserId, ServerName, UserId,
    api::federation::{
        device::get_devices,
        keys::{claim_keys, get_keys},
        query::get_profile_information,
    },
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};
use serde::Deserialize;
use serde_json::Value as JsonValue;
use users::{ClaimedKeys, KeyClaims, RemoteDevices, RemoteError, RemoteKeys, RemoteResult};

use crate::{Client, Limits, client::bad_answer, remote::answers::Bounded};

/// Most devices of one user.
const DEVICES_MAX: usize = 5_000;

/// A profile: 30 s, 256 KiB.
const PROFILE: Limits = Limits { answer_bytes_max: 256 * 1024, ..Limits::QUERY };

/// Keys, for which a user's client waits: 30 s, 32 MiB.
const KEYS: Limits = Limits { answer_bytes_max: 32 * 1024 * 1024, ..Limits::QUERY };

#[async_trait]
impl users::Remote for Client {
    async fn profile(
        &self,
        user: &UserId,
        field: Option<&str>,
    ) -> RemoteResult<BTreeMap<String, JsonValue>> {
        let mut request = get_profile_information::v1::Request::new(user.to_owned());
        request.field = field.map(Into::into);
        self.ask(user.server_name(), request, PROFILE).await.map_err(of_users)
    }

    async fn devices(&self, user: &UserId) -> RemoteResult<RemoteDevices> {
        #[derive(Deserialize)]
        struct Answer {
            user_id: OwnedUserId,
            stream_id: u64,
            devices: Bounded<Device, DEVICES_MAX>,
            master_key: Option<Raw<CrossSigningKey>>,
            self_signing_key: Option<Raw<CrossSigningKey>>,
        }
        #[derive(Deserialize)]
        struct Device {
            device_id: OwnedDeviceId,
            keys: Option<Raw<DeviceKeys>>,
            device_display_name: Option<String>,
        }
        let server = user.server_name();
        let request = get_devices::v1::Request::new(user.to_owned());
        let answer: Answer = self.ask(server, request, KEYS).await.map_err(of_users)?;
        if answer.user_id != user {
            return Err(of_users(bad_answer(server, "it gave another user's devices")));
        }
        let devices = answer.devices.0.into_iter();
        Ok(RemoteDevices {
            stream_id: answer.stream_id,
            devices: devices.map(|d| (d.device_id, d.keys, d.device_display_name)).collect(),
            master_key: answer.master_key,
            self_signing_key: answer.self_signing_key,
        })
    }

    async fn query_keys(
        &self,
        server: &ServerName,
        users: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> RemoteResult<RemoteKeys> {
        #[derive(Deserialize)]
        struct Answer {
            device_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Raw<DeviceKeys>>>,
            #[serde(default)]
            master_keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>,
            #[serde(default)]
            self_signing_keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>,
        }
        let request = get_keys::v1::Request::new(users.clone());
        let answer: Answer = self.ask(server, request, KEYS).await.map_err(of_users)?;
        let mut keys = RemoteKeys {
            device_keys: answer.device_keys,
            master_keys: answer.master_keys,
            self_signing_keys: answer.self_signing_keys,
        };
        // A server speaks only for those it was asked about.
        keys.device_keys.retain(|user, _| users.contains_key(user));
        keys.master_keys.retain(|user, _| users.contains_key(user));
        keys.self_signing_keys.retain(|user, _| users.contains_key(user));
        Ok(keys)
    }

    async fn claim_keys(
        &self,
        server: &ServerName,
        wanted: KeyClaims,
    ) -> RemoteResult<ClaimedKeys> {
        #[derive(Deserialize)]
        struct Answer {
            one_time_keys: ClaimedKeys,
        }
        let request = claim_keys::v1::Request::new(wanted.clone());
        let answer: Answer = self.ask(server, request, KEYS).await.map_err(of_users)?;
        let mut keys = answer.one_time_keys;
        keys.retain(|user, devices| match wanted.get(user) {
            Some(wanted) => {
                devices.retain(|device, _| wanted.contains_key(device));
                true
            }
            None => false,
        });
        Ok(keys)
    }
}

/// The error as users know it.
fn of_users(error: rooms::RemoteError) -> RemoteError {
    match error {
        rooms::RemoteError::Refused { server, status, errcode, message, .. } => {
            RemoteError::Refused { server, status, errcode, message }
        }
        rooms::RemoteError::Denied { server, why }
        | rooms::RemoteError::Unreachable { server, why }
        | rooms::RemoteError::BadAnswer { server, why } => RemoteError::Unavailable { server, why },
    }
}
