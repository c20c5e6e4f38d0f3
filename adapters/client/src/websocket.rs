use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytestring::ByteString;
use futures_util::{Sink, SinkExt, StreamExt};
use session_resume_proto::client::TransportNumber;
use tokio_tungstenite::tungstenite::{
    self, Utf8Bytes,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::{
    Close, Message,
    connector::Socket,
    shared::Shared,
    step::{LINGER, Step},
};

/// Frames read before the driver looks at anything else.
const READS: usize = 64;

/// An open WebSocket.
pub(crate) struct WebSocket {
    number: TransportNumber,
    socket: Socket,
    /// Written since the last flush.
    dirty: bool,
    /// Writing has failed. There may still be something to read: the reason, above all.
    mute: bool,
}

impl WebSocket {
    pub(crate) fn new(number: TransportNumber, socket: Socket) -> Self {
        Self { number, socket, dirty: false, mute: false }
    }

    /// Reads what is there and writes what the machine has, in one flush; never waits with one for the
    /// other. Cancel safe.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<Step> {
        let mut progress = false;
        for _ in 0..READS {
            let Poll::Ready(read) = self.socket.poll_next_unpin(cx) else {
                break;
            };
            let frame = match read {
                Some(Ok(frame)) => frame,
                Some(Err(tungstenite::Error::Capacity(_))) => return Poll::Ready(Step::TooBig),
                Some(Err(_)) | None => return Poll::Ready(Step::Gone(None)),
            };
            progress = true;
            if let tungstenite::Message::Close(frame) = frame {
                return Poll::Ready(Step::Gone(Some(close_of(frame))));
            }
            self.receive(frame, shared);
        }
        if !self.mute && self.poll_write(cx, shared).is_err() {
            self.mute = true;
        }
        if progress { Poll::Ready(Step::Progress) } else { Poll::Pending }
    }

    /// Says `close`, if given, and waits for the peer's own close frame: a reset would hide the reason.
    pub(crate) async fn linger(mut self, close: Option<Close>) {
        let goodbye = async {
            let sent = match close {
                Some(close) => self.socket.close(Some(frame_of(close))).await,
                None => self.socket.flush().await,
            };
            if sent.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        // A peer that does not answer is not worth more; the machine is done with it.
        let _ = tokio::time::timeout(LINGER, goodbye).await;
    }

    fn receive(&mut self, frame: tungstenite::Message, shared: &Shared) {
        let message = match frame {
            tungstenite::Message::Text(text) => {
                let text = ByteString::try_from(bytes::Bytes::from(text));
                Message::Text(text.expect("tungstenite has checked UTF-8"))
            }
            tungstenite::Message::Binary(bytes) => Message::Binary(bytes),
            tungstenite::Message::Ping(_)
            | tungstenite::Message::Pong(_)
            | tungstenite::Message::Close(_)
            | tungstenite::Message::Frame(_) => {
                // The pong is queued inside; it leaves with the next flush.
                self.dirty = true;
                let machine = &mut shared.lock().machine;
                return machine.handle_alive(self.number, shared.now());
            }
        };
        let machine = &mut shared.lock().machine;
        machine.handle_frame(self.number, message, shared.now());
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
    ) -> Result<(), tungstenite::Error> {
        let mut socket = Pin::new(&mut self.socket);
        while let Poll::Ready(ready) = socket.as_mut().poll_ready(cx) {
            ready?;
            let next = shared.lock().machine.poll_transmit(shared.now());
            let Some((number, message)) = next else {
                if self.dirty
                    && let Poll::Ready(flushed) = socket.as_mut().poll_flush(cx)
                {
                    flushed?;
                    self.dirty = false;
                }
                break;
            };
            debug_assert_eq!(number, self.number);
            socket.as_mut().start_send(match message {
                Message::Text(text) => {
                    let text = Utf8Bytes::try_from(text.into_bytes());
                    tungstenite::Message::Text(text.expect("a byte string is UTF-8"))
                }
                Message::Binary(bytes) => tungstenite::Message::Binary(bytes),
            })?;
            self.dirty = true;
        }
        Ok(())
    }
}

fn close_of(frame: Option<CloseFrame>) -> Close {
    match frame {
        Some(frame) => Close::new(frame.code.into(), frame.reason.as_str().to_owned()),
        None => Close::NO_CODE,
    }
}

fn frame_of(close: Close) -> CloseFrame {
    CloseFrame { code: CloseCode::from(close.code), reason: close.reason.into_owned().into() }
}
