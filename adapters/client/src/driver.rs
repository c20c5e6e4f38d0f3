use std::{future::pending, pin::Pin, sync::Arc};

use session_resume_proto::{
    client::{Action, TransportNumber},
    numbers::CHOICE_MUTE,
    pipe::{Choice, Follow, Path},
    wire::Offer,
};
use tokio::{task::JoinSet, time::sleep_until};

use crate::{
    Attempt, Cause, Close, Message,
    request::Target,
    route::{Happened, Route},
    shared::{Shared, random},
    step::Step,
};

/// Makes happen what the machine decides, until it has ended.
pub(crate) async fn drive(shared: Arc<Shared>, choice: Choice, initial: Option<Initial>) {
    let _abandon = Abandon(&shared);
    let leaving = JoinSet::new();
    let mut driver = Driver { shared: &shared, choice, initial, route: None, probe: None, leaving };
    loop {
        driver.act();
        shared.tell_application();
        if shared.lock().machine.is_ended() {
            break;
        }
        driver.step().await;
    }
    // The last words: `close` waits for this.
    driver.leaving.join_all().await;
}

/// Returns the messages that go to another session before the queue.
pub(crate) type Initial = Box<dyn FnMut() -> Vec<Message> + Send>;

type Probe = Pin<Box<dyn Future<Output = Option<bool>> + Send>>;

struct Driver<'a> {
    shared: &'a Arc<Shared>,
    /// By which path the client comes.
    choice: Choice,
    initial: Option<Initial>,
    /// The newest transport, or the attempt.
    route: Option<Route>,
    /// Looks whether a WebSocket passes.
    probe: Option<Probe>,
    /// Transports that are over for the machine and still say so. Ends with the driver.
    leaving: JoinSet<()>,
}

