//! What clients are told: `{"view":…}`, `{"word":…}`, `{"file":…}` and `{"error":…}`.

use serde_json::{Value, json};
use session_resume::{Message, SessionId, SessionOrigin};

use crate::{
    script::{FILES, question},
    state::{Agent, Beat, Step},
};

/// Everything that a client shows: a client that has this needs no earlier message.
pub fn view(agent: &Agent, session: SessionId, origin: SessionOrigin) -> Message {
    let asks = agent.step == Step::Ask;
    text(&json!({ "view": {
        "session": session,
        "origin": origin,
        "step": agent.step,
        "lines": agent.lines,
        "words": agent.words,
        "files": { "read": agent.files, "of": FILES.len() },
        "question": asks.then(|| json!({ "number": agent.words, "text": question() })),
    }}))
}

/// Makes the agent's next beat, and the message that tells it.
pub fn beat(agent: &mut Agent) -> Message {
    match agent.beat() {
        Beat::Word { n, text: word, begins } => {
            text(&json!({ "word": { "n": n, "text": word, "begins": begins } }))
        }
        Beat::File(line) => text(&json!({ "file": { "read": agent.files, "line": line } })),
    }
}

/// What is wrong with a command; nothing has changed.
pub fn error(wrong: &str) -> Message {
    text(&json!({ "error": wrong }))
}

fn text(json: &Value) -> Message {
    json.to_string().into()
}
