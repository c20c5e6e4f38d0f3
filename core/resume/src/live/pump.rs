//! Moves frames between one transport and its session. The only module that touches transports.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use session_resume_proto::{
    AttachmentNumber, Message, Moment,
    session::{self, Budget, Incoming, Reception},
    wire::{Close, ServerControl},
};
use tokio::time::{Instant, Sleep};

use crate::{
    live::session::{Core, Shared},
    words::{
        durability::Urgency,
        observe,
        transport::{Frame, Transport, TransportError, TransportErrorKind},
    },
};

/// One lock, one flush: feeding many messages and flushing once costs 3 to 7 times less than each alone.
/// Bounded, so that one busy session does not hold its lock or grow its socket's buffer without end.
const BATCH: Budget = Budget { messages: 256, bytes: 32 << 10 };
/// At most this many frames are read before the session is locked.
const READ_BATCH: usize = 64;
/// After our close frame the pump waits at most this long for the peer's: a reset at once would hide the code.
const LINGER: Duration = Duration::from_secs(5);

/// Runs a transport's turn until the transport is gone.
///
/// Dropping the future detaches the transport.
pub(crate) fn run<T, S>(turn: Turn<T>, socket: S) -> BoxFuture<'static, ()>
where
    T: Send + 'static,
    S: Transport + 'static,
{
    // Made outside of the future, which would keep a place for each of the parts.
    let mut pump = Pump {
        turn,
        socket,
        incoming: VecDeque::new(),
        outgoing: Vec::new().into_iter(),
        readable: true,
        writable: true,
        unflushed: false,
        peer_code: None,
        gone: false,
        said_close: false,
        give_up: None,
        timer: None,
    };
    async move {
        // Used in place: what is moved out of a local takes memory twice in the future.
        match poll_fn(|cx| pump.poll(cx)).await {
            // The answer of a superseded peer says that the peer knows of it.
            End::Closing => {
                let number = pump.turn.number;
                let session = &pump.turn.session;
                // A pong that comes now still tells what the peer has.
                let pong = |payload| {
                    session.with_core(|core, now| {
                        let _ = core.machine.handle_frame(number, Incoming::Pong(payload), now);
                    });
                };
                if linger(&mut pump.socket, pong).await {
                    session.step(|core| core.machine.handle_close_answered(number));
                }
            }
            End::Gone => {
                // Detached before anything else is waited for.
                drop(pump.turn);
                // The library has queued its answer to the peer's close; what the peer has sent behind that, such
                // as a pong, must not reset the connection before the answer is read.
                let socket = &mut pump.socket;
                let closed = poll_fn(|cx| Pin::new(&mut *socket).poll_close(cx));
                if let Ok(Ok(())) = tokio::time::timeout(LINGER, closed).await {
                    linger(socket, drop).await;
                }
            }
            End::GivenUp => {}
        }
    }
    .boxed()
}

/// Tells a transport that gets no turn why, and lingers; returns whether the peer has answered.
pub(crate) async fn refuse<S: Transport>(
    mut socket: S,
    refusal: session::Refusal,
    resumable: bool,
) -> bool {
    let mut frames = Vec::new();
    if let (true, Some(retry)) = (resumable, refusal.retry) {
        let retry = Some(u64::try_from(retry.as_millis()).unwrap_or(u64::MAX));
        frames.push(Frame::Text(ServerControl { retry, ..ServerControl::default() }.encode()));
    }
    let close = if resumable { refusal.close } else { refusal.close.for_plain() };
    frames.push(close_frame(close));
    say_and_linger(&mut socket, frames).await
}

/// Tells a transport that gets no turn all there is to tell, and lingers.
pub(crate) async fn say<S: Transport>(mut socket: S, frames: Vec<session::Frame>) {
    say_and_linger(&mut socket, frames.into_iter().map(wire_frame).collect()).await;
}

/// Says these frames, the last of which is a close, and waits for the answer; returns whether it came.
async fn say_and_linger<S: Transport>(socket: &mut S, frames: Vec<Frame>) -> bool {
    let mut frames = frames.into_iter();
    let mut next = frames.next();
    let said = tokio::time::timeout(
        LINGER,
        poll_fn(|cx| {
            while next.is_some() {
                ready!(Pin::new(&mut *socket).poll_ready(cx))?;
                if let Some(frame) = next.take() {
                    Pin::new(&mut *socket).start_send(frame)?;
                }
                next = frames.next();
            }
            Pin::new(&mut *socket).poll_flush(cx)
        }),
    )
    .await;
    matches!(said, Ok(Ok(()))) && linger(socket, drop).await
}