impl Driver<'_> {
    /// Does what the machine asks for.
    fn act(&mut self) {
        loop {
            let action = self.shared.lock().machine.poll_action();
            match action {
                None => break,
                Some(Action::Randomize) => {
                    let random = random();
                    let machine = &mut self.shared.lock().machine;
                    machine.handle_random(&random, self.shared.now());
                }
                Some(Action::Initial) => {
                    // Not under the lock: it is the application's.
                    let messages = self.initial.as_mut().map_or_else(Vec::new, |initial| initial());
                    self.shared.lock().machine.handle_initial(messages);
                }
                Some(Action::Connect { transport, offer }) => self.connect(transport, offer),
                Some(Action::Close { transport, close }) => {
                    tracing::debug!(?transport, ?close, "closing");
                    let gone = self.route.take_if(|route| route.number == transport);
                    if let Some(gone) = gone {
                        self.give_up(gone, close);
                    }
                }
                Some(other) => unreachable!("unknown action {other:?}"),
            }
        }
    }

    fn connect(&mut self, transport: TransportNumber, offer: Offer) {
        let path = self.choice.path();
        tracing::debug!(?transport, path = path.name(), "connecting");
        let attempt = Attempt::new(self.shared.lock().machine.attempt());
        self.set_out(Route::prepare(self.shared, transport, offer, path, attempt));
    }

    /// Takes `route`, whose path is the choice's.
    fn set_out(&mut self, route: Route) {
        self.shared.lock().path = route.path();
        self.probe = None;
        self.route = Some(route);
    }

    /// The route is prepared.
    fn begin(&mut self, target: Arc<Target>) {
        let Some(route) = &mut self.route else {
            return;
        };
        route.begin(self.shared, target);
        #[cfg(feature = "http")]
        if route.path() == Path::WebSocket && self.choice.allows_http() {
            route.doubt(self.shared);
        }
    }

    /// The machine is done with `route`.
    fn give_up(&mut self, route: Route, close: Option<Close>) {
        let shared = self.shared;
        let mute = CHOICE_MUTE.min(shared.connector.attach_timeout);
        let mute = route.began().is_some_and(|began| shared.now() >= began + mute);
        if !route.greeted && mute {
            self.choice.handle_no_hello(route.path());
        } else {
            self.choice.handle_gone(true, shared.now());
        }
        self.probe = None;
        if let (Some(transport), Some(_)) = (route.into_transport(), &close) {
            self.leaving.spawn(transport.linger(close));
        }
    }

    /// Waits until something happens, and tells the machine.
    async fn step(&mut self) {
        let shared = self.shared;
        let due = [shared.lock().machine.poll_timeout(), self.choice.poll_timeout()];
        let due = due.into_iter().flatten().min().and_then(|due| shared.clock().instant(due));
        let timer = async {
            match due {
                Some(instant) => sleep_until(instant).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = shared.work.notified() => {}
            () = timer => {
                shared.lock().machine.handle_timeout(shared.now());
                if self.choice.poll_probe(shared.now()) {
                    let shared = Arc::clone(shared);
                    self.probe = Some(Box::pin(async move { shared.connector.probe().await }));
                }
            }
            happened = happened(&mut self.route, shared) => self.handle(happened),
            found = probed(&mut self.probe) => {
                self.probe = None;
                tracing::debug!(found, "looked for a WebSocket");
                match found {
                    Some(good) if self.choice.handle_probe(good, shared.now()) => {
                        shared.lock().machine.replace_transport(shared.now());
                    }
                    Some(_) => {}
                    None => self.choice.handle_no_probe(shared.now()),
                }
            }
            Some(_) = self.leaving.join_next() => {}
        }
    }

    fn handle(&mut self, happened: Happened) {
        self.note_news();
        let shared = self.shared;
        let Some(route) = &mut self.route else {
            return;
        };
        let number = route.number;
        match happened {
            Happened::Prepared(target) => self.begin(target),
            Happened::Unprepared(cause) => {
                // Without its text, which is the application's.
                tracing::debug!(transport = ?number, "attempt not prepared");
                // That says nothing of the path.
                self.choice.handle_gone(true, shared.now());
                self.route = None;
                shared.lock().machine.handle_connect_failed(number, cause);
            }
            Happened::Opened(socket) => route.open(socket),
            Happened::Failed(cause) => self.handle_unheard(cause),
            Happened::Mute => {
                tracing::debug!(transport = ?number, "the WebSocket is mute");
                self.handle_unheard(Cause::TimedOut);
            }
            Happened::Step(Step::Progress) => {}
            // The machine closes it.
            Happened::Step(Step::TooBig) => {
                tracing::warn!("the server has sent a message over the limit (with_max_received)");
                shared.lock().machine.handle_too_big(number);
            }
            Happened::Step(Step::Gone(None)) if !route.greeted => {
                let cause = route.failure();
                self.handle_unheard(cause);
            }
            Happened::Step(Step::Gone(close)) => self.handle_gone(close),
            #[cfg(feature = "http")]
            Happened::Step(Step::Copied) => shared.lock().machine.handle_copied(number),
            #[cfg(feature = "http")]
            Happened::Step(Step::Broken) => shared.lock().machine.handle_broken(number),
            #[cfg(feature = "http")]
            Happened::Step(Step::Refused(status)) => {
                tracing::debug!(transport = ?number, status, "refused");
                self.choice.handle_gone(true, shared.now());
                self.route = None;
                self.probe = None;
                let cause = Cause::Http { status, retry_after: None };
                shared.lock().machine.handle_connect_failed(number, cause);
            }
        }
    }

    /// Notes what the last step has shown: a hello, or a stream that has become polls.
    fn note_news(&mut self) {
        let Some(route) = &mut self.route else {
            return;
        };
        let path = route.path();
        let mut state = self.shared.lock();
        if state.path == Path::Sse && path == Path::Poll {
            tracing::debug!(transport = ?route.number, "the stream is held back: polling");
            // Nothing outlives this client that would remember it.
            let _ = self.choice.handle_buffered();
        }
        state.path = path;
        if !route.greeted && state.machine.is_attached() {
            route.greet();
            let _ = self.choice.handle_hello(path, self.shared.now());
        }
    }

    /// The attempt by this path has had no hello, and the server has said nothing: the other path, or none.
    fn handle_unheard(&mut self, cause: Cause) {
        let Some(route) = self.route.take() else {
            return;
        };
        tracing::debug!(transport = ?route.number, %cause, "attempt failed");
        match self.choice.handle_no_hello(route.path()) {
            Follow::AtOnce => {
                let path = self.choice.path();
                tracing::debug!(transport = ?route.number, path = path.name(), "trying another way");
                let turned = route.turn(path, cause);
                self.set_out(turned);
            }
            Follow::AfterWait => {
                let cause = what_to_tell(route.before, cause);
                self.shared.lock().machine.handle_connect_failed(route.number, cause);
            }
        }
    }

    /// The transport is gone, or the server has refused the attempt.
    fn handle_gone(&mut self, close: Option<Close>) {
        let Some(route) = self.route.take() else {
            return;
        };
        let shared = self.shared;
        tracing::debug!(transport = ?route.number, ?close, "gone");
        self.choice.handle_gone(close.is_some(), shared.now());
        self.probe = None;
        shared.lock().machine.handle_closed(route.number, close.clone());
        if let (Some(transport), Some(_)) = (route.into_transport(), close) {
            self.leaving.spawn(transport.linger(None));
        }
    }
}

/// Chooses what the application is told of an attempt that failed on two paths. What may pass by itself wins: the client
/// stops only where neither has a chance.
fn what_to_tell(first: Option<Cause>, second: Cause) -> Cause {
    let passes = |cause: &Cause| match cause {
        Cause::Http { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
        Cause::NotSpoken => false,
        _ => true,
    };
    match first {
        Some(first) if passes(&first) && !passes(&second) => first,
        Some(_) | None => second,
    }
}

async fn happened(route: &mut Option<Route>, shared: &Shared) -> Happened {
    match route {
        Some(route) => route.happened(shared).await,
        None => pending().await,
    }
}

async fn probed(probe: &mut Option<Probe>) -> Option<bool> {
    match probe {
        Some(probe) => probe.await,
        None => pending().await,
    }
}

/// Tells the handles when the driver is gone, whatever ended it.
struct Abandon<'a>(&'a Shared);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_stops_only_where_neither_path_has_a_chance() {
        let http = |status| Cause::Http { status, retry_after: None };
        let lost = Cause::Unreachable("refused".into());
        for (first, second, told) in [
            (None, http(404), http(404)),
            (Some(http(403)), http(404), http(404)),
            (Some(Cause::NotSpoken), http(404), http(404)),
            (Some(http(403)), lost.clone(), lost.clone()),
            (Some(lost.clone()), http(405), lost.clone()),
            (Some(http(503)), http(404), http(503)),
            (Some(Cause::TimedOut), http(503), http(503)),
        ] {
            assert_eq!(what_to_tell(first, second), told);
        }
    }
}
