use std::{borrow::Cow, fmt, sync::Arc};

use http::HeaderValue;
use serde::Serialize;
use session_resume_proto::{
    Message,
    session::{Phase as MachinePhase, SessionOrigin},
    wire::{Close, CodeError},
};

use super::{
    Client, ExpirationGuard,
    core::{CancelHandler, Core},
    send::{self, Kind, Special},
    shared::Shared,
    tasks,
};
use crate::{
    CommitError, Identity, Outgoing, SendError, SessionId,
    words::{
        context::Requester,
        durability::{SavedBy, Urgency},
        key::SessionKey,
        outcome::{Outcome, OutcomeStatus},
        reuse::Phase,
    },
};

/// A handle to a session: everything but receiving.
///
/// Extractors give it (with the feature `axum` it is one; warp's filter is `session_resume_warp::session`),
/// tasks keep it; a clone is cheap and means the same session.
///
/// With a store, a handle that an extractor gave (not `Option<Session<T>>`, which only looks) and its clones keep the session in
/// memory while they live, for [`Limits::max_unattended`](crate::Limits::max_unattended) at the longest: what a slow request
/// changes is not lost. Other handles do not keep the session from expiring:
/// [`block_expiration`](Self::block_expiration) does. Once a session has ended or left memory for its store, a handle
/// of it reads and changes what no client sees any more: [`saved`](Self::saved) fails then, and the change is logged.
///
/// # Example
///
/// An HTTP handler changes the state of the session and tells its pages.
///
/// ```
/// # mod browser { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doctest/browser.rs")); }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> session_resume::Result {
/// use session_resume::{LiveSession, Session, SessionResume};
///
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Cart { items: Vec<String> }
///
/// /// `POST /items`: with axum the session is extracted, with warp a filter gives it.
/// async fn add(session: Session<Cart>, item: &str) -> session_resume::Result {
///     let count = session.update(|cart| { cart.items.push(item.to_owned()); cart.items.len() });
///     session.send(format!("{count} items")).await?;      // kept until the pages have it
///     session.saved().await?;                             // with a store: now it survives a crash
///     Ok(())
/// }
///
/// /// The WebSocket of the same session.
/// async fn live(mut session: LiveSession<Cart>) {
///     while session.recv().await.is_some() {}
/// }
///
/// let resume = SessionResume::new().with_state::<Cart>();
/// # let mut browser = browser::Browser::default();
/// # let mut page = browser.open(&resume, http::Request::get("/live"), live).await;
/// # let session = browser.get(&resume).await;
/// add(session.clone(), "apples").await?;
/// # assert_eq!(page.receive().await, "1 items");
/// assert_eq!(session.read(|cart| cart.items.len()), 1);
/// # Ok(())
/// # }
/// ```
pub struct Session<T = ()> {
    pub(crate) shared: Arc<Shared<T>>,
    /// The tick of the clock when the request came that visits; not in [`Holder`], where it would take twice the room.
    came: u64,
    origin: SessionOrigin,
    holder: Holder,
}

/// What kind of code has a handle.
#[derive(Clone, Copy)]
enum Holder {
    /// The handler, its tasks, or code that has looked the session up by its id.
    Any,
    /// A request that only looks.
    Looks(Requester),
    /// A request that has extracted the session.
    Visits(Requester),
}

/// The cookie of a new identity, to be set by the response.
#[must_use = "the browser loses its session unless the response sets the cookie"]
#[derive(Clone)]
pub struct IdentityChange {
    change: Option<(Identity, HeaderValue)>,
}

impl IdentityChange {
    /// Returns the value for one more `Set-Cookie` header; append it. `None` if nothing has changed: the session is not
    /// here any more.
    pub fn set_cookie(&self) -> Option<&HeaderValue> {
        self.change.as_ref().map(|(_, cookie)| cookie)
    }

    /// Returns the new identity; `None` as with [`Self::set_cookie`].
    pub fn identity(&self) -> Option<Identity> {
        self.change.as_ref().map(|(identity, _)| *identity)
    }
}