/// Reads until the peer answers our close, and forgets all but pongs; returns whether it did.
async fn linger<S: Transport>(socket: &mut S, mut pong: impl FnMut(Bytes)) -> bool {
    let mut readable = true;
    let answer = poll_fn(|cx| {
        loop {
            match ready!(Pin::new(&mut *socket).poll_next(cx)) {
                Some(Ok(Frame::Close(_))) => return Poll::Ready(true),
                Some(Ok(Frame::Pong(payload))) => pong(payload),
                Some(Ok(_)) => {}
                // The peer may still be reading: a drop now could reset the connection under our close frame.
                Some(Err(error)) if readable && error.kind() != TransportErrorKind::Broken => {
                    readable = false;
                }
                Some(Err(_)) | None => return Poll::Ready(false),
            }
        }
    });
    tokio::time::timeout(LINGER, answer).await.unwrap_or(false)
}

/// A transport's turn; dropping it detaches.
pub(crate) struct Turn<T: Send + 'static> {
    session: Arc<Shared<T>>,
    number: AttachmentNumber,
    /// When the turn began, while the client has not been sent all that it had missed.
    behind_since: Option<Instant>,
    /// Until when the client may stay. Not a moment of the session's clock: that stands still while the process does,
    /// and a right runs out all the same.
    valid_until: Option<Instant>,
}

impl<T: Send + 'static> Turn<T> {
    /// The turn of an attachment whose client has `behind` messages to be sent first, and may stay until `valid_until`.
    pub(crate) fn new(
        session: Arc<Shared<T>>,
        number: AttachmentNumber,
        behind: u64,
        valid_until: Option<Instant>,
    ) -> Self {
        if let Some(keeper) = session.keeper() {
            keeper.has_attached();
        }
        let behind_since = (behind > 0).then(Instant::now);
        Self { session, number, behind_since, valid_until }
    }

    /// Whether the client's right to be here has run out.
    fn has_run_out(&self) -> bool {
        self.valid_until.is_some_and(|at| at <= Instant::now())
    }

    /// All that the session has for the client is written.
    fn caught_up(&mut self) {
        if let Some(since) = self.behind_since.take() {
            observe::replayed(since.elapsed());
        }
    }
}

impl<T: Send + 'static> Drop for Turn<T> {
    fn drop(&mut self) {
        self.session.with_core(|core, now| {
            core.pump_left(self.number);
            core.machine.detach(self.number, now);
            core.forget_requests();
            core.changed(Urgency::Soon);
        });
        let Some(keeper) = self.session.keeper() else {
            return;
        };
        let (active, session) = (keeper.has_detached(), self.session.id());
        tracing::debug!(session = %session.short(), attachment = self.number.get(), active, "detached");
    }
}

/// How the pump ended.
enum End {
    /// Our close frame is out.
    Closing,
    /// The peer has closed or is gone.
    Gone,
    /// The turn was over, and the peer did not read to the end in time.
    GivenUp,
}

struct Pump<T: Send + 'static, S> {
    turn: Turn<T>,
    socket: S,
    /// Read, but not yet taken by the session.
    incoming: VecDeque<Incoming>,
    /// Taken from the session, but not yet written.
    outgoing: vec::IntoIter<session::Frame>,
    /// Reading has not failed.
    readable: bool,
    /// Writing has not failed.
    writable: bool,
    unflushed: bool,
    /// The code of the peer's close, if it has sent one.
    peer_code: Option<u16>,
    /// The peer has closed or is gone, and the session has not had room yet for all that it had sent.
    gone: bool,
    /// Our close frame is with the socket: nothing is read or written after it.
    said_close: bool,
    /// Until when a peer whose turn is over may take its time to read what is left, or the handler to take what a
    /// gone peer has left.
    give_up: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// When the pump must look again by itself.
enum Deadline {
    At(Option<Moment>),
    /// The turn is over.
    GiveUp,
}

/// How far one round of reading got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// All that is there.
    All,
    /// As much as one round may.
    Batch,
    /// The peer has closed or is gone.
    Gone,
}

/// How far one round of writing got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    All,
    /// The socket is full: what waits in the session waits there.
    Some,
    /// Our close frame is out.
    Close,
    /// The peer is gone.
    Gone,
}

