//! A session as a stream of events, for readers that speak no protocol of ours, such as a browser's `EventSource`.
//!
//! The session speaks to this transport as to a client of ours; what it says becomes events. What the reader has is in
//! the `id` of the last event, which comes back as `Last-Event-ID`.

use std::{
    fmt::Write as _,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use data_encoding::BASE64;
use futures_core::Stream;
use futures_sink::Sink;
use session_resume_proto::{
    Position,
    wire::{EventId, Inbound, ServerControl, decode_server_text},
};

use super::tube::{Heard, Writer};
use crate::words::transport::{Frame, TransportError, TransportErrorKind};

/// What the stream begins with: how soon the reader comes back after a cut, in milliseconds. Some proxies pass nothing on
/// before the first byte of a body.
pub(super) const FIRST: &str = "retry: 1000\n\n";

/// The transport: frames in, events out.
pub(super) struct Events {
    tube: Writer,
    /// `None` before the hello.
    at: Option<EventId>,
}

impl Events {
    pub(super) fn new(tube: Writer) -> Self {
        Self { tube, at: None }
    }

    fn say(&mut self, frame: Frame) {
        match frame {
            Frame::Text(text) => match decode_server_text(text) {
                Ok(Inbound::Data(text)) => self.message(None, &text),
                Ok(Inbound::Control(control)) => self.control(&control),
                Err(error) => tracing::error!(?error, "a frame of our own cannot be read"),
            },
            Frame::Binary(bytes) => self.message(Some("b64"), &BASE64.encode(&bytes)),
            Frame::Ping(payload) => self.tube.ping(payload, b":\n\n"),
            Frame::Pong(_) => {}
            Frame::Close(_) => self.tube.end(),
        }
    }

    fn message(&mut self, event: Option<&str>, data: &str) {
        if let Some(at) = &mut self.at {
            at.position = at.position.advanced_by(1);
        }
        self.event(event, data);
    }

    fn event(&self, event: Option<&str>, data: &str) {
        self.tube.write(|out| write_event(out, event, self.at.as_ref(), data));
    }

    fn control(&mut self, control: &ServerControl) {
        if let Some(hello) = &control.hello {
            let (epoch, position, attachment) = (hello.epoch, hello.from, hello.attachment);
            self.at = Some(EventId { epoch, position, attachment });
            let told = serde_json::json!({ "session": hello.session, "status": hello.status });
            self.event(Some("session"), &told.to_string());
            self.tell("gap", hello.gap.as_ref());
        }
        // Messages that are not for this reader.
        self.go_to(control.skip);
        if let Some(gap) = &control.gap {
            self.go_to(gap.to);
            self.tell("gap", Some(gap));
        }
        self.tell("done", control.done.as_ref());
        if control.hb.is_some() {
            // A sign of life that no reader is told of.
            self.tube.write(|out| out.extend_from_slice(b":\n\n"));
        }
        if let Some(retry) = control.retry {
            self.tube.write(|out| write_retry(out, retry));
        }
    }

    fn go_to(&mut self, position: Option<Position>) {
        if let (Some(at), Some(position)) = (&mut self.at, position) {
            at.position = position;
        }
    }

    fn tell(&self, event: &'static str, told: Option<&impl serde::Serialize>) {
        if let Some(told) = told {
            let json = serde_json::to_string(told).expect("it was JSON before");
            self.event(Some(event), &json);
        }
    }
}

fn write_retry(out: &mut BytesMut, ms: u64) {
    let _ = write!(out, "retry: {ms}\n\n");
}

/// Returns the whole of a stream that only tells when to come back.
pub(super) fn come_back(ms: u64) -> Bytes {
    let mut out = BytesMut::new();
    write_retry(&mut out, ms);
    out.freeze()
}

/// Writes one event. A line of the format cannot hold the end of a line: a carriage return becomes a line feed.
fn write_event(out: &mut BytesMut, event: Option<&str>, id: Option<&EventId>, data: &str) {
    out.reserve(data.len() + 128);
    if let Some(event) = event {
        let _ = writeln!(out, "event: {event}");
    }
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
    for line in data.split(['\n', '\r']) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\n");
    }
    out.extend_from_slice(b"\n");
}

impl Stream for Events {
    type Item = Result<Frame, TransportError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.tube.poll_heard(cx).map(|heard| match heard {
            Heard::Pong(payload) => Some(Ok(Frame::Pong(payload))),
            // That is no answer to the close: the reader comes back by itself, whatever its user wants.
            Heard::ReadToEnd | Heard::Gone => None,
        })
    }
}

impl Sink<Frame> for Events {
    type Error = TransportError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.tube.poll_room(cx).map(|room| {
            let gone = || TransportError::new(TransportErrorKind::Broken, "the reader is gone");
            if room { Ok(()) } else { Err(gone()) }
        })
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), TransportError> {
        self.say(frame);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.tube.end();
        Poll::Ready(Ok(()))
    }
}