impl fmt::Debug for IdentityChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityChange").finish_non_exhaustive()
    }
}

impl<T> Session<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>, origin: SessionOrigin) -> Self {
        Self { shared, came: 0, origin, holder: Holder::Any }
    }

    /// A request has extracted it.
    pub(crate) fn visited(shared: Arc<Shared<T>>, origin: SessionOrigin, by: Requester) -> Self {
        shared.visit();
        let came = shared.clock().last_tick();
        Self { shared, came, origin, holder: Holder::Visits(by) }
    }

    /// A request has looked at it.
    pub(crate) fn seen(shared: Arc<Shared<T>>, origin: SessionOrigin, by: Requester) -> Self {
        Self { shared, came: 0, origin, holder: Holder::Looks(by) }
    }

    pub(crate) fn reused(shared: Arc<Shared<T>>) -> Self {
        Self::new(shared, SessionOrigin::Reused)
    }

    /// Returns the session's public id.
    pub fn id(&self) -> SessionId {
        self.shared.id()
    }

    /// Returns how often the session has been claimed in its store: a fencing token. 0 without a store.
    ///
    /// What a handler does outside of the session, such as a write to a database, is not undone when another node takes the
    /// session over. Let that other system refuse what comes with a smaller number than it has seen. It grows under a living
    /// handler, too, when its node takes the session back after an outage: read it before each such act.
    pub fn generation(&self) -> u64 {
        self.shared.lock().durable.as_ref().map_or(0, |durable| durable.stamp.generation)
    }

    /// Returns the name of the node that this process is, of several; `None` without a cluster.
    pub fn node_name(&self) -> Option<Arc<str>> {
        self.shared.node_name()
    }

    /// Returns the identity that started the session. Under a shared key others may be in it, too.
    pub fn identity(&self) -> Identity {
        self.shared.lock().identity()
    }

    /// Returns the key under which requests find the session.
    pub fn key(&self) -> SessionKey {
        self.shared.lock().key.clone()
    }

    /// Returns how this handle's request, or the handler's start, found the session.
    pub fn origin(&self) -> SessionOrigin {
        self.origin
    }

    /// Returns the outcome once the session has ended.
    pub fn outcome(&self) -> Option<Arc<Outcome>> {
        self.shared.outcome()
    }

    /// Returns how many boundaries (moments with no message in hand) have seen changes of the state, a
    /// change since the last one included.
    pub fn iteration(&self) -> u64 {
        self.shared.state.iteration()
    }
}

