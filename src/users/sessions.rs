//! Sessions: a device that proves with a token whose it is.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use store::{Batch, Json};

use crate::{
    Users,
    accounts::{Account, TRIES},
    device_lists::ListChange,
    error::{Result, TokenError, UsersError},
    log_row::{LOG_TOPIC, UsersLogRow},
    tables::{ACCOUNTS, DEVICES, DeviceRow, TOKENS, TokenPair},
    tokens::{NewToken, TokenHash, parse, random_text},
};

/// How long an access token works that was given out together with a refresh token, in
/// milliseconds.
pub const ACCESS_TOKEN_LIFETIME_MS: u64 = 60 * 60 * 1_000;

/// Longest ID that a client may choose for its device, in bytes.
const DEVICE_ID_BYTES_MAX: usize = 512;

/// Longest name of a device, in bytes.
pub(crate) const DEVICE_NAME_BYTES_MAX: usize = 1_024;

/// Letters of device IDs.
const DEVICE_LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Who calls, with which device.
#[derive(Debug)]
#[non_exhaustive]
pub struct Session {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// Whether the user administrates this server.
    pub admin: bool,
    /// Whether the user is a guest.
    pub guest: bool,
    /// Whether the user may only read and leave.
    pub suspended: bool,
    /// Whether the user may do nothing until unlocked.
    pub locked: bool,
    expires_ms: Option<u64>,
    /// When the device's last use was written, in milliseconds since the Unix epoch.
    pub(crate) touched_ms: AtomicU64,
}

/// A device that logs in.
#[derive(Clone, Debug, Default)]
pub struct NewDevice {
    /// The ID that the client wants. `None`: a new one.
    pub device_id: Option<OwnedDeviceId>,
    /// The name, where the device is new.
    pub display_name: Option<String>,
    /// How long its access token works.
    pub style: TokenStyle,
}

/// How long access tokens work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenStyle {
    /// Until logged out.
    #[default]
    Lasting,
    /// For [`ACCESS_TOKEN_LIFETIME_MS`]; a refresh token gives the next.
    Refreshed,
}

/// What a device gets that logged in, or refreshed its token.
#[derive(Clone)]
#[non_exhaustive]
pub struct Login {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// What it proves itself with.
    pub access_token: String,
    /// What it gets the next access token with.
    pub refresh_token: Option<String>,
    /// How long the access token works, in milliseconds.
    pub expires_in_ms: Option<u64>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user_id", &self.user_id)
            .field("device_id", &self.device_id)
            .finish_non_exhaustive()
    }
}

/// A token pair with its text.
struct Minted {
    pair: TokenPair,
    access: NewToken,
    refresh: Option<NewToken>,
}

impl Minted {
    fn into_login(self, user_id: OwnedUserId, device_id: OwnedDeviceId) -> Login {
        Login {
            user_id,
            device_id,
            access_token: self.access.text,
            expires_in_ms: self.refresh.is_some().then_some(ACCESS_TOKEN_LIFETIME_MS),
            refresh_token: self.refresh.map(|token| token.text),
        }
    }
}

impl Users {
    /// Logs a device in. A device of that ID that is there already loses its tokens and keeps its
    /// name.
    ///
    /// # Errors
    /// [`UsersError::Deactivated`]; [`UsersError::WrongPassword`] where the password was changed
    /// since the account was read; [`UsersError::Invalid`] for an impossible device ID.
    pub async fn log_in(&self, account: &Account, mut device: NewDevice) -> Result<Login> {
        let mut account = account.clone();
        let device_id = chosen_device_id(device.device_id.take())?;
        device.device_id = Some(device_id.clone());
        for _ in 0..TRIES {
            if account.deactivated {
                return Err(UsersError::Deactivated);
            }
            let user_id = account.user_id.clone();
            let old = self.device_row(&user_id, &device_id).await?;
            let mut row = account.row.clone();
            row.logins += 1;
            let mut batch = Batch::new();
            batch.expect(&ACCOUNTS, &user_id.to_string(), Some(&Json(account.row.clone())));
            batch.put(&ACCOUNTS, &user_id.to_string(), &Json(row));
            let login = self.stage_login(&mut batch, &user_id, old.as_ref(), &device).await?;
            let ended: Vec<_> =
                old.iter().flat_map(|row| &row.tokens).flat_map(TokenPair::hashes).collect();
            if self.write(batch, move |sessions| sessions.forget(ended)).await? {
                return Ok(login);
            }
            let now = self.account(&user_id).await?.ok_or(UsersError::WrongPassword)?;
            if now.row.password_hash != account.row.password_hash {
                return Err(UsersError::WrongPassword);
            }
            account = now;
        }
        Err(UsersError::Contended)
    }

