use std::{future::poll_fn, pin::Pin, sync::Arc};

use session_resume_proto::client::{Action, TransportNumber};
use tokio::{task::JoinSet, time::sleep_until};

use crate::{
    Cause,
    connector::Socket,
    shared::{Shared, random},
    transport::{Step, Transport},
};

/// Makes happen what the machine decides, until it has ended.
pub(crate) async fn drive(shared: Arc<Shared>) {
    let _abandon = Abandon(&shared);
    let mut driver =
        Driver { shared: &shared, attempt: None, transport: None, leaving: JoinSet::new() };
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

struct Driver<'a> {
    shared: &'a Arc<Shared>,
    attempt: Option<(TransportNumber, Attempt)>,
    transport: Option<Transport>,
    /// Transports that are over for the machine and still say so. Ends with the driver.
    leaving: JoinSet<()>,
}

type Attempt = Pin<Box<dyn Future<Output = Result<Socket, Cause>> + Send>>;

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
                Some(Action::Connect { transport, offer }) => {
                    tracing::debug!(?transport, "connecting");
                    let shared = Arc::clone(self.shared);
                    let attempt = async move { shared.connector.connect(&offer).await };
                    self.attempt = Some((transport, Box::pin(attempt)));
                }
                Some(Action::Close { transport, close }) => {
                    tracing::debug!(?transport, ?close, "closing");
                    self.attempt.take_if(|(number, _)| *number == transport);
                    let gone = self.transport.take_if(|open| open.number() == transport);
                    if let (Some(gone), Some(_)) = (gone, &close) {
                        self.leaving.spawn(gone.linger(close));
                    }
                }
                Some(other) => unreachable!("unknown action {other:?}"),
            }
        }
    }

    /// Waits until something happens, and tells the machine.
    async fn step(&mut self) {
        let shared = self.shared;
        let timeout = shared.lock().machine.poll_timeout();
        let timeout = timeout.and_then(|moment| shared.clock().instant(moment));
        let timer = async {
            match timeout {
                Some(instant) => sleep_until(instant).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.work.notified() => {}
            () = timer => shared.lock().machine.handle_timeout(shared.now()),
            (number, result) = attempted(&mut self.attempt) => {
                self.attempt = None;
                match result {
                    Ok(socket) => self.transport = Some(Transport::new(number, socket)),
                    Err(cause) => {
                        tracing::debug!(transport = ?number, %cause, "attempt failed");
                        shared.lock().machine.handle_connect_failed(number, cause);
                    }
                }
            }
            step = stepped(&mut self.transport, shared) => {
                match step {
                    Step::Progress => {}
                    // The machine closes it.
                    Step::TooBig => if let Some(transport) = &self.transport {
                        let number = transport.number();
                        tracing::warn!("the server has sent a message over the limit (with_max_received)");
                        shared.lock().machine.handle_too_big(number);
                    },
                    Step::Gone(close) => if let Some(gone) = self.transport.take() {
                        tracing::debug!(transport = ?gone.number(), ?close, "gone");
                        shared.lock().machine.handle_closed(gone.number(), close.clone());
                        if close.is_some() {
                            self.leaving.spawn(gone.linger(None));
                        }
                    }
                }
            }
            Some(_) = self.leaving.join_next() => {}
        }
    }
}

async fn attempted(
    attempt: &mut Option<(TransportNumber, Attempt)>,
) -> (TransportNumber, Result<Socket, Cause>) {
    match attempt {
        Some((number, attempt)) => (*number, attempt.as_mut().await),
        None => std::future::pending().await,
    }
}

async fn stepped(transport: &mut Option<Transport>, shared: &Shared) -> Step {
    match transport {
        Some(transport) => poll_fn(|cx| transport.poll_step(cx, shared)).await,
        None => std::future::pending().await,
    }
}

/// Tells the handles when the driver is gone, whatever ended it.
struct Abandon<'a>(&'a Shared);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
