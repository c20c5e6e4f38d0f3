//! `/api/chat` and `/api/chat/{id}/stream`: what `useChat` of the AI SDK asks for, with a canned model of 50 chunks, one each 20 ms.
//!
//! Each chat is a session of its own.

use std::time::Duration;

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use session_resume::{
    LiveSession, Result, Session,
    adapter::{Body, Refusal, ResumeStart, UiStream},
    observe::From,
};

use crate::tally::{Asked, Tally};

const NAME: &str = "chat";
/// How many chunks of text an answer has, and how far apart they are.
const CHUNKS: u64 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// What `useChat` posts.
#[derive(Deserialize)]
struct Turn {
    id: String,
    #[serde(default)]
    messages: Vec<Value>,
}

impl Turn {
    fn read(text: &str) -> std::result::Result<Self, Refusal> {
        let expected = "expected {\"id\", \"messages\"}";
        serde_json::from_str(text).map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, expected))
    }

    /// The text of the last message.
    fn said(&self) -> String {
        let parts = self.messages.last().and_then(|last| last["parts"].as_array());
        let texts = parts.into_iter().flatten().filter_map(|part| part["text"].as_str());
        texts.collect()
    }
}

/// Answers a `POST /api/chat`.
pub(crate) async fn post(
    start: ResumeStart<Tally>,
) -> std::result::Result<UiStream<Tally>, Refusal> {
    let (identity, text) = (start.identity(), start.text()?);
    let turn = Turn::read(&text)?;
    let session = start.keyed(turn.id)?.named(NAME).start(assistant).await?;
    UiStream::post(&session, identity, text)
}

/// Answers a `GET /api/chat/{id}/stream`.
pub(crate) async fn present(
    start: ResumeStart<Tally>,
    id: String,
) -> std::result::Result<Response<Body>, Refusal> {
    Ok(UiStream::resume(start.keyed(id)?.named(NAME), assistant).await)
}

async fn assistant(mut session: LiveSession<Tally>) -> Result {
    // A process that was killed may have left an answer behind.
    if let Some(asked) = session.read(|tally| tally.asked.clone()) {
        if let Some(sent) = chunks_sent(&session) {
            go_on(&mut session, &asked, sent).await?;
        }
        session.update(|tally| tally.asked = None);
    }
    while let Some(message) = session.recv().await {
        let Some(turn) = message.as_text().and_then(|text| Turn::read(text).ok()) else {
            continue;
        };
        let asked = Asked { number: session.update(Tally::number), said: turn.said() };
        session.update(|tally| tally.asked = Some(asked.clone()));
        session.send_checkpoint(chunk(&asked, 0).to_string()).await?;
        // The message is handled: from now on each chunk leaves when it is on disk, and not with the last one.
        session.commit().await?;
        go_on(&mut session, &asked, 1).await?;
        session.update(|tally| tally.asked = None);
    }
    Ok(())
}

/// How many chunks of the answer that is under way were sent.
fn chunks_sent(session: &Session<Tally>) -> Option<u64> {
    let first = session.observe(From::Checkpoint).ok()?.cursor().position();
    let next = session.observe(From::Now).ok()?.cursor().position();
    Some(next - first)
}

/// Sends the rest of an answer.
async fn go_on(session: &mut LiveSession<Tally>, asked: &Asked, sent: u64) -> Result {
    for n in sent..CHUNKS + 4 {
        if (2..CHUNKS + 2).contains(&n) {
            tokio::time::sleep(PAUSE).await;
        }
        session.send_json(&chunk(asked, n)).await?;
    }
    session.clear_checkpoint();
    Ok(())
}

/// The chunk with this number. The first one of the text says what the user has said.
fn chunk(asked: &Asked, n: u64) -> Value {
    const LAST: u64 = CHUNKS + 3;
    match n {
        0 => json!({ "type": "start", "messageId": format!("m{}", asked.number) }),
        1 => json!({ "type": "text-start", "id": "t" }),
        2 => json!({ "type": "text-delta", "id": "t", "delta": format!("{}: ", asked.said) }),
        LAST => json!({ "type": "finish" }),
        _ if n + 1 == LAST => json!({ "type": "text-end", "id": "t" }),
        _ => json!({ "type": "text-delta", "id": "t", "delta": format!("{} ", n - 2) }),
    }
}
