//! Socket.IO 5 over Engine.IO 4, WebSocket alone: the text of its packets, and how a client comes back.

use std::ops::Range;

use serde_json::Value;

use super::{Connection, Mode, push_frame};

/// A session that the server can recover, and the offset of the last event that its client has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recovery {
    session: String,
    /// Known to the server and this client alone.
    secret: String,
    offset: String,
}

/// Where the WebSocket of a case is opened.
pub(super) fn target(path: &str) -> String {
    format!("/socket.io/?EIO=4&transport=websocket&case={path}")
}

/// A message as a client sends it.
pub(super) fn event(payload: &[u8]) -> Vec<u8> {
    [br#"42["m",""#, payload, br#""]"#].concat()
}

impl Connection {
    /// Returns whether a packet is a message; answers what wants an answer.
    pub(super) fn take_packet(&mut self, packet: Range<usize>) -> bool {
        match &self.buffer[packet] {
            [b'4', b'2', event @ ..] => {
                if self.offset.is_none() {
                    self.offset = Some(offset(event));
                }
                return true;
            }
            // A ping of Engine.IO.
            [b'2'] => push_frame(&mut self.out, 1, b"3"),
            // The transport is open.
            [b'0', ..] => push_frame(&mut self.out, 1, connect(self.mode.recovery()).as_bytes()),
            [b'4', b'0', session @ ..] => {
                self.hello = Some(connected(session, self.mode.recovery()));
            }
            other => panic!("unexpected: {:?}", String::from_utf8_lossy(other)),
        }
        false
    }

    /// What a client presents when it comes back after the first event alone.
    pub(super) fn recovery(&self) -> Option<Recovery> {
        let hello = self.hello.as_ref()?;
        let [session, secret] = ["sid", "pid"].map(|name| hello[name].as_str().map(str::to_owned));
        Some(Recovery { session: session?, secret: secret?, offset: self.offset.clone()? })
    }
}

impl Mode {
    fn recovery(&self) -> Option<&Recovery> {
        let Self::SocketIo(recovery) = self else { return None };
        recovery.as_ref()
    }
}

/// Asks for a new session, or for the one that is to be recovered.
fn connect(recovery: Option<&Recovery>) -> String {
    let auth = recovery.map(|Recovery { secret, offset, .. }| {
        serde_json::json!({ "pid": secret, "offset": offset }).to_string()
    });
    format!("40{}", auth.unwrap_or_default())
}

/// What the server says of the session. A session that it could not recover would be a new one, and quick to
/// greet.
fn connected(hello: &[u8], recovery: Option<&Recovery>) -> Value {
    let hello: Value = serde_json::from_slice(hello).expect("JSON");
    if let Some(Recovery { session, secret, .. }) = recovery {
        let recovered = hello["sid"] == **session && hello["pid"] == **secret;
        assert!(recovered, "not the session that was: {hello}");
    }
    hello
}

/// What the server has put behind an event's arguments.
fn offset(event: &[u8]) -> String {
    let [_name, _payload, offset]: [String; 3] =
        serde_json::from_slice(event).expect("name, payload, offset");
    offset
}
