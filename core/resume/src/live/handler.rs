//! Runs the application's handler, once per session.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use pin_project_lite::pin_project;
use tokio::{runtime::Handle, sync::oneshot};
use tracing::{Instrument as _, Span};

use crate::{
    BlockingSession, LiveSession, SessionOrigin,
    live::session::{CancelHandler, IsUrgent, Shared, runs_handler_of},
    words::{
        outcome::{IntoOutcome, Outcome, OutcomeStatus},
        panics::{Panic, RunCaught, caught, run_caught},
    },
};

/// Starts the handler in a task that the session owns. `asked_in` is the span of the request that starts it.
pub(crate) fn start<T, F, Fut>(
    session: &Arc<Shared<T>>,
    origin: SessionOrigin,
    handler: F,
    is_urgent: Option<IsUrgent>,
    asked_in: &Span,
) where
    T: Send + 'static,
    F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
    Fut: Future<Output: IntoOutcome> + Send + 'static,
{
    if let Some(is_urgent) = is_urgent {
        session.step(|core| core.set_urgent(is_urgent));
    }
    let live = LiveSession::new(Arc::clone(session), origin);
    let task = Handling {
        session: Arc::clone(session),
        // The call is caught, too: a closure may panic before its first await.
        handler: run_caught(Handler::Called { call: Some((handler, live)) }),
    };
    // What the application logs in its handler is told apart by session. Without a listener a session is not
    // larger for it.
    let span = tracing::info_span!(parent: None, "session", id = %session.id().short());
    // No child: the session outlives the request.
    span.follows_from(asked_in);
    let task =
        if span.is_disabled() { tokio::spawn(task) } else { tokio::spawn(task.instrument(span)) };
    session.own_handler(task.abort_handle());
}

pin_project! {
    /// The task of a handler. Written by hand: an `async` block would hold the application's future five times over.
    struct Handling<T, F, Fut> {
        session: Arc<Shared<T>>,
        #[pin]
        handler: RunCaught<Handler<T, F, Fut>>,
    }
}

impl<T, F, Fut> Future for Handling<T, F, Fut>
where
    T: Send + 'static,
    F: FnOnce(LiveSession<T>) -> Fut,
    Fut: Future<Output: IntoOutcome>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let ended = ready!(this.handler.poll(cx));
        // What the handler has returned is the application's code, too: its `Serialize` and its `Drop` may panic.
        let outcome = match ended.and_then(|output| caught(|| output.into_outcome())) {
            Ok(outcome) => outcome,
            Err(panic) => Outcome::panicked(&panic, None),
        };
        this.session.end(outcome, CancelHandler::No);
        Poll::Ready(())
    }
}

pin_project! {
    /// The application's code: it is called when the task is first polled.
    #[project = HandlerNow]
    enum Handler<T, F, Fut> {
        Called { call: Option<(F, LiveSession<T>)> },
        Runs { #[pin] future: Fut },
    }
}

impl<T, F, Fut> Future for Handler<T, F, Fut>
where
    F: FnOnce(LiveSession<T>) -> Fut,
    Fut: Future,
{
    type Output = Fut::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Fut::Output> {
        loop {
            match self.as_mut().project() {
                HandlerNow::Called { call } => {
                    let (handler, live) = call.take().expect("a call that panics is the end");
                    let future = handler(live);
                    self.set(Self::Runs { future });
                }
                HandlerNow::Runs { future } => return future.poll(cx),
            }
        }
    }
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
            let id = live.id();
            let session = BlockingSession::new(live, runtime.clone());
            let spawned =
                std::thread::Builder::new().name("session-handler".into()).spawn(move || {
                    runs_handler_of(id);
                    // What it spawns runs on the runtime.
                    let _entered = runtime.enter();
                    // The session's task waits for it, or has been cancelled with the session.
                    let _ = answer.send(caught(|| handler(session)));
                });
            OnThread(match spawned {
                Err(error) => Err(NoOutput::NoThread(error)),
                Ok(_) => match ended.await {
                    Ok(output) => output.map_err(NoOutput::Panicked),
                    Err(_) => {
                        Err(NoOutput::NoThread(io::Error::other("the handler's thread is gone")))
                    }
                },
            })
        }
        .boxed()
    }
}

/// What a handler on a thread has returned.
#[derive(Debug)]
pub struct OnThread<R>(Result<R, NoOutput>);

/// Why a handler on a thread has returned nothing.
#[derive(Debug)]
enum NoOutput {
    Panicked(Panic),
    NoThread(io::Error),
}

#[diagnostic::do_not_recommend]
impl<R: IntoOutcome> IntoOutcome for OnThread<R> {
    fn into_outcome(self) -> Outcome {
        match self.0 {
            Ok(output) => output.into_outcome(),
            Err(NoOutput::Panicked(panic)) => Outcome::panicked(&panic, None),
            Err(NoOutput::NoThread(error)) => Outcome::with_error(
                OutcomeStatus::Failed,
                format_args!("no thread for the handler: {error}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        Identity, SessionId,
        live::{registry::Registry, session::Owner},
        words::{
            config::Config,
            identity::{CookieName, Via},
            key::SessionKey,
        },
    };

    /// Each session has such a task for as long as it lives.
    #[test]
    fn a_task_holds_the_handlers_future_once() {
        fn sizes<F, Fut>(_: &F) -> (usize, usize)
        where
            F: FnOnce(LiveSession) -> Fut,
        {
            (size_of::<Handling<(), F, Fut>>(), size_of::<Fut>())
        }
        let (task, future) = sizes(&async |mut live: LiveSession| {
            let kept = [0_u8; 1000];
            while live.recv().await.is_some() {}
            std::hint::black_box(kept);
        });
        assert!(task <= future + 24, "{task} B for a future of {future} B");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_starts_as_its_session_departs_is_aborted() {
        let registry = Registry::new(Config::new(), None);
        let identity = Identity::mint([7; 16]);
        let via = Via { name: CookieName::default(), secure: false };
        let owner = Owner { identity, key: SessionKey::own(identity), via };
        let now = registry.clock().now();
        let session =
            Shared::new(Arc::clone(registry.home()), SessionId::random(), owner, (), None, now);
        assert!(session.taken_over());
        let (alive, gone) = oneshot::channel::<()>();
        let handler = async move |_live| {
            let _alive = alive;
            std::future::pending::<()>().await;
        };
        start(&session, SessionOrigin::New, handler, None, &Span::none());
        let gone = tokio::time::timeout(Duration::from_secs(3600), gone).await;
        assert!(gone.expect("aborted").is_err());
    }
}
