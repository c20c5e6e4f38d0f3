//! Waiting until clients have what was sent, and what the application says to single clients.

use std::{
    borrow::Cow,
    error::Error,
    fmt,
    future::poll_fn,
    task::{Poll, Waker},
    time::Duration,
};

#[cfg(feature = "http")]
use session_resume_proto::session::{Delivery, DeliveryProgress};
use session_resume_proto::{
    Position,
    session::{Access, Addressee, Carrier, Receipt},
    wire::{Close, CodeError},
};

use super::{
    Client, Session,
    core::{Core, WakersDue},
    shared::Shared,
};
#[cfg(feature = "http")]
use super::{core::Machine, life::Life};
use crate::Identity;

/// Why [`Session::delivered`] does not wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NotDelivered {
    /// A client has not acknowledged everything, and no client is attached. The session keeps what they miss; ask
    /// again when one [attaches](crate::Event::Attached).
    NobodyAttached,
    /// The client is unknown, or the session keeps nothing for it any more.
    Gone,
    /// The session has ended before.
    Ended,
}

impl fmt::Display for NotDelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NobodyAttached => {
                "no client is attached, and not all have acknowledged everything"
            }
            Self::Gone => "the client is unknown, or nothing is kept for it any more",
            Self::Ended => "the session ended before everything was acknowledged",
        })
    }
}

impl Error for NotDelivered {}

/// A client that is attached: see [`Session::clients`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct AttachedClient {
    /// The client.
    pub client: Client,
    /// Its identity.
    pub identity: Identity,
    /// Whether it may only read: [`Upgrade::read_only`](crate::adapter::Upgrade::read_only).
    pub read_only: bool,
    /// How many transports it has.
    pub transports: usize,
    /// How long ago the newest of these attached.
    pub attached_for: Duration,
    /// What carries the newest.
    pub carrier: Carrier,
    /// How long its last ping took to be answered. `None` until one is: mostly the first ping comes with the first
    /// heartbeat.
    pub round_trip: Option<Duration>,
}

/// Somebody waits for something of the session.
pub(super) struct Awaited {
    ticket: u32,
    what: What,
    waker: Waker,
}

/// What somebody waits for.
#[derive(Clone)]
enum What {
    /// Clients have everything before a position.
    Receipt(Position, Option<Addressee>),
    /// Something becomes of a message that came without a transport: its stage is another one.
    #[cfg(feature = "http")]
    Delivery(Delivery, Stage),
}

impl Awaited {
    pub(super) fn wake(self) {
        self.waker.wake();
    }
}

/// How far a message has come that came without a transport, and what its session does.
#[cfg(feature = "http")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stage {
    pub(crate) progress: DeliveryProgress,
    /// Where its session is in its life.
    pub(crate) life: Life,
    /// The session takes no further message for now.
    is_freezing: bool,
}

/// A wait. If it is given up, nothing of it stays behind.
struct Waiting<'a, T: Send + 'static> {
    session: &'a Shared<T>,
    ticket: Option<u32>,
}

impl<T: Send + 'static> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.session.step(|core| {
                if let Some(rare) = core.rare() {
                    rare.receipts.retain(|awaited| awaited.ticket != ticket);
                }
                core.tidy();
            });
        }
    }
}

impl Core {
    /// Takes those whose wait is over.
    pub(super) fn take_receipts(&mut self, due: &mut WakersDue) {
        let over = self.is_over();
        #[cfg(feature = "http")]
        let life = self.life();
        let Some(rare) = self.rare.get_mut() else { return };
        if rare.receipts.is_empty() {
            return;
        }
        let machine = &mut self.machine;
        due.receipts.extend(rare.receipts.extract_if(.., |awaited| match &awaited.what {
            What::Receipt(position, of) => {
                over || machine.receipt(*position, of.as_ref()) != Receipt::Waits
            }
            #[cfg(feature = "http")]
            What::Delivery(delivery, seen) => Stage::of(*delivery, machine, life) != *seen,
        }));
    }

    /// Notes what a task waits for, or its new waker.
    fn awaits(&mut self, ticket: u32, what: &What, waker: &Waker) {
        let receipts = &mut self.rare_mut().receipts;
        match receipts.iter_mut().find(|awaited| awaited.ticket == ticket) {
            Some(awaited) => awaited.waker.clone_from(waker),
            None => {
                receipts.push(Awaited { ticket, what: what.clone(), waker: waker.clone() });
            }
        }
    }

    /// Returns the stage of a message that came without a transport.
    #[cfg(feature = "http")]
    pub(crate) fn stage(&self, delivery: Delivery) -> Stage {
        Stage::of(delivery, &self.machine, self.life())
    }
}

