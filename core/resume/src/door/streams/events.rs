//! A stream of events: what there is, then what comes, for a minute.

use std::{future::poll_fn, time::Duration};

use bytes::{BufMut as _, BytesMut};
use data_encoding::BASE64;
use serde::Serialize;
use session_resume_proto::Position;
use tokio::time::{Instant, timeout_at};

use super::{
    cursor,
    form::{Chunk, Door},
    news::{News, Waited},
};
use crate::{
    door::http::{
        Body,
        tube::{Heard, Writer, tube},
    },
    live::session::Mark,
};

/// A stream ends after this time, and its reader comes back.
const LONGEST: Duration = Duration::from_secs(60);

/// A stream of events and its reader.
pub(super) struct Events<T: Send + 'static> {
    pub(super) door: Door,
    /// The last cursor that the reader was given.
    pub(super) cursor: Option<u64>,
    /// Where more comes from; `None`: the session has ended, and this is all.
    pub(super) more: Option<News<T>>,
}

/// What follows each event with data.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Control {
    stream_next_offset: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_cursor: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    up_to_date: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream_closed: bool,
}

impl<T: Send + 'static> Events<T> {
    /// Starts the stream with what was read first.
    pub(super) fn start(self, mark: Mark, first: &Chunk) -> Body {
        let (writer, reader) = tube("");
        self.write(&writer, mark, first);
        if !first.has_ended {
            // Ends with its reader, with its session, and after a minute.
            let (next, caught_up) = (first.next, first.is_up_to_date);
            tokio::spawn(async move { self.follow(&writer, next, caught_up, mark).await });
        }
        Body::stream(reader)
    }

    async fn follow(mut self, writer: &Writer, mut next: Position, caught_up: bool, mark: Mark) {
        let Some(mut news) = self.more.take() else {
            return;
        };
        let until = Instant::now() + LONGEST;
        let mut waits = caught_up;
        loop {
            if waits {
                let gone = poll_fn(|cx| writer.poll_heard(cx));
                tokio::select! {
                    waited = news.wait(until) => if waited == Waited::Enough { return },
                    Heard::Gone = gone => return,
                }
            }
            let has_room = poll_fn(|cx| writer.poll_room(cx));
            if !matches!(timeout_at(until, has_room).await, Ok(true)) {
                return;
            }
            news.skip_what_is_there();
            // What is gone meanwhile, the reader is told when it comes back.
            let (_, Ok(reading)) = news.session().read(mark.place(next), Door::ROOM) else {
                return;
            };
            let chunk = self.door.chunk(reading);
            (next, waits) = (chunk.next, chunk.is_up_to_date);
            if chunk.has_some || chunk.has_ended {
                self.write(writer, mark, &chunk);
            }
            if chunk.has_ended {
                return;
            }
        }
    }

    fn write(&self, writer: &Writer, mark: Mark, chunk: &Chunk) {
        let cursor = (!chunk.has_ended).then(|| cursor::now(self.cursor).to_string());
        let control = Control {
            stream_next_offset: mark.offset(chunk.next).to_string(),
            stream_cursor: cursor,
            up_to_date: chunk.is_up_to_date,
            stream_closed: chunk.has_ended,
        };
        let control = serde_json::to_string(&control).expect("texts and flags are JSON");
        writer.write(|out| {
            if chunk.has_some {
                out.extend_from_slice(b"event: data\n");
                if self.door.is_encoded() {
                    write_lines(out, BASE64.encode(&chunk.bytes).as_bytes());
                } else {
                    write_lines(out, &chunk.bytes);
                }
                out.put_u8(b'\n');
            }
            out.extend_from_slice(b"event: control\ndata:");
            out.extend_from_slice(control.as_bytes());
            out.extend_from_slice(b"\n\n");
        });
    }
}

/// A line of the format cannot hold the end of a line, whichever: all become line feeds.
fn write_lines(out: &mut BytesMut, mut text: &[u8]) {
    out.reserve(text.len() + 16);
    loop {
        let end = memchr::memchr2(b'\n', b'\r', text);
        let (line, rest) = text.split_at(end.unwrap_or(text.len()));
        out.extend_from_slice(b"data:");
        if line.starts_with(b" ") {
            // One is taken away by the reader.
            out.put_u8(b' ');
        }
        out.extend_from_slice(line);
        out.put_u8(b'\n');
        text = match rest {
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
            [] => return,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_more_than_its_lines() {
        for (text, lines) in [
            ("", "data:\n"),
            ("one", "data:one\n"),
            (" one", "data:  one\n"),
            ("a\nb\rc\r\nd", "data:a\ndata:b\ndata:c\ndata:d\n"),
            ("a\n", "data:a\ndata:\n"),
            ("\r\n\r\nevent: control", "data:\ndata:\ndata:event: control\n"),
            ("\n\r", "data:\ndata:\ndata:\n"),
        ] {
            let mut out = BytesMut::new();
            write_lines(&mut out, text.as_bytes());
            assert_eq!(out, lines, "{text:?}");
        }
    }
}