impl<T: Send + 'static> Session<T> {
    /// Sends a message to every client of the session. It is kept until they have it.
    ///
    /// Waits only while the outbox is full: under [`Overflow::Backpressure`](crate::Overflow::Backpressure) until there is
    /// room, under [`Overflow::Close`](crate::Overflow::Close) until there is room or the session ends. It also waits while the
    /// session stands still, in a drain or on its way to the store.
    ///
    /// # Errors
    ///
    /// Fails if the session has ended, or at once if the message is over
    /// [`Limits::message`](crate::Limits::message). Under [`Durability::Exact`](crate::Durability::Exact) it also fails if
    /// output that is not committed fills the outbox alone: [`commit`](crate::LiveSession::commit) makes room. The error
    /// gives the message back.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped send has sent nothing.
    pub async fn send(&self, message: impl Into<Outgoing>) -> Result<(), SendError> {
        let Outgoing { message, time_to_live } = message.into();
        send::send(&self.shared, message, Kind::lasting(time_to_live)).await
    }

    /// Sends a message if there is room in the outbox now.
    ///
    /// # Errors
    ///
    /// Fails with [`SendErrorKind::Full`](crate::SendErrorKind::Full) if there is none, or as [`Self::send`].
    pub fn try_send(&self, message: impl Into<Outgoing>) -> Result<(), SendError> {
        let Outgoing { message, time_to_live } = message.into();
        send::try_send(&self.shared, message, &Kind::lasting(time_to_live))
    }

    /// Sends a value as a JSON text message.
    ///
    /// # Errors
    ///
    /// Fails with [`SendErrorKind::Json`](crate::SendErrorKind::Json) if the value cannot be JSON, or as
    /// [`Self::send`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`Self::send`].
    pub async fn send_json<V: Serialize + ?Sized>(&self, value: &V) -> Result<(), SendError> {
        let text = serde_json::to_string(value).map_err(SendError::json)?;
        self.send(text).await
    }

    /// Changes the state and sends the message that the closure returns, as one step: where one is seen,
    /// both are, in memory and in a snapshot.
    ///
    /// Waits for room before the closure runs; so the message may go over the limit of the outbox's bytes,
    /// by itself alone. The closure runs once or, if the session ends first, never.
    ///
    /// # Errors
    ///
    /// As [`Self::send`]. If the message is over its limit, the change has been made all the same.
    ///
    /// # Panics
    ///
    /// As [`Self::update`]; also if the closure itself reads, updates or sends with this session's state.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call has done both or nothing.
    pub async fn send_with<M: Into<Outgoing>>(
        &self,
        make: impl FnOnce(&mut T) -> M,
    ) -> Result<(), SendError> {
        send::send_with(&self.shared, make).await
    }

    /// Sends a message to one client alone, such as the reply to what only this client has asked.
    ///
    /// It is kept until that client has it, takes its place among the messages that all clients get, and counts for the
    /// outbox only while that client needs it. The other clients do not get it, and miss nothing.
    ///
    /// A plain client cannot name itself. All plain transports of an identity are one client, so the message goes to the
    /// present one or the next. Under [`Attach::Share`](crate::Attach::Share) each transport is a client of its own:
    /// what it has not confirmed is gone with it, and [`Event::Undeliverable`](crate::Event::Undeliverable) tells.
    ///
    /// ```
    /// # use session_resume::{Event, LiveSession};
    /// # async fn handler(mut session: LiveSession) -> session_resume::Result {
    /// while let Some(event) = session.recv_event().await {
    ///     if let Event::Message { message, client, .. } = event {
    ///         match message.as_text().and_then(|text| text.parse::<i64>().ok()) {
    ///             Some(number) => session.send(format!("{number}")).await?,
    ///             // Nobody is there to be told: that is no reason to end the session.
    ///             None => drop(session.send_to(client, "that is no number").await),
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Fails with [`SendErrorKind::NotThere`](crate::SendErrorKind::NotThere) if the session keeps no messages for this client: it does not
    /// know it, others have pushed it out or taken the session over, or it was away while the outbox was full. (It may
    /// come back; then it is told what it misses.) Otherwise as [`Self::send`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`Self::send`].
    pub async fn send_to(
        &self,
        client: Client,
        message: impl Into<Outgoing>,
    ) -> Result<(), SendError> {
        let (message, kind) = to_one(client, message.into());
        send::send(&self.shared, message, kind).await
    }

    /// Sends a message to one client alone, if there is room in the outbox now; see [`Self::send_to`].
    ///
    /// # Errors
    ///
    /// Fails with [`SendErrorKind::Full`](crate::SendErrorKind::Full) if there is none, or as [`Self::send_to`].
    pub fn try_send_to(
        &self,
        client: Client,
        message: impl Into<Outgoing>,
    ) -> Result<(), SendError> {
        let (message, kind) = to_one(client, message.into());
        send::try_send(&self.shared, message, &kind)
    }

    /// Sends a value as a JSON text message to one client alone; see [`Self::send_to`].
    ///
    /// # Errors
    ///
    /// Fails if the value cannot be JSON, or as [`Self::send_to`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`Self::send`].
    pub async fn send_json_to<V: Serialize + ?Sized>(
        &self,
        client: Client,
        value: &V,
    ) -> Result<(), SendError> {
        let text = serde_json::to_string(value).map_err(SendError::json)?;
        self.send_to(client, text).await
    }

    /// Sends a message of which only the newest of its slot counts, such as progress, a cursor, a price. The slot is a
    /// name of the application's choice.
    ///
    /// It takes the place of the message that was last sent with this slot, wherever that has not been acknowledged: a
    /// client that was away gets the newest of each slot, once. The slot's older message counts for the outbox until
    /// the newer one may leave, which under [`Durability::Exact`](crate::Durability::Exact) is when that is on disk.
    ///
    /// ```
    /// # async fn example(session: session_resume::Session) -> session_resume::Result {
    /// for percent in 0..=100 {
    ///     session.send_latest("progress", format!("{percent} %")).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`Self::send`].
    pub async fn send_latest(
        &self,
        slot: impl Into<String>,
        message: impl Into<Outgoing>,
    ) -> Result<(), SendError> {
        let (message, kind) = latest(slot.into(), message.into());
        send::send(&self.shared, message, kind).await
    }

    /// Sends a message of which only the newest of its slot counts, if there is room in the outbox now; see
    /// [`Self::send_latest`].
    ///
    /// # Errors
    ///
    /// Fails with [`SendErrorKind::Full`](crate::SendErrorKind::Full) if there is none, or as [`Self::send`].
    pub fn try_send_latest(
        &self,
        slot: impl Into<String>,
        message: impl Into<Outgoing>,
    ) -> Result<(), SendError> {
        let (message, kind) = latest(slot.into(), message.into());
        send::try_send(&self.shared, message, &kind)
    }

    /// Sends a value as a JSON text message of which only the newest of its slot counts; see [`Self::send_latest`].
    ///
    /// # Errors
    ///
    /// Fails if the value cannot be JSON, or as [`Self::send`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`Self::send`].
    pub async fn send_json_latest<V: Serialize + ?Sized>(
        &self,
        slot: impl Into<String>,
        value: &V,
    ) -> Result<(), SendError> {
        let text = serde_json::to_string(value).map_err(SendError::json)?;
        self.send_latest(slot, text).await
    }

    /// Sends a message that makes everything before it obsolete for a client that starts fresh.
    ///
    /// Such a client gets the last checkpoint and what follows it. So does one that comes back far behind, with
    /// [`SessionResume::with_catch_up`](crate::SessionResume::with_catch_up). When the outbox is full, the checkpoint
    /// is the first to go; [`Retain::since_checkpoint`](crate::Retain::since_checkpoint) keeps it apart from the outbox.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`Self::send`].
    pub async fn send_checkpoint(&self, message: impl Into<Message>) -> Result<(), SendError> {
        send::send(&self.shared, message.into(), Kind::Checkpoint).await
    }

    /// Takes back that the last checkpoint is one: what it stood for is over, such as an answer that is complete.
    ///
    /// A client that starts fresh no longer gets it. What was kept for such clients alone is forgotten, and so is what
    /// [`Retain::since_checkpoint`](crate::Retain::since_checkpoint) has kept. A client that has not acknowledged the
    /// message still gets it. Without a checkpoint this changes nothing.
    pub fn clear_checkpoint(&self) {
        self.shared.step(Core::clear_checkpoint);
    }

    /// Looks at the state.
    ///
    /// The state is locked while the closure runs, and a call that finds it locked blocks its thread: keep the closure
    /// short. A snapshot for the store locks it, too, until the state is written as JSON, or
    /// [copied](crate::SessionResume::with_snapshots_of_copies).
    ///
    /// # Panics
    ///
    /// Panics, instead of waiting for ever, inside another `read` or `update` of the same session. A panic in the
    /// closure reaches the caller; the session goes on, because its state is as it was.
    pub fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        self.shared.state.read(f)
    }

    /// Changes the state, and marks it as changed. As [`Self::read`], it blocks while the state is locked.
    ///
    /// # Panics
    ///
    /// As [`Self::read`]. A panic in the closure reaches the caller and ends the session, outcome
    /// `panicked`: its state may be half changed.
    pub fn update<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        self.shared.update_state(f)
    }

    /// Waits until all updates so far are on disk; with a message in hand, that is at the next boundary.
    ///
    /// The handler would then wait for itself. So in the handler's own task, or on its thread, that is an error at once,
    /// whichever handle is used: call [`commit`](crate::LiveSession::commit) there. A handler that waits for *another
    /// task*, which waits for `saved`, is not found out, and waits for ever.
    ///
    /// Without a store there is no disk, and it returns at once.
    ///
    /// # Errors
    ///
    /// Fails if the store does not take the snapshot; it is tried again all the same. Fails with
    /// [`MessageInHand`](crate::CommitErrorKind::MessageInHand) in the handler, as said above. Fails if the session has
    /// ended: one whose state cannot be written (its `Serialize` fails or panics) ends, outcome `panicked`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the snapshot is taken or not; call again to be sure.
    pub async fn saved(&self) -> Result<(), CommitError> {
        self.shared.wait_saved(Urgency::Now, SavedBy::AnyHandle).await
    }

    /// Returns whether the handler has a message in hand: updates are then saved with it, at the next boundary.
    pub fn is_message_in_hand(&self) -> bool {
        self.shared.lock().machine.is_message_in_hand()
    }

    /// Holds off the session's expiry while the guard lives, for the reason `why`.
    pub fn block_expiration(&self, why: impl Into<Cow<'static, str>>) -> ExpirationGuard {
        let why = why.into();
        let id = self.shared.with_core(|core, now| core.machine.guard(why, None, now));
        if id.is_none() {
            tracing::warn!(
                session = %self.id().short(),
                "limits.guards reached: a new expiration guard holds nothing"
            );
        }
        ExpirationGuard::new(Arc::clone(&self.shared), id)
    }

    /// Runs a task that the session owns, for the reason `why`; returns whether it runs.
    ///
    /// While it runs the session is in use (except while it only waits for outbox room with no transport
    /// attached). When the session ends, it is cancelled at its next `.await`. If it panics, the session
    /// ends, outcome `panicked`. On a session that has ended or left memory already nothing runs.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn spawn<F>(&self, why: impl Into<Cow<'static, str>>, future: F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tasks::spawn(&self.shared, why.into(), future)
    }

    /// Ends the session, outcome `closed`: its clients get the last messages and are told, its handler is
    /// cancelled at its next `.await`. The reason is the outcome's error, at most 1 KiB of it. A session that has ended
    /// already keeps its outcome.
    pub fn close(&self, reason: impl fmt::Display) {
        self.shared.end(Outcome::with_error(OutcomeStatus::Closed, reason), CancelHandler::Yes);
    }

    /// As [`close`](Self::close), and closes the transports with a code of the application's: 1000, 4000 to 4099,
    /// or 4200 to 4999. The reason is the outcome's error, too; a close frame has room for 123 bytes of it.
    ///
    /// Clients that offer to resume get the last messages and `done` before it. The code is not stored: a client
    /// that comes back when the session has left memory is told `done` and closed 1000.
    ///
    /// # Errors
    ///
    /// Returns [`CodeError`] for any other code; the session goes on.
    pub fn close_with(
        &self,
        code: u16,
        reason: impl Into<Cow<'static, str>>,
    ) -> Result<(), CodeError> {
        let reason = reason.into();
        let close = Close::of_application(code, reason.clone())?;
        let outcome = Outcome::with_error(OutcomeStatus::Closed, reason);
        self.shared.end_with(outcome, Some(close), CancelHandler::Yes);
        Ok(())
    }

    /// Makes the browser a new identity and takes the session along: what knew the old cookie no longer
    /// gets in. Call it after a login, in an HTTP handler, and return the cookie in the response.
    ///
    /// Every transport that came with the old identity is closed at once (4112 `moved`, a plain one 1012), and what is
    /// known of that identity's clients goes along: the page comes back with the new cookie and goes on where it was.
    /// For 10 s a page that comes with the old cookie is told to come again; after that it is a stranger.
    ///
    /// Under a shared key the session stays where it is, and so do the clients of others; the identity that changes is
    /// that of the request that gave this handle. A handle that no request gave, such as the handler's own, changes
    /// nothing there.
    ///
    /// On a handle whose session has ended or left memory, in a drain, and without its layer (all handles dropped)
    /// nothing changes, and there is no cookie: a new one would find nothing.
    ///
    /// With a store, the record moves with the next snapshot: await [`saved`](Self::saved) before you answer with the
    /// new cookie. Until then a crash takes the change back, and only the old cookie finds the session.
    ///
    /// # Security
    ///
    /// Against session fixation: an identity that an attacker planted before the login is worth nothing after.
    pub fn cycle_identity(&self) -> IdentityChange {
        let by = match self.holder {
            Holder::Any => None,
            Holder::Looks(by) | Holder::Visits(by) => Some(by),
        };
        let change =
            self.shared.keeper().and_then(|keeper| keeper.cycle_identity(&self.shared, by));
        IdentityChange { change }
    }
}