impl<T: Send + 'static, S: Transport> Pump<T, S> {
    /// Does all that can be done now. All progress is in `self`, so that it may stop at any point.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.gone {
            return self.poll_leftover(cx);
        }
        // At most this many rounds run before other tasks get a turn.
        for _ in 0..8 {
            if !self.writable {
                return self.poll_rest(cx);
            }
            // Nothing is read beyond what the session has no room for.
            let waits = self.said_close || !self.incoming.is_empty();
            let read = if waits { Read::All } else { self.poll_read(cx) };
            if read == Read::Gone {
                return self.poll_leftover(cx);
            }
            let has_more = self.step(cx);
            // Always polled before we wait: a timer that was only set does not wake the task.
            let timer_waits = self.poll_timer(cx);
            match self.poll_write(cx) {
                Written::Close => return Poll::Ready(End::Closing),
                Written::Gone => {
                    self.writable = false;
                    self.give_up = Some(Instant::now() + LINGER);
                }
                // While the session has no room, there is no use in reading on; it wakes us.
                written => {
                    if self.give_up.is_some_and(|give_up| give_up <= Instant::now()) {
                        return Poll::Ready(End::GivenUp);
                    }
                    let reading_waits = read == Read::All || !self.incoming.is_empty();
                    if written == Written::All && !has_more {
                        self.turn.caught_up();
                    }
                    if reading_waits && timer_waits && (written == Written::Some || !has_more) {
                        self.release_memory();
                        return Poll::Pending;
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Read {
        if !self.readable {
            return Read::All;
        }
        while self.incoming.len() < READ_BATCH {
            let frame = match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Pending => return Read::All,
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => return self.read_failed(&error),
                Poll::Ready(None) => return Read::Gone,
            };
            self.incoming.push_back(match frame {
                Frame::Text(text) => Incoming::Text(text),
                // Copied out: a slice would hold on to the whole read buffer for as long as it waits.
                Frame::Binary(bytes) => Incoming::Binary(Bytes::copy_from_slice(&bytes)),
                Frame::Pong(payload) => Incoming::Pong(payload),
                Frame::Ping(_) => {
                    // The answer is with the transport, which may not be asked for another frame for a while.
                    self.unflushed = true;
                    Incoming::Ping
                }
                Frame::Close(close) => {
                    self.peer_code = close.map(|(code, _)| code);
                    return Read::Gone;
                }
            });
        }
        Read::Batch
    }

    /// Writing has failed; what had come before that still counts: an acknowledgement may be in it.
    ///
    /// Read to the end, not only what is ready: the runtime may not yet have heard that there is more.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let read = self.poll_read(cx);
            self.hand_over();
            if read == Read::Gone || !self.readable || !self.incoming.is_empty() {
                return self.poll_leftover(cx);
            }
            if read == Read::All {
                break;
            }
        }
        self.set_timer(self.give_up);
        if self.poll_timer(cx) { Poll::Pending } else { Poll::Ready(End::Gone) }
    }

    /// The peer is gone. What it had sent before counts, and may have to wait for room in the inbox: until then
    /// the turn is not over, unless a newer transport ends it.
    fn poll_leftover(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Self { turn, incoming, peer_code, .. } = self;
        let number = turn.number;
        let (over, patience, reads_again, undeliverable) = turn.session.with_core(|core, now| {
            receive(core, number, incoming, now);
            core.pump_waits(number, cx.waker());
            let ended = incoming.is_empty();
            let undeliverable =
                ended.then(|| core.machine.handle_peer_end(number, *peer_code, now)).flatten();
            let patience = core.machine.rules().unused_lifetime;
            let reads_again = core.machine.poll_reading_timeout(number);
            (core.machine.is_turn_over(number), patience, reads_again, undeliverable)
        });
        if let Some(message) = undeliverable {
            observe::undeliverable(&message);
            let session = turn.session.id();
            tracing::warn!(
                session = %session.short(),
                position = message.position.get(),
                bytes = message.bytes,
                code = *peer_code,
                "a plain client cannot take this message, and is sent what comes after it: raise its limit, or lower \
                 Limits::message"
            );
        }
        if !self.gone {
            self.gone = true;
            // As long as a session waits for a client to come: a handler may never ask for more.
            self.give_up = Some(Instant::now() + patience);
        }
        if over || self.incoming.is_empty() {
            return Poll::Ready(End::Gone);
        }
        let reads_again = reads_again.map(|at| self.turn.session.clock().instant(at));
        self.set_timer(reads_again.into_iter().chain(self.give_up).min());
        if self.poll_timer(cx) {
            return Poll::Pending;
        }
        if self.give_up.is_some_and(|at| Instant::now() < at) {
            // The next frame's time has come, or the timer was set for something else before.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (session, lost) = (self.turn.session.id(), self.incoming.len());
        tracing::warn!(session = %session.short(), lost, "the handler has not taken what a gone client had sent");
        Poll::Ready(End::Gone)
    }

    fn read_failed(&mut self, error: &TransportError) -> Read {
        let close = match error.kind() {
            TransportErrorKind::TooBig => Close::TOO_BIG,
            TransportErrorKind::Protocol => Close::new(1002, "protocol error"),
            TransportErrorKind::InvalidText => Close::new(1007, "text is not UTF-8"),
            TransportErrorKind::Broken => return Read::Gone,
        };
        self.readable = false;
        self.hand_over();
        let number = self.turn.number;
        self.turn.session.with_core(|core, now| core.machine.close_transport(number, close, now));
        Read::All
    }

    /// Gives the session what was read.
    fn hand_over(&mut self) {
        let Self { turn, incoming, .. } = self;
        turn.session.with_core(|core, now| receive(core, turn.number, incoming, now));
    }

    /// Gives the session what was read and takes what shall be written; returns whether it may have more.
    ///
    /// While something is left of an earlier batch the session is not asked, so it may have more then.
    fn step(&mut self, cx: &Context<'_>) -> bool {
        let Self { turn, incoming, outgoing, .. } = self;
        let number = turn.number;
        turn.session.hush();
        let has_run_out = turn.has_run_out();
        let (batch, deadline) = turn.session.with_core(|core, now| {
            // Before what was read is taken.
            if has_run_out {
                core.machine.close_transport(number, Close::REAUTHENTICATE, now);
            }
            core.machine.handle_transport_timeout(number, now);
            receive(core, number, incoming, now);
            let mut batch = Vec::new();
            if outgoing.len() == 0 {
                core.machine.poll_transmit(number, BATCH, now, &mut batch);
            }
            core.pump_waits(number, cx.waker());
            let deadline = if core.machine.is_turn_over(number) {
                Deadline::GiveUp
            } else if outgoing.len() == 0 {
                Deadline::At(core.machine.poll_transport_timeout(number))
            } else {
                Deadline::At(core.machine.poll_blocked_timeout(number))
            };
            (batch, deadline)
        });
        if !batch.is_empty() {
            *outgoing = batch.into_iter();
        }
        let has_more = outgoing.len() > 0;
        let deadline = match deadline {
            Deadline::At(deadline) => {
                let deadline = deadline.map(|at| self.turn.session.clock().instant(at));
                deadline.into_iter().chain(self.turn.valid_until).min()
            }
            // It may read to the end, but not keep us for ever.
            Deadline::GiveUp => Some(*self.give_up.get_or_insert_with(|| Instant::now() + LINGER)),
        };
        self.set_timer(deadline);
        has_more
    }

    fn set_timer(&mut self, deadline: Option<Instant>) {
        let Some(at) = deadline else {
            self.timer = None;
            return;
        };
        match &mut self.timer {
            // Deadlines mostly move away: an early wake-up costs less than moving the timer every time.
            Some(timer) if timer.deadline() <= at && !timer.is_elapsed() => {}
            Some(timer) => timer.as_mut().reset(at),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(at))),
        }
    }

    /// Returns whether the next deadline lies ahead.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        self.timer.as_mut().is_none_or(|timer| timer.as_mut().poll(cx).is_pending())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Written {
        match self.try_write(cx) {
            Poll::Pending => Written::Some,
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) => Written::Gone,
        }
    }

    fn try_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<Written, TransportError>> {
        let mut socket = Pin::new(&mut self.socket);
        while self.outgoing.len() > 0 {
            ready!(socket.as_mut().poll_ready(cx))?;
            let Some(frame) = self.outgoing.next() else {
                break;
            };
            self.said_close |= matches!(frame, session::Frame::Close(_));
            socket.as_mut().start_send(wire_frame(frame))?;
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(socket.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(if self.said_close { Written::Close } else { Written::All }))
    }

    /// A live connection is mostly an idle one: its batches' memory does not stay with it.
    fn release_memory(&mut self) {
        if self.incoming.is_empty() {
            self.incoming = VecDeque::new();
        }
        if self.outgoing.len() == 0 {
            self.outgoing = Vec::new().into_iter();
        }
    }
}

