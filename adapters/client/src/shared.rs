use std::sync::{Mutex, MutexGuard, PoisonError};

use session_resume_proto::{Moment, client, pipe::Path};
use tokio::sync::Notify;

use crate::{Event, Message, SendError, SendErrorKind, clock::Clock, connector::Connector};

/// What the handles and the driver share: the machine, and what each of them waits for.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    clock: Clock,
    pub(crate) connector: Connector,
    /// The driver has something to do.
    pub(crate) work: Notify,
    /// The queue may have room.
    pub(crate) room: Notify,
    /// There may be an event.
    pub(crate) events: Notify,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) machine: client::Client,
    /// How the newest transport comes, or how it is tried.
    pub(crate) path: Path,
    /// Nobody drives the machine any more.
    pub(crate) abandoned: bool,
}

impl Shared {
    pub(crate) fn new(config: client::Config, connector: Connector) -> Self {
        let clock = Clock::start();
        Self {
            state: Mutex::new(State {
                machine: client::Client::new(config, &random(), clock.now()),
                path: Path::WebSocket,
                abandoned: false,
            }),
            clock,
            connector,
            work: Notify::new(),
            room: Notify::new(),
            events: Notify::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // The machine does not panic half way through a step, and a panic here would hide the first.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    pub(crate) fn try_send(&self, message: Message) -> Result<(), SendError> {
        let mut state = self.lock();
        if state.abandoned {
            return Err(SendError::new(SendErrorKind::Closed, message));
        }
        // A clone shares the payload.
        match state.machine.send(message.clone()) {
            Ok(()) => {
                drop(state);
                self.work.notify_one();
                Ok(())
            }
            Err(kind) => Err(SendError::new(kind, message)),
        }
    }

    /// Waits while the queue is full, but not for what only the application can change: that it connects again, or that it
    /// ends its say about a new session.
    pub(crate) async fn send(&self, mut message: Message) -> Result<(), SendError> {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            match self.try_send(message) {
                Err(err) if err.kind() == SendErrorKind::Full && !self.is_up_to_application() => {
                    message = err.into_message();
                }
                other => return other,
            }
            room.await;
        }
    }

    pub(crate) fn take(&self) -> Taken {
        let mut state = self.lock();
        let before = (state.machine.poll_timeout(), state.machine.is_held());
        let event = state.machine.take(self.now());
        // Woken for acks only when one is due or the first is owed, not for every message.
        if (state.machine.poll_timeout(), state.machine.is_held()) != before {
            self.work.notify_one();
        }
        match event {
            Some(event) => Taken::Event(event),
            None if state.abandoned || state.machine.is_offline() || state.machine.is_ended() => {
                Taken::Nothing
            }
            None => Taken::Later,
        }
    }

    pub(crate) fn take_queued(&self) -> Vec<Message> {
        let queued = self.lock().machine.take_queued();
        self.room.notify_waiters();
        queued
    }

    pub(crate) fn reconnect(&self) {
        self.lock().machine.reconnect_now(self.now());
        self.work.notify_one();
    }

    pub(crate) fn close(&self) {
        self.lock().machine.close();
        self.work.notify_one();
    }

    /// Notes that nobody drives the machine any more.
    pub(crate) fn abandon(&self) {
        self.lock().abandoned = true;
        self.tell_application();
    }

    /// Wakes the callers that wait in a handle.
    pub(crate) fn tell_application(&self) {
        self.room.notify_waiters();
        self.events.notify_one();
    }

    /// Returns whether nothing will ever happen again.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.lock();
        state.abandoned || state.machine.is_ended()
    }

    /// Returns whether nothing leaves the queue until the application does something.
    fn is_up_to_application(&self) -> bool {
        let state = self.lock();
        state.machine.is_offline() || state.machine.is_held()
    }
}

/// What there is to take.
pub(crate) enum Taken {
    Event(Event),
    /// Nothing yet.
    Later,
    /// Nothing, and nothing will come by itself.
    Nothing,
}

/// Draws fresh random bytes.
pub(crate) fn random() -> client::Random {
    let mut bytes = client::Random::default();
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}
