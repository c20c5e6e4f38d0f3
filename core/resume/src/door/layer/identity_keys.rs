//! The keys that sign identities, as an operator changes them.

#[cfg(test)]
mod tests;

use super::SessionResume;
use crate::{IdentityKey, IdentityKeysError, KeyRotation, live::registry::Registry, tasks};

impl<T: Send + 'static> SessionResume<T> {
    /// Makes a new key that signs identity cookies, and keeps it in the store. No browser is lost, and nothing has to be
    /// deployed.
    ///
    /// The new key is believed at once by every process that has read it, and signs after 10 minutes. By then all processes
    /// have read it: each reads the keys once a minute. From then on a cookie under an older key is replaced when it is
    /// used. An old key is believed for as long as cookies under it may live
    /// ([`with_max_age`](crate::IdentityCookie::with_max_age), at most 400 days, and one day more). The next rotation drops
    /// it from the store.
    ///
    /// All layers on the store have these keys in common. If their cookies live for different times, rotate at the layer
    /// whose cookies live longest. There are at most 16 keys.
    ///
    /// While a new key does not sign yet, there is no other one: if several processes rotate at the same time, they make
    /// one key.
    ///
    /// # Errors
    ///
    /// [`IdentityKeysError`] if the keys are not in a store, if there are too many, or if the store fails.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the key was made or not. Call again: a key that waits is not made twice.
    ///
    /// # Example
    ///
    /// ```
    /// use session_resume::{IdentityKeyRole, KeyRotation, SessionResume, store::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), session_resume::IdentityKeysError> {
    /// let resume = SessionResume::new().with_store(MemoryStore::new());
    /// let KeyRotation::Made { signs_from } = resume.rotate_identity_keys().await? else {
    ///     panic!("another process has rotated within the last 10 minutes");
    /// };
    /// let [first, new] = resume.identity_keys()[..] else { panic!("there are two keys") };
    /// assert_eq!((first.role, first.made), (IdentityKeyRole::Signing, None));
    /// assert_eq!((new.role, new.signs_from), (IdentityKeyRole::Waiting, Some(signs_from)));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn rotate_identity_keys(&self) -> Result<KeyRotation, IdentityKeysError> {
        self.at_work().rotate_identity_keys().await
    }

    /// Drops all keys that sign identity cookies, and keeps a new one in the store, which signs at once: somebody else may
    /// have the keys.
    ///
    /// Every browser gets a new identity. Its former sessions end by the expiry rules; those in memory whose clients are
    /// attached go on until the clients have to come back. The other processes follow when they next read the keys: within a
    /// minute, or a second after the first cookie under the new key. Until then they believe the former keys. Keys that
    /// [`with_old_keys`](crate::IdentityCookie::with_old_keys) gives are not dropped.
    ///
    /// # Errors
    ///
    /// [`IdentityKeysError`] if the keys are not in a store, or if the store fails.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, it has happened or not. Call again.
    pub async fn revoke_identity_keys(&self) -> Result<(), IdentityKeysError> {
        self.at_work().revoke_identity_keys().await
    }

    /// Reads the keys from the store now, and returns them as [`identity_keys`](Self::identity_keys) does.
    ///
    /// Once the layer is at work it does this by itself once a minute.
    ///
    /// # Errors
    ///
    /// [`IdentityKeysError`] if the keys are not in a store, or if the store fails.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn load_identity_keys(&self) -> Result<Vec<IdentityKey>, IdentityKeysError> {
        self.at_work().read_identity_keys().await?;
        Ok(self.identity_keys())
    }

    /// Returns the dates of the keys that the store keeps, in the order in which they sign, as they were read last. Nothing if
    /// [`with_key`](crate::IdentityCookie::with_key) gives the key, or if no store keeps any.
    pub fn identity_keys(&self) -> Vec<IdentityKey> {
        self.registry().identity_key_list()
    }

    /// The keys are read from now on: a program may have no other request for a long time.
    fn at_work(&self) -> &Registry<T> {
        tasks::start(self.registry());
        self.registry()
    }
}
