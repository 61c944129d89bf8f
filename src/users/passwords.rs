//! Passwords: argon2id, on a bounded number of threads.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash::SaltString,
};
use ruma::{DeviceId, UserId};
use store::{Batch, Json};
use tokio::sync::Semaphore;

use crate::{
    Users,
    accounts::{Account, TRIES},
    error::{Result, UsersError},
    tables::ACCOUNTS,
    tokens::random,
};

/// Longest password, in bytes. Longer ones only waste time.
const PASSWORD_BYTES_MAX: usize = 512;

/// Passwords hashed at the same time. Each takes `memory_kib` and one core.
const HASHING_MAX: usize = 2;

/// Passwords that may wait for their turn. More are refused.
const WAITING_MAX: usize = 128;

/// Hashes and checks passwords.
#[derive(Debug)]
pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// A hash of nobody's password, checked where there is no such user, so that both take as long.
    nobody: String,
}

impl Passwords {
    pub(crate) fn new(memory_kib: u32, iterations: u32) -> Result<Self> {
        let params = Params::new(memory_kib, iterations, 1, None)
            .map_err(|error| UsersError::BadConfig { why: error.to_string() })?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let nobody = hash_with(&argon2, b"nobody")?;
        Ok(Self {
            argon2,
            running: Arc::new(Semaphore::new(HASHING_MAX)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            nobody,
        })
    }

    /// Hashes a password with a new salt, as a PHC string.
    pub(crate) async fn hash(&self, password: String) -> Result<String> {
        check_new_password(&password)?;
        let argon2 = self.argon2.clone();
        self.run(move || hash_with(&argon2, password.as_bytes())).await?
    }

    /// Whether a password is the one that was hashed. `None` takes as long and is never right.
    pub(crate) async fn verify(&self, password: String, hash: Option<String>) -> Result<bool> {
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        if password.len() > PASSWORD_BYTES_MAX {
            return Ok(false);
        }
        let argon2 = self.argon2.clone();
        let right = self.run(move || verify_with(&argon2, password.as_bytes(), &hash)).await??;
        Ok(right && exists)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(UsersError::Busy);
        };
        let Ok(running) = Arc::clone(&self.running).acquire_owned().await else {
            return Err(UsersError::Busy);
        };
        let task = tokio::task::spawn_blocking(move || {
            // Held by the work, not by the caller: who hangs up does not free a thread that still
            // hashes.
            let _running = running;
            work()
        });
        task.await.map_err(|error| UsersError::Hashing { why: error.to_string() })
    }
}

/// Refuses what cannot be a new password, before anybody has to prove anything for it.
///
/// # Errors
/// [`UsersError::Invalid`] for an empty or too long one.
pub fn check_new_password(password: &str) -> Result<()> {
    if password.is_empty() {
        return Err(UsersError::invalid("the password is empty"));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(UsersError::invalid("the password is longer than 512 bytes"));
    }
    Ok(())
}

fn hash_with(argon2: &Argon2<'_>, password: &[u8]) -> Result<String> {
    let fail = |why: String| UsersError::Hashing { why };
    let salt = SaltString::encode_b64(&random::<16>()?).map_err(|error| fail(error.to_string()))?;
    let hash = argon2.hash_password(password, &salt).map_err(|error| fail(error.to_string()))?;
    Ok(hash.to_string())
}

fn verify_with(argon2: &Argon2<'_>, password: &[u8], hash: &str) -> Result<bool> {
    let hash = PasswordHash::new(hash).map_err(UsersError::bad_row)?;
    match argon2.verify_password(password, &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::Password) => Ok(false),
        Err(error) => Err(UsersError::Hashing { why: error.to_string() }),
    }
}

impl Users {
    /// Finds the account of somebody who says who they are, and checks the password.
    ///
    /// # Errors
    /// [`UsersError::WrongPassword`] where either is wrong; [`UsersError::Deactivated`].
    pub async fn authenticate(&self, user: &str, password: &str) -> Result<Account> {
        let account = self.find_account(user).await?;
        let hash = account.as_ref().and_then(|account| account.row.password_hash.clone());
        let right = self.inner.passwords.verify(password.to_owned(), hash).await?;
        match account {
            Some(account) if account.deactivated => Err(UsersError::Deactivated),
            Some(account) if right => Ok(account),
            _ => Err(UsersError::WrongPassword),
        }
    }

    /// Whether this is the user's password.
    ///
    /// # Errors
    /// [`UsersError::Busy`], or when the store fails.
    pub async fn verify_password(&self, user_id: &UserId, password: &str) -> Result<bool> {
        let account = self.account(user_id).await?;
        let hash = account.and_then(|account| account.row.password_hash);
        self.inner.passwords.verify(password.to_owned(), hash).await
    }

    /// Gives a user another password, and logs the others out: none, all devices, or all but one.
    ///
    /// # Errors
    /// [`UsersError::NotFound`], [`UsersError::Deactivated`], [`UsersError::Invalid`] for an
    /// impossible password.
    pub async fn set_password(
        &self,
        user_id: &UserId,
        password: &str,
        log_out: LogOut<'_>,
    ) -> Result<()> {
        let hash = self.inner.passwords.hash(password.to_owned()).await?;
        for _ in 0..TRIES {
            let account = self.load_open_account(user_id).await?;
            let mut row = account.row.clone();
            row.password_hash = Some(hash.clone());
            let mut batch = Batch::new();
            batch.expect(&ACCOUNTS, &user_id.to_string(), Some(&Json(account.row)));
            batch.put(&ACCOUNTS, &user_id.to_string(), &Json(row));
            self.stage_log_out(&mut batch, user_id, log_out).await?;
            let whose = user_id.to_owned();
            if self.write(batch, move |sessions| sessions.forget_user(&whose)).await? {
                return Ok(());
            }
        }
        Err(UsersError::Contended)
    }
}

/// Who is logged out.
#[derive(Clone, Copy, Debug)]
pub enum LogOut<'a> {
    /// Nobody.
    Nobody,
    /// All devices.
    Everybody,
    /// All devices but this one.
    Others(&'a DeviceId),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_recognised_and_others_are_not() {
        let passwords = Passwords::new(64, 1).unwrap();
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        let verify = |text: &str, hash| passwords.verify(text.to_owned(), hash);
        assert!(verify("correct horse", Some(hash.clone())).await.unwrap());
        assert!(!verify("battery staple", Some(hash)).await.unwrap());
        assert!(!verify("nobody", None).await.unwrap());
    }

    #[tokio::test]
    async fn impossible_passwords_are_refused() {
        let passwords = Passwords::new(64, 1).unwrap();
        assert!(passwords.hash(String::new()).await.is_err());
        assert!(passwords.hash("x".repeat(513)).await.is_err());
        assert!(Passwords::new(1, 0).is_err());
    }
}
