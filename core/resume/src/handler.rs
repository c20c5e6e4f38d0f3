//! Runs the application's handler, once per session.

use std::{
    any::TypeId,
    io,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{runtime::Handle, sync::oneshot};
use tracing::Instrument as _;

use crate::{
    BlockingSession, LiveSession, SessionOrigin,
    outcome::{IntoOutcome, Outcome, OutcomeStatus},
    session::shared::{CancelHandler, Shared},
};

/// Which handler it is, while it lives: the type of its closure.
#[derive(Clone, Copy)]
pub(crate) struct HandlerType(fn() -> TypeId);

impl HandlerType {
    pub(crate) const fn of<F: 'static>() -> Self {
        Self(TypeId::of::<F>)
    }
}

impl PartialEq for HandlerType {
    fn eq(&self, other: &Self) -> bool {
        // Not the functions: one may have several addresses.
        (self.0)() == (other.0)()
    }
}

/// Starts the handler in a task that the session owns.
pub(crate) fn start<T, F, Fut>(session: &Arc<Shared<T>>, origin: SessionOrigin, handler: F)
where
    T: Send + 'static,
    F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
    Fut: Future<Output: IntoOutcome> + Send + 'static,
{
    let live = LiveSession::new(Arc::clone(session), origin);
    let shared = Arc::clone(session);
    let task = async move {
        // The call, too: a closure that panics before its first await has panicked all the same.
        let ended = AssertUnwindSafe(async move { handler(live).await }).catch_unwind().await;
        let outcome = match ended {
            Ok(output) => output.into_outcome(),
            Err(panic) => Outcome::panicked(&*panic, None),
        };
        shared.finish(outcome, CancelHandler::No);
    };
    // What the application logs in its handler is told apart by session. Without a listener a session is not
    // larger for it.
    let span = tracing::info_span!("session", id = %session.id().short());
    let task =
        if span.is_disabled() { tokio::spawn(task) } else { tokio::spawn(task.instrument(span)) };
    session.own_handler(task.abort_handle());
}

/// Makes a handler that runs on a plain thread of its own.
///
/// Not on tokio's blocking pool: a handler may block for hours, and the pool has other users.
pub(crate) fn on_thread<T, F, R>(
    handler: F,
) -> impl FnOnce(LiveSession<T>) -> BoxFuture<'static, OnThread<R>> + Send + 'static
where
    T: Send + 'static,
    F: FnOnce(BlockingSession<T>) -> R + Send + 'static,
    R: IntoOutcome + Send + 'static,
{
    move |live| {
        async move {
            let (answer, ended) = oneshot::channel();
            let runtime = Handle::current();
            let session = BlockingSession::new(live, runtime.clone());
            let spawned =
                std::thread::Builder::new().name("session-handler".into()).spawn(move || {
                    // What it spawns runs on the runtime.
                    let _entered = runtime.enter();
                    // The session's task waits for it, or has been cancelled with the session.
                    let _ = answer
                        .send(std::panic::catch_unwind(AssertUnwindSafe(|| handler(session))));
                });
            match spawned {
                Err(error) => OnThread(Err(error)),
                Ok(_) => match ended.await {
                    Ok(Ok(output)) => OnThread(Ok(output)),
                    Ok(Err(panic)) => resume_unwind(panic),
                    Err(_) => OnThread(Err(io::Error::other("the handler's thread is gone"))),
                },
            }
        }
        .boxed()
    }
}

/// What a handler on a thread has returned.
#[derive(Debug)]
pub struct OnThread<R>(io::Result<R>);

#[diagnostic::do_not_recommend]
impl<R: IntoOutcome> IntoOutcome for OnThread<R> {
    fn into_outcome(self) -> Outcome {
        match self.0 {
            Ok(output) => output.into_outcome(),
            Err(error) => Outcome::with_error(
                OutcomeStatus::Failed,
                format_args!("no thread for the handler: {error}"),
            ),
        }
    }
}
