//! A transport over HTTP: carries out what the pure end of a pipe decides.

mod lane;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, header};
use http_body_util::Full;
use session_resume_proto::{
    Moment,
    client::TransportNumber,
    pipe::{
        Answer, Arrival, Client, ClientConfig, Form, Lane as Which, Method, Nonce, Outgoing, Path,
    },
};
use tokio::time::{Instant, Sleep, sleep_until};

use self::lane::{Heard, Lane};
use crate::{
    Cause,
    request::Target,
    shared::{Shared, random},
    step::{LINGER, Step},
};

/// Rounds before the driver looks at anything else.
const ROUNDS: usize = 64;

/// One pipe and its two connections: one for the open and the gets, one for the posts.
pub(crate) struct Pipe {
    shared: Arc<Shared>,
    target: Arc<Target>,
    number: TransportNumber,
    client: Client,
    get: Lane,
    post: Lane,
    sleep: Pin<Box<Sleep>>,
    /// Why the last request came to nothing.
    failure: Option<Cause>,
}

impl Pipe {
    /// `offer` is what a WebSocket would offer in `Sec-WebSocket-Protocol`.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        target: &Arc<Target>,
        number: TransportNumber,
        offer: String,
        form: Form,
    ) -> Self {
        let bits = random();
        let config = ClientConfig {
            form,
            limit: shared.connector.max_received,
            random: u64::from_le_bytes(std::array::from_fn(|n| bits[n])),
        };
        Self {
            client: Client::new(config, nonce(), offer, shared.now()),
            number,
            get: Lane::new(shared, target),
            post: Lane::new(shared, target),
            sleep: Box::pin(sleep_until(Instant::now() + Duration::from_secs(1))),
            failure: None,
            shared: Arc::clone(shared),
            target: Arc::clone(target),
        }
    }

    pub(crate) fn path(&self) -> Path {
        match self.client.form() {
            Form::Stream => Path::Sse,
            Form::Poll => Path::Poll,
        }
    }

    /// Why it has come to nothing, as far as that is known.
    pub(crate) fn failure(&mut self) -> Cause {
        self.failure.take().unwrap_or(Cause::Lost)
    }

    /// Hands on what has come and sends what the machine has. Cancel safe.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let mut progress = false;
        for _ in 0..ROUNDS {
            let now = self.shared.now();
            self.begin_round(now);
            while let Some(arrival) = self.client.poll_arrival() {
                progress = true;
                if let Some(step) = self.arrive(arrival, now) {
                    return Poll::Ready(step);
                }
            }
            self.load(now);
            if self.poll_exchange(cx, now).is_pending() {
                return if progress { Poll::Ready(Step::Progress) } else { Poll::Pending };
            }
        }
        Poll::Ready(Step::Progress)
    }

    /// Says `close`, if given, or confirms what the server has said.
    pub(crate) async fn linger(mut self, close: Option<crate::Close>) {
        if let Some(close) = close {
            self.client.close(close, self.shared.now());
        }
        let goodbye = poll_fn(|cx| {
            loop {
                let now = self.shared.now();
                self.begin_round(now);
                // The machine is done with it.
                while self.client.poll_arrival().is_some() {}
                if self.client.is_over() {
                    return Poll::Ready(());
                }
                if self.poll_exchange(cx, now).is_pending() {
                    return Poll::Pending;
                }
            }
        });
        // A server that does not answer is not worth more.
        let _ = tokio::time::timeout(LINGER, goodbye).await;
    }

    /// Takes in that time has passed, and drops what is of no use any more.
    fn begin_round(&mut self, now: Moment) {
        self.client.handle_timeout(now);
        while let Some(which) = self.client.poll_abort() {
            self.lane(which).abort();
        }
    }

    /// Hands the machine what has come. What ends the transport is the driver's to tell.
    fn arrive(&mut self, arrival: Arrival, now: Moment) -> Option<Step> {
        let machine = &mut self.shared.lock().machine;
        match arrival {
            Arrival::Message(message) => machine.handle_frame(self.number, message, now),
            Arrival::Alive => machine.handle_alive(self.number, now),
            Arrival::Closed(close) => return Some(Step::Gone(close)),
            Arrival::Copied => return Some(Step::Copied),
            Arrival::TooBig => return Some(Step::TooBig),
            Arrival::Broken => return Some(Step::Broken),
            Arrival::Refused { status } => return Some(Step::Refused(status)),
        }
        None
    }

    /// Takes the machine's frames, as long as there is room.
    fn load(&mut self, now: Moment) {
        while self.client.is_ready() {
            let next = self.shared.lock().machine.poll_transmit(now);
            let Some((number, message)) = next else {
                break;
            };
            debug_assert_eq!(number, self.number);
            self.client.send(message);
        }
    }

    /// Sends what is to be sent, and takes in one thing that has been heard. Ready: there is another round.
    fn poll_exchange(&mut self, cx: &mut Context<'_>, now: Moment) -> Poll<()> {
        while let Some(outgoing) = self.client.poll_request(now) {
            let request = self.request(&outgoing);
            self.lane(outgoing.lane()).begin(request);
        }
        for which in [Which::Post, Which::Get] {
            if let Poll::Ready(heard) = self.lane(which).poll_heard(cx) {
                self.hear(which, heard, now);
                return Poll::Ready(());
            }
        }
        let due = self.client.poll_timeout();
        let Some(instant) = due.and_then(|due| self.shared.clock().instant(due)) else {
            return Poll::Pending;
        };
        if self.sleep.deadline() != instant {
            self.sleep.as_mut().reset(instant);
        }
        self.sleep.as_mut().poll(cx)
    }

    fn hear(&mut self, which: Which, heard: Heard, now: Moment) {
        match heard {
            Heard::Answer(answer) => {
                let Answer { status, retry_after, .. } = answer;
                if status == 410 {
                    // The pipe is gone, as after the death of the server, or it is another identity's. The next attempt opens
                    // another pipe.
                    self.failure = Some(Cause::Lost);
                } else if status >= 400 {
                    self.failure = Some(Cause::Http { status, retry_after });
                }
                if !self.client.handle_answer(which, &answer, now) {
                    self.lane(which).leave();
                }
            }
            Heard::Piece(piece) => self.client.handle_body(&piece, now),
            Heard::End => self.client.handle_end(now),
            Heard::Failed(cause) => {
                tracing::debug!(transport = ?self.number, ?which, %cause, "request failed");
                self.failure = Some(cause);
                self.client.handle_failed(which, now);
            }
        }
    }

    fn lane(&mut self, which: Which) -> &mut Lane {
        match which {
            Which::Get => &mut self.get,
            Which::Post => &mut self.post,
        }
    }

    fn request(&self, outgoing: &Outgoing) -> Request<Full<bytes::Bytes>> {
        let method = match outgoing.method() {
            Method::Get => http::Method::GET,
            Method::Post => http::Method::POST,
        };
        let mut request = self.shared.connector.http_request(&self.target, method);
        *request.body_mut() = Full::new(outgoing.body.clone());
        for (name, value) in outgoing.headers() {
            let mut value = HeaderValue::try_from(value).expect("a pipe's headers are ASCII");
            // Of these are the pipe's name, which is a capability, and the client's id.
            value.set_sensitive(name != header::ACCEPT.as_str());
            request.headers_mut().insert(name, value);
        }
        request
    }
}

/// Makes the name of a pipe: 22 characters, 132 random bits.
fn nonce() -> Nonce {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let text: String =
        random()[..22].iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect();
    Nonce::parse(&text).expect("22 characters of the alphabet")
}