    /// Writes a login into a batch. `old` is the device's row as it was read.
    pub(crate) async fn stage_login(
        &self,
        batch: &mut Batch,
        user_id: &UserId,
        old: Option<&DeviceRow>,
        device: &NewDevice,
    ) -> Result<Login> {
        let device_id = chosen_device_id(device.device_id.clone())?;
        let minted = self.mint(user_id, device.style)?;
        let key = (user_id.to_string(), device_id.to_string());
        let mut row = match old {
            Some(old) => old.clone(),
            None => DeviceRow {
                display_name: device.display_name.clone().map(short_name),
                created_ms: self.now_ms(),
                ..DeviceRow::default()
            },
        };
        for hash in row.tokens.iter().flat_map(TokenPair::hashes) {
            batch.delete(&TOKENS, &(key.0.clone(), hash.0));
        }
        for hash in minted.pair.hashes() {
            batch.put(&TOKENS, &(key.0.clone(), hash.0), &key.1);
        }
        row.tokens = vec![minted.pair.clone()];
        row.last_seen_ms = Some(self.now_ms());
        batch.expect(&DEVICES, &key, old.cloned().map(Json).as_ref());
        batch.put(&DEVICES, &key, &Json(row));
        if old.is_none() {
            // An earlier device of this name may have had keys.
            drop(self.inner.key_counts.change(vec![(user_id.to_owned(), device_id.clone())]));
            self.stage_list_change(batch, user_id, ListChange::device(&device_id)).await?;
            let (user_id, device_id) = (user_id.to_owned(), device_id.clone());
            batch.log(LOG_TOPIC, UsersLogRow::DeviceAdded { user_id, device_id }.encode()?);
        }
        Ok(minted.into_login(user_id.to_owned(), device_id))
    }

    /// Who proves themselves with an access token.
    ///
    /// # Errors
    /// [`TokenError::Unknown`]; [`TokenError::Expired`] where a refresh helps.
    pub async fn session(&self, access_token: &str) -> Result<Arc<Session>, TokenError> {
        let (user_id, hash) = parse(access_token, self.server_name()).ok_or(TokenError::Unknown)?;
        for _ in 0..TRIES {
            let epoch = match self.inner.sessions.get(&hash) {
                Ok(session) => return self.unexpired(session),
                Err(epoch) => epoch,
            };
            let (device_id, row) = self.token_device(&user_id, hash).await?;
            let index = row.tokens.iter().position(|pair| pair.access == hash);
            let index = index.ok_or(TokenError::Unknown)?;
            let account = self.account(&user_id).await?.ok_or(TokenError::Unknown)?;
            if account.deactivated {
                return Err(TokenError::Unknown);
            }
            let expires_ms = row.tokens.get(index).and_then(|pair| pair.access_expires_ms);
            let session = self.unexpired(Arc::new(Session {
                user_id: user_id.clone(),
                device_id,
                admin: account.admin,
                guest: account.guest,
                suspended: account.suspended,
                locked: account.locked,
                expires_ms,
                touched_ms: AtomicU64::new(row.last_seen_ms.unwrap_or_default()),
            }))?;
            if index > 0 && !self.settle(&session, row, index).await? {
                continue;
            }
            self.inner.sessions.remember(epoch, hash, &session);
            return Ok(session);
        }
        Err(UsersError::Contended.into())
    }

    /// Exchanges a refresh token for a new pair. The old pair works until one of the new is used.
    ///
    /// # Errors
    /// [`TokenError::Unknown`].
    pub async fn refresh(&self, refresh_token: &str) -> Result<Login, TokenError> {
        let (user_id, hash) =
            parse(refresh_token, self.server_name()).ok_or(TokenError::Unknown)?;
        for _ in 0..TRIES {
            let (device_id, old) = self.token_device(&user_id, hash).await?;
            let kept = old.tokens.iter().find(|pair| pair.refresh == Some(hash));
            let kept = kept.ok_or(TokenError::Unknown)?.clone();
            let account = self.account(&user_id).await?.ok_or(TokenError::Unknown)?;
            if account.deactivated {
                return Err(TokenError::Unknown);
            }
            let minted = self.mint(&user_id, TokenStyle::Refreshed)?;
            let tokens = vec![kept, minted.pair.clone()];
            let row = DeviceRow { tokens, ..old.clone() };
            if self.swap_tokens(&user_id, &device_id, old, row).await? {
                return Ok(minted.into_login(user_id, device_id));
            }
        }
        Err(UsersError::Contended.into())
    }

