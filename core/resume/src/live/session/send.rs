use std::{
    future::poll_fn,
    task::{Poll, Waker, ready},
    time::Duration,
};

use bytestring::ByteString;
use session_resume_proto::{
    Message, Moment,
    session::{Addressee, NotSent, Terms, Unsent},
};
use tokio::task::coop;

use super::{Client, Peer, core::Core, shared::Shared};
use crate::words::{durability::Urgency, outgoing::Outgoing, send_error::SendError};

/// The place of one send among those that wait for room.
///
/// Dropping it gives the place up: a cancelled send sends nothing and holds no other send up.
struct InLine<'a, T: Send + 'static> {
    session: &'a Shared<T>,
    ticket: Option<u32>,
}

impl<T: Send + 'static> Drop for InLine<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.session.leave_line(ticket);
        }
    }
}

impl<T: Send + 'static> Shared<T> {
    /// A send no longer waits for room.
    pub(super) fn leave_line(&self, ticket: u32) {
        self.step(|core| {
            if let Some(rare) = core.rare() {
                rare.room.retain(|(of, _)| *of != ticket);
            }
            core.machine.send_goes_on();
        });
    }
}

/// Takes a place for a send that found no room, under the lock under which it found none.
pub(super) struct Waiter<'a> {
    ticket: &'a mut Option<u32>,
    waker: &'a Waker,
}

impl Waiter<'_> {
    fn wait(&mut self, core: &mut Core, now: Moment) {
        let ticket = *self.ticket.get_or_insert_with(|| {
            core.machine.send_waits(now);
            core.ticket()
        });
        let room = &mut core.rare_mut().room;
        match room.iter_mut().find(|(of, _)| *of == ticket) {
            Some((_, waker)) => waker.clone_from(self.waker),
            None => room.push((ticket, self.waker.clone())),
        }
    }
}

/// Tries until there is room.
async fn when_room<T: Send + 'static>(
    session: &Shared<T>,
    mut attempt: impl FnMut(&mut Waiter<'_>) -> Poll<Result<(), SendError>>,
) -> Result<(), SendError> {
    let mut line = InLine { session, ticket: None };
    poll_fn(|cx| {
        let coop = ready!(coop::poll_proceed(cx));
        let mut waiter = Waiter { ticket: &mut line.ticket, waker: cx.waker() };
        let result = ready!(attempt(&mut waiter));
        coop.made_progress();
        Poll::Ready(result)
    })
    .await
}

/// Sends a message that is there already.
pub(super) async fn send<T: Send + 'static>(
    session: &Shared<T>,
    message: Message,
    kind: Kind,
) -> Result<(), SendError> {
    let mut message = Some(message);
    when_room(session, |waiter| attempt(session, &mut message, &kind, waiter)).await
}

/// Sends the message, or waits for room and leaves it where it is.
fn attempt<T: Send + 'static>(
    session: &Shared<T>,
    message: &mut Option<Message>,
    kind: &Kind,
    waiter: &mut Waiter<'_>,
) -> Poll<Result<(), SendError>> {
    let Some(unsent) = message.take() else {
        return Poll::Ready(Err(SendError::ended(None)));
    };
    let unsent = match push_fitting(session, unsent, kind) {
        Ok(()) => return Poll::Ready(Ok(())),
        Err(unsent) => unsent,
    };
    session.with_core(|core, now| match push(core, unsent, kind, now) {
        Ok(()) => Poll::Ready(Ok(())),
        Err(Unsent { message: unsent, why: NotSent::Full }) => {
            *message = Some(unsent);
            waiter.wait(core, now);
            Poll::Pending
        }
        Err(unsent) => Poll::Ready(Err(core.not_sent(unsent.why, Some(unsent.message)))),
    })
}

/// The same for a caller that keeps the message and the place itself, and gives the place up.
pub(super) fn poll_send<T: Send + 'static>(
    session: &Shared<T>,
    message: &mut Option<Message>,
    ticket: &mut Option<u32>,
    waker: &Waker,
) -> Poll<Result<(), SendError>> {
    attempt(session, message, &Kind::Ordinary, &mut Waiter { ticket, waker })
}

/// Waits while a send would wait.
pub(super) fn poll_room<T: Send + 'static>(
    session: &Shared<T>,
    ticket: &mut Option<u32>,
    waker: &Waker,
) -> Poll<()> {
    session.with_core(|core, now| {
        if core.life().has_left() || !core.machine.would_wait(now) {
            return Poll::Ready(());
        }
        Waiter { ticket, waker }.wait(core, now);
        Poll::Pending
    })
}

/// Sends a message; returns it if there is no room now.
pub(super) fn send_or_return<T: Send + 'static>(
    session: &Shared<T>,
    message: Message,
) -> Result<Option<Message>, SendError> {
    let kind = &Kind::Ordinary;
    let Err(message) = push_fitting(session, message, kind) else {
        return Ok(None);
    };
    session.with_core(|core, now| match push(core, message, kind, now) {
        Ok(()) => Ok(None),
        Err(Unsent { message, why: NotSent::Full }) => Ok(Some(message)),
        Err(unsent) => Err(core.not_sent(unsent.why, Some(unsent.message))),
    })
}

