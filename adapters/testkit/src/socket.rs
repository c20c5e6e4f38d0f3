use std::{fmt, io};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderMap;
use serde_json::Value;
use session_resume_client::Message;
use session_resume_proto::wire::Close;
use tokio_tungstenite::{WebSocketStream, tungstenite};

use crate::{line::End, soon, verbs::verbs, wire::Wire};

/// A plain WebSocket, of which nothing is ours: a stock stack. It does not come back by itself.
///
/// [`Browser::resumable`](crate::Browser::resumable) opens one that offers `session-resume.v1`. Then
/// [`control`](Self::control), [`member`](Self::member) and [`data`](Self::data) speak that protocol by hand.
pub struct Socket {
    stream: WebSocketStream<End>,
    headers: HeaderMap,
    wire: Wire,
}

/// What comes on a WebSocket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Received {
    /// A data message.
    Message(Message),
    /// The server closes.
    Close(Close),
    /// The connection is gone.
    Gone,
}

impl Socket {
    pub(crate) fn new(stream: WebSocketStream<End>, headers: HeaderMap, wire: Wire) -> Self {
        Self { stream, headers, wire }
    }

    /// Returns the headers of the answer that opened it, such as the subprotocol.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Sends a message.
    ///
    /// # Panics
    ///
    /// Panics if the connection is gone.
    pub async fn send(&mut self, message: impl Into<Message>) {
        self.try_send(message).await.expect("the connection is there");
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// Returns why the connection is gone.
    pub async fn try_send(&mut self, message: impl Into<Message>) -> io::Result<()> {
        let message = match message.into() {
            Message::Text(text) => tungstenite::Message::text(&*text),
            Message::Binary(bytes) => tungstenite::Message::binary(bytes),
        };
        soon("a send", self.stream.send(message)).await.map_err(io::Error::other)
    }

    /// Returns what comes next; pings are answered.
    ///
    /// # Panics
    ///
    /// Panics if nothing comes for two minutes.
    pub async fn next(&mut self) -> Received {
        soon("a message or an end", self.next_frame()).await
    }

    /// Waits for ever, if it must: its callers do not.
    async fn next_frame(&mut self) -> Received {
        loop {
            return match self.stream.next().await {
                Some(Ok(tungstenite::Message::Text(text))) => {
                    Received::Message(text.as_str().into())
                }
                Some(Ok(tungstenite::Message::Binary(bytes))) => Received::Message(bytes.into()),
                Some(Ok(tungstenite::Message::Close(close))) => {
                    // The stack has its answer ready, and sends it with the next thing it does.
                    let _ = self.stream.flush().await;
                    Received::Close(match close {
                        Some(close) => {
                            Close::new(close.code.into(), close.reason.as_str().to_owned())
                        }
                        // RFC 6455 §7.4.1: no status code present.
                        None => Close::new(1005, ""),
                    })
                }
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => Received::Gone,
            };
        }
    }

    /// Returns the next message, which is text.
    ///
    /// # Panics
    ///
    /// Panics if something else comes, or nothing for two minutes.
    pub async fn recv(&mut self) -> String {
        match self.next().await {
            Received::Message(Message::Text(text)) => text.into(),
            other => panic!("expected text, got {other:?}"),
        }
    }

    /// Returns code and reason of the close; what comes before it is passed over.
    ///
    /// # Panics
    ///
    /// Panics if the connection breaks without one, or if none comes for two minutes.
    pub async fn closed(&mut self) -> Close {
        self.first("a close", |received| match received {
            Received::Message(_) => Ok(None),
            Received::Close(close) => Ok(Some(close)),
            Received::Gone => Err(Received::Gone),
        })
        .await
    }

    /// Sends a control frame of `session-resume.v1`, such as `{"ack":3}`.
    ///
    /// # Panics
    ///
    /// Panics if the connection is gone.
    pub async fn control(&mut self, json: &str) {
        self.send(format!("\u{1}{json}")).await;
    }

    /// Returns this member of the next control frame of `session-resume.v1` that has it.
    ///
    /// # Panics
    ///
    /// Panics if data comes first, or nothing for two minutes.
    pub async fn member(&mut self, name: &str) -> Value {
        self.first(name, |received| match control_of(&received) {
            Some(mut control) => Ok(Some(control[name].take()).filter(|value| !value.is_null())),
            None => Err(received),
        })
        .await
    }

    /// Returns the next data text of `session-resume.v1`; control frames are passed over.
    ///
    /// # Panics
    ///
    /// Panics if something else comes, or nothing for two minutes.
    pub async fn data(&mut self) -> String {
        self.first("a data text", |received| match received {
            received if control_of(&received).is_some() => Ok(None),
            Received::Message(Message::Text(text)) => {
                // Data that begins with the mark of control frames has it twice.
                let escaped = text.strip_prefix('\u{1}').map(str::to_owned);
                Ok(Some(escaped.unwrap_or_else(|| text.into())))
            }
            other => Err(other),
        })
        .await
    }

    /// Returns the next binary message; control frames of `session-resume.v1` are passed over.
    ///
    /// # Panics
    ///
    /// Panics if something else comes, or nothing for two minutes.
    pub async fn binary(&mut self) -> Bytes {
        self.first("a binary message", |received| match received {
            Received::Message(Message::Binary(bytes)) => Ok(Some(bytes)),
            received if control_of(&received).is_some() => Ok(None),
            other => Err(other),
        })
        .await
    }

    /// Returns what follows `at.` in an offer of `client` that goes on in the session of `hello` after `received`
    /// messages.
    pub fn cursor(client: &str, hello: &Value, received: u64) -> String {
        let text = |name: &str| hello[name].as_str().unwrap_or_default().to_owned();
        format!("{client}.{}.{}.{received}.{}", text("session"), text("epoch"), hello["attachment"])
    }

    /// Waits for the first that is picked. All together takes no longer than one wait: heartbeats come for ever.
    async fn first<R>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(Received) -> Result<Option<R>, Received>,
    ) -> R {
        soon(what, async {
            loop {
                match pick(self.next_frame().await) {
                    Ok(Some(picked)) => return picked,
                    Ok(None) => {}
                    Err(other) => panic!("expected {what}, got {other:?}"),
                }
            }
        })
        .await
    }

    verbs!();
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

/// A control frame of `session-resume.v1`.
fn control_of(received: &Received) -> Option<Value> {
    let Received::Message(Message::Text(text)) = received else { return None };
    let json = text.strip_prefix('\u{1}').filter(|json| json.starts_with('{'))?;
    serde_json::from_str(json).ok()
}