#[cfg(feature = "http")]
impl Stage {
    fn of(delivery: Delivery, machine: &Machine, life: Life) -> Self {
        let progress = machine.delivery_progress(Some(delivery));
        Self { progress, life, is_freezing: machine.is_freezing() }
    }
}

#[cfg(feature = "http")]
impl<T: Send + 'static> Shared<T> {
    /// Waits until a message that came without a transport has another stage than was `seen`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only looks.
    pub(crate) async fn leaves_stage(&self, delivery: Delivery, seen: Stage) {
        let mut waiting = Waiting { session: self, ticket: None };
        let what = What::Delivery(delivery, seen);
        poll_fn(|cx| {
            self.step(|core| {
                if core.stage(delivery) != seen {
                    return Poll::Ready(());
                }
                let ticket = *waiting.ticket.get_or_insert_with(|| core.ticket());
                core.awaits(ticket, &what, cx.waker());
                Poll::Pending
            })
        })
        .await;
    }
}

impl<T: Send + 'static> Session<T> {
    /// Waits until everything that was sent so far has been taken by the application of each client, those that are
    /// away for a moment included.
    ///
    /// A client is waited for as long as the session keeps messages for it. A message of
    /// [`send_to`](Self::send_to) is needed by its client alone. What a plain WebSocket has taken is known by pongs
    /// alone: it is what has arrived.
    ///
    /// # Errors
    ///
    /// Returns [`NotDelivered`] if no client is attached, now or later, before all have everything; and if the session
    /// ends.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only looks.
    ///
    /// # Example
    ///
    /// ```
    /// use session_resume::Session;
    ///
    /// async fn release(session: &Session) -> session_resume::Result {
    ///     session.send("the doors open").await?;
    ///     session.delivered().await?;
    ///     // Each page has it now.
    ///     Ok(())
    /// }
    /// ```
    pub async fn delivered(&self) -> Result<(), NotDelivered> {
        self.wait_delivered(None).await
    }

    /// As [`delivered`](Self::delivered), for one client.
    ///
    /// # Errors
    ///
    /// Returns [`NotDelivered`] as `delivered` does, and if the client is unknown.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only looks.
    pub async fn delivered_to(&self, client: Client) -> Result<(), NotDelivered> {
        self.wait_delivered(Some(client)).await
    }

    async fn wait_delivered(&self, client: Option<Client>) -> Result<(), NotDelivered> {
        let shared = &*self.shared;
        let (position, of) = shared.step(|core| {
            let of = client.map(|client| core.addressee(client).ok_or(NotDelivered::Gone));
            (core.machine.head(), of.transpose())
        });
        let of = of?;
        let mut waiting = Waiting { session: shared, ticket: None };
        let what = What::Receipt(position, of);
        poll_fn(|cx| {
            shared.step(|core| {
                match core.machine.receipt(position, of.as_ref()) {
                    Receipt::Delivered => return Poll::Ready(Ok(())),
                    _ if core.is_over() => return Poll::Ready(Err(NotDelivered::Ended)),
                    Receipt::NobodyThere => {
                        return Poll::Ready(Err(NotDelivered::NobodyAttached));
                    }
                    Receipt::Waits => {}
                }
                let ticket = *waiting.ticket.get_or_insert_with(|| core.ticket());
                core.awaits(ticket, &what, cx.waker());
                Poll::Pending
            })
        })
        .await
    }

    /// Returns the clients that are attached.
    pub fn clients(&self) -> Vec<AttachedClient> {
        let now = self.shared.clock().now();
        let core = self.shared.lock();
        let attendees = core.machine.attendees().map(|attendee| {
            let client = Client::of(attendee.who);
            AttachedClient {
                client,
                identity: client.identity(),
                read_only: attendee.access == Access::ReadOnly,
                transports: attendee.transports,
                attached_for: now.since(attendee.since),
                carrier: attendee.carrier,
                round_trip: attendee.round_trip,
            }
        });
        attendees.collect()
    }

    /// Closes the transports of one client with a code of the application's: 4000 to 4099, or 4200 to 4999; 1000 asks
    /// it to come back. Returns whether it had any.
    ///
    /// The session goes on. Clients of ours stop, status `refused`, until their user asks: the session keeps what
    /// they miss, and they may come back. A close frame has room for 123 bytes of the reason. A plain WebSocket is
    /// told the code; what it does then is its own matter.
    ///
    /// # Errors
    ///
    /// Returns [`CodeError`] for any other code; nothing is closed.
    pub fn close_client(
        &self,
        client: Client,
        code: u16,
        reason: impl Into<Cow<'static, str>>,
    ) -> Result<bool, CodeError> {
        let close = Close::of_application(code, reason)?;
        Ok(self.shared.with_core(|core, now| match core.addressee(client) {
            Some(addressee) => core.machine.close_client(&addressee, &close, now) > 0,
            None => false,
        }))
    }
}