/// Makes a message from the state and sends it, in one step with the change.
pub(super) async fn send_with<T, M>(
    session: &Shared<T>,
    make: impl FnOnce(&mut T) -> M,
) -> Result<(), SendError>
where
    T: Send + 'static,
    M: Into<Outgoing>,
{
    let mut make = Some(make);
    when_room(session, |waiter| {
        // Under the state's lock, so that nothing gets between a change and its message.
        session.update_state_if(|state| {
            let room = session.with_core(|core, now| match core.machine.reserve(now) {
                _ if core.life().has_left() => Poll::Ready(Err(SendError::ended(None))),
                Ok(()) => Poll::Ready(Ok(())),
                Err(NotSent::Full) => {
                    waiter.wait(core, now);
                    Poll::Pending
                }
                Err(why) => Poll::Ready(Err(core.not_sent(why, None))),
            });
            let result = match (room, make.take()) {
                (Poll::Ready(Ok(())), Some(make)) => {
                    let Outgoing { message, time_to_live } = make(state).into();
                    Poll::Ready(session.with_core(|core, now| {
                        let until = time_to_live.map(|time| now + time);
                        let terms = Terms { until, ..Terms::default() };
                        match core.machine.send_reserved(message, terms, now) {
                            Ok(_) => {
                                core.sent();
                                Ok(())
                            }
                            Err(unsent) => Err(core.not_sent(unsent.why, Some(unsent.message))),
                        }
                    }))
                }
                (room, unused) => {
                    make = unused;
                    room
                }
            };
            let changed = make.is_none();
            (result, changed)
        })
    })
    .await
}

/// What a message is in addition to what it says.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Ordinary,
    /// Clients that start fresh start with it.
    Checkpoint,
    /// Boxed, because most are not, and a handler's task holds the largest of its sends.
    Special(Box<Special>),
}

/// Whom a message is for, what it replaces, and how long it is worth sending.
#[derive(Clone, Default, Debug)]
pub(super) struct Special {
    pub(super) to: Option<Client>,
    pub(super) slot: Option<ByteString>,
    pub(super) time_to_live: Option<Duration>,
}

impl Kind {
    pub(super) fn special(special: Special) -> Self {
        Self::Special(Box::new(special))
    }

    /// Of a message for every client.
    pub(super) fn lasting(time_to_live: Option<Duration>) -> Self {
        match time_to_live {
            None => Self::Ordinary,
            Some(_) => Self::special(Special { time_to_live, ..Special::default() }),
        }
    }
}

/// Sends a message if there is room now.
pub(super) fn try_send<T: Send + 'static>(
    session: &Shared<T>,
    message: Message,
    kind: &Kind,
) -> Result<(), SendError> {
    push_fitting(session, message, kind).or_else(|message| {
        session.with_core(|core, now| {
            push(core, message, kind, now)
                .map_err(|unsent| core.not_sent(unsent.why, Some(unsent.message)))
        })
    })
}

/// Sends a message if that takes no more than putting it into the outbox: most do, and need not know the time.
fn push_fitting<T: Send + 'static>(
    session: &Shared<T>,
    message: Message,
    kind: &Kind,
) -> Result<(), Message> {
    if !matches!(kind, Kind::Ordinary) {
        return Err(message);
    }
    session.step(|core| {
        if core.life().has_left() {
            return Err(message);
        }
        core.machine.send_fitting(message)?;
        core.sent();
        Ok(())
    })
}

fn push(core: &mut Core, message: Message, kind: &Kind, now: Moment) -> Result<(), Unsent> {
    if core.life().has_left() {
        return Err(Unsent { message, why: NotSent::Ended });
    }
    match kind {
        Kind::Ordinary => core.machine.send(message, now),
        Kind::Checkpoint => core.machine.send_checkpoint(message, now),
        Kind::Special(special) => match core.terms(special, now) {
            Ok(terms) => core.machine.send_on(message, terms, now),
            Err(why) => Err(Unsent { message, why }),
        },
    }?;
    core.sent();
    Ok(())
}

impl Core {
    /// Finds a client that messages can be sent to.
    pub(super) fn addressee(&self, client: Client) -> Option<Addressee> {
        self.machine.addressee(client.name(), |peer: &Peer| client.is_transport(*peer))
    }

    fn terms(&self, special: &Special, now: Moment) -> Result<Terms, NotSent> {
        let to = match special.to {
            None => None,
            Some(client) => {
                let to = self.addressee(client);
                let gone =
                    if self.machine.ended().is_some() { NotSent::Ended } else { NotSent::Gone };
                Some(to.ok_or(gone)?)
            }
        };
        let until = special.time_to_live.map(|time| now + time);
        Ok(Terms { to, slot: special.slot.clone(), until })
    }

    /// There is no checkpoint any more.
    pub(super) fn clear_checkpoint(&mut self) {
        if self.life().has_left() {
            return;
        }
        self.machine.clear_checkpoint();
        if self.machine.rules().durable_outbox {
            self.changed(Urgency::Soon);
        }
    }

    /// A message that may leave only when it is on disk asks to be saved.
    fn sent(&mut self) {
        if self.machine.rules().durable_outbox {
            self.changed(Urgency::Now);
        }
    }
    /// Makes the error of a message that was not sent; without the message if there is none yet.
    #[cold]
    fn not_sent(&self, why: NotSent, message: Option<Message>) -> SendError {
        SendError::new(why, message, &self.machine.rules().bounds)
    }
}
