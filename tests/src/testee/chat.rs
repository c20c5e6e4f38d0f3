//! `/api/chat` and `/api/chat/{id}/stream`: what `useChat` of the AI SDK asks for, with a canned model of 50 chunks, one each 20 ms.
//!
//! Each chat is a session of its own.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use session_resume::{
    LiveSession, Result,
    adapter::{Refusal, ResumeStart, UiStream},
};

use crate::tally::Tally;

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

async fn assistant(mut session: LiveSession<Tally>) -> Result {
    while let Some(message) = session.recv().await {
        let Some(turn) = message.as_text().and_then(|text| Turn::read(text).ok()) else {
            continue;
        };
        answer(&mut session, &turn.said()).await?;
    }
    Ok(())
}

/// The first chunk says what the user has said.
async fn answer(session: &mut LiveSession<Tally>, said: &str) -> Result {
    let number = session.update(Tally::number);
    let start = json!({ "type": "start", "messageId": format!("m{number}") });
    session.send_checkpoint(start.to_string()).await?;
    // The message is handled: from now on each chunk leaves when it is on disk, and not with the last one.
    session.commit().await?;
    session.send_json(&json!({ "type": "text-start", "id": "t" })).await?;
    for n in 0..CHUNKS {
        tokio::time::sleep(PAUSE).await;
        let delta = if n == 0 { format!("{said}: ") } else { format!("{n} ") };
        let chunk = json!({ "type": "text-delta", "id": "t", "delta": delta });
        session.send_json(&chunk).await?;
    }
    session.send_json(&json!({ "type": "text-end", "id": "t" })).await?;
    session.send_json(&json!({ "type": "finish" })).await?;
    session.clear_checkpoint();
    Ok(())
}