/// Gives the session what was read, as far as it has room.
fn receive(
    core: &mut Core,
    number: AttachmentNumber,
    incoming: &mut VecDeque<Incoming>,
    now: Moment,
) {
    while let Some(frame) = incoming.pop_front() {
        match core.machine.handle_frame(number, frame, now) {
            Reception::Done => {}
            Reception::State(offer) => {
                core.keep_offered_state(offer);
                // It merges at its boundary, before any message that comes after this.
                core.wake_receiver();
            }
            Reception::Full(frame) => {
                incoming.push_front(frame);
                return;
            }
            Reception::TooFast { frame, is_news } => {
                if is_news {
                    observe::slowed_down();
                }
                incoming.push_front(frame);
                return;
            }
        }
    }
}

fn wire_frame(frame: session::Frame) -> Frame {
    match frame {
        session::Frame::Data(Message::Text(text)) | session::Frame::Control(text) => {
            Frame::Text(text)
        }
        session::Frame::Data(Message::Binary(bytes)) => Frame::Binary(bytes),
        session::Frame::Ping(payload) => Frame::Ping(Bytes::copy_from_slice(&payload)),
        session::Frame::Close(close) => close_frame(close),
    }
}

fn close_frame(close: Close) -> Frame {
    Frame::Close(Some((close.code, close.reason)))
}