    /// Ends a session: its device is removed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn log_out(&self, session: &Session) -> Result<()> {
        self.delete_devices(&session.user_id, std::slice::from_ref(&session.device_id)).await
    }

    /// A new pair came into use: what it replaces ends. Says whether that was done.
    async fn settle(&self, session: &Session, old: DeviceRow, index: usize) -> Result<bool> {
        let tokens = old.tokens.get(index).cloned().into_iter().collect();
        let row = DeviceRow { tokens, ..old.clone() };
        self.swap_tokens(&session.user_id, &session.device_id, old, row).await
    }

    /// Replaces the tokens of a device, unless others changed it. Says whether that was done.
    async fn swap_tokens(
        &self,
        user_id: &UserId,
        device_id: &OwnedDeviceId,
        old: DeviceRow,
        row: DeviceRow,
    ) -> Result<bool> {
        let key = (user_id.to_string(), device_id.to_string());
        let hashes = |row: &DeviceRow| -> Vec<TokenHash> {
            row.tokens.iter().flat_map(TokenPair::hashes).collect()
        };
        let (before, after) = (hashes(&old), hashes(&row));
        let ended: Vec<_> = before.iter().filter(|hash| !after.contains(hash)).copied().collect();
        let mut batch = Batch::new();
        for hash in &ended {
            batch.delete(&TOKENS, &(key.0.clone(), hash.0));
        }
        for hash in after.iter().filter(|hash| !before.contains(hash)) {
            batch.put(&TOKENS, &(key.0.clone(), hash.0), &key.1);
        }
        batch.expect(&DEVICES, &key, Some(&Json(old)));
        batch.put(&DEVICES, &key, &Json(row));
        self.write(batch, move |sessions| sessions.forget(ended)).await
    }

    /// The device that a token belongs to.
    async fn token_device(
        &self,
        user_id: &UserId,
        hash: TokenHash,
    ) -> Result<(OwnedDeviceId, DeviceRow), TokenError> {
        let device_id = self.store().get(&TOKENS, &(user_id.to_string(), hash.0)).await?;
        let device_id = OwnedDeviceId::from(device_id.ok_or(TokenError::Unknown)?);
        let row = self.device_row(user_id, &device_id).await?.ok_or(TokenError::Unknown)?;
        Ok((device_id, row))
    }

    fn unexpired(&self, session: Arc<Session>) -> Result<Arc<Session>, TokenError> {
        match session.expires_ms {
            Some(expires_ms) if expires_ms <= self.now_ms() => Err(TokenError::Expired),
            _ => Ok(session),
        }
    }

    fn mint(&self, user_id: &UserId, style: TokenStyle) -> Result<Minted> {
        let access = NewToken::for_user(user_id)?;
        let refresh = match style {
            TokenStyle::Lasting => None,
            TokenStyle::Refreshed => Some(NewToken::for_user(user_id)?),
        };
        let pair = TokenPair {
            access: access.hash,
            access_expires_ms: refresh.as_ref().map(|_| self.now_ms() + ACCESS_TOKEN_LIFETIME_MS),
            refresh: refresh.as_ref().map(|token| token.hash),
        };
        Ok(Minted { pair, access, refresh })
    }
}

impl Session {
    /// Claims the right to write the device's last use, at most once in `interval_ms` milliseconds.
    pub(crate) fn claim_touch(&self, now_ms: u64, interval_ms: u64) -> bool {
        let last_ms = self.touched_ms.load(Ordering::Relaxed);
        now_ms >= last_ms.saturating_add(interval_ms)
            && self
                .touched_ms
                .compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// The ID that a client chose for its device, or a new one.
pub(crate) fn chosen_device_id(wanted: Option<OwnedDeviceId>) -> Result<OwnedDeviceId> {
    match wanted {
        None => Ok(OwnedDeviceId::from(random_text::<10>(DEVICE_LETTERS)?)),
        Some(device_id) if device_id.as_str().is_empty() => {
            Err(UsersError::invalid("the device ID is empty"))
        }
        Some(device_id) if device_id.as_str().len() > DEVICE_ID_BYTES_MAX => {
            Err(UsersError::invalid("the device ID is longer than 512 bytes"))
        }
        Some(device_id) => Ok(device_id),
    }
}

/// A device's name, cut to what is kept of it.
pub(crate) fn short_name(mut name: String) -> String {
    let mut end = DEVICE_NAME_BYTES_MAX.min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}
