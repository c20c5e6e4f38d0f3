//! How durable what a session does is.

/// How much a crash may cost.
///
/// # Example
///
/// ```
/// use session_resume::{Durability, LiveSession, SessionResume, store::MemoryStore};
///
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Account { balance: i64 }
///
/// let resume = SessionResume::new()
///     .with_state::<Account>()
///     .with_durability(Durability::Exact)
///     .with_store(MemoryStore::new());
///
/// async fn live(mut session: LiveSession<Account>) -> session_resume::Result {
///     while let Some(_payment) = session.recv().await {
///         // The page is never shown a balance that a crash takes back: the message leaves after it is on disk.
///         session.send_with(|account| { account.balance += 1; account.balance.to_string() }).await?;
///         // Before something happens that cannot be taken back, wait until this message is on disk as handled.
///         session.commit().await?;
///         // ship_the_goods().await;
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Durability {
    /// State and handled messages are exact through `kill -9`. Messages to clients go out at once: a graceful
    /// drain stores those that are unacknowledged, and no client notices; after a kill clients are told a gap
    /// `restarted`.
    #[default]
    State,
    /// The outbox is part of every commit, and a message leaves only after the commit that covers it: exactly
    /// once both ways through `kill -9`, for the latency of one group commit.
    Exact,
}

/// How urgently a session wants to be saved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Urgency {
    /// Within the flush interval.
    Soon,
    /// With the next commit.
    Now,
}

/// What waits for a save.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SavedBy {
    /// The handler's own handle.
    Handler,
    /// A handle that can be cloned: the handler may have one, too.
    AnyHandle,
    /// The layer itself.
    Layer,
}