/// What a message for one client is sent as.
fn to_one(client: Client, message: Outgoing) -> (Message, Kind) {
    let Outgoing { message, time_to_live } = message;
    (message, Kind::special(Special { to: Some(client), slot: None, time_to_live }))
}

/// What a message is sent as that takes the place of an older one.
fn latest(slot: String, message: Outgoing) -> (Message, Kind) {
    let Outgoing { message, time_to_live } = message;
    let slot = Some(slot.into());
    (message, Kind::special(Special { to: None, slot, time_to_live }))
}

pub(crate) fn phase(phase: MachinePhase) -> Phase {
    match phase {
        MachinePhase::Running => Phase::Running,
        MachinePhase::Suspended => Phase::Suspended,
        MachinePhase::Completed => Phase::Completed,
    }
}

impl<T: Send + 'static> Shared<T> {
    /// Changes the state; a panic in the closure ends the session.
    pub(super) fn update_state<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let on_panic = EndOnPanic(self);
        let result = self.state.update(f);
        std::mem::forget(on_panic);
        self.note_change();
        result
    }

    fn note_change(&self) {
        if !self.is_durable() {
            return;
        }
        let has_left = self.step(|core| {
            core.changed(Urgency::Soon);
            core.life().has_left()
        });
        if has_left {
            tracing::warn!(
                session = %self.id().short(),
                "a change is lost: the session had left memory before this handle changed its state; saved() tells, \
                 and block_expiration() keeps a session that a task works on"
            );
        }
    }

    /// Merges the copies of the state that clients have offered, if there are any.
    ///
    /// Only the handler's own task calls this, where no message is in hand: from anywhere else it could come
    /// between the handler's look at the state and its change.
    pub(super) fn merge_offered(&self) {
        let offered = {
            let mut core = self.core();
            if core.machine.is_frozen() { Vec::new() } else { core.take_offered_states() }
        };
        if offered.is_empty() {
            return;
        }
        let Some((policy, codec)) = self.keeper().and_then(|keeper| keeper.merging()) else {
            return;
        };
        for offer in offered {
            let merged = self.state.merge(&offer, &policy, codec.decode);
            tracing::debug!(session = %self.id().short(), client_newer = merged, "merged");
            if merged {
                self.note_change();
            }
        }
    }

    /// As [`Self::update_state`], for a closure that says whether it has changed anything.
    pub(super) fn update_state_if<R>(&self, f: impl FnOnce(&mut T) -> (R, bool)) -> R {
        let on_panic = EndOnPanic(self);
        let (result, changed) = self.state.update_if(f);
        std::mem::forget(on_panic);
        if changed {
            self.note_change();
        }
        result
    }
}

/// Ends the session if dropped in a panic.
struct EndOnPanic<'a, T: Send + 'static>(&'a Shared<T>);

impl<T: Send + 'static> Drop for EndOnPanic<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let outcome =
                Outcome::with_error(OutcomeStatus::Panicked, "panic in an update of the state");
            self.0.end(outcome, CancelHandler::Yes);
        }
    }
}

impl<T> Clone for Session<T> {
    fn clone(&self) -> Self {
        if let Holder::Visits(_) = self.holder {
            self.shared.visit();
        }
        Self { shared: Arc::clone(&self.shared), ..*self }
    }
}

impl<T> Drop for Session<T> {
    fn drop(&mut self) {
        if let Holder::Visits(_) = self.holder {
            self.shared.end_visit(self.came);
        }
    }
}

impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}
