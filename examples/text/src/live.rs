//! The handler: the protocol of y-websocket, once per session.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use session_resume::{LiveSession, Message, Outgoing, Result};
use tokio::{sync::broadcast::error::RecvError, task::spawn_blocking};
use yrs::{
    sync::{Message as Said, SyncMessage as Sync},
    updates::{decoder::Decode as _, encoder::Encode as _},
};

use crate::text::{Refused, Text};

/// How long what a page says of itself is worth sending. Pages say it every 15 s, and forget what others said after 30 s.
const WORTH: Duration = Duration::from_secs(30);
/// The longest that a page may say of itself, in bytes.
const MAX_SEEN: usize = 4 << 10;
/// y-websocket does not come back after these.
const MALFORMED: u16 = 4400;
const FULL: u16 = 4413;

/// What a session remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Reader {
    /// The number of the next update that its page is told. `None` until the page has asked.
    told: Option<u64>,
}

/// Goes on wherever the state says, to the end of the session.
///
/// An update of the page's is in the file before the next message is taken, so one that is not is handled again after a
/// kill. That an update is told is in the state, and the message that tells it is stored with it.
///
/// # Errors
///
/// Fails if the document cannot be written, or if the session ends while it sends.
pub async fn run(mut session: LiveSession<Reader>, text: Arc<Text>) -> Result {
    let mut head = text.head();
    let mut seen = text.seen();
    loop {
        while let Some(told) = session.read(|reader| reader.told)
            && let Some((update, next)) = text.since(told)?
        {
            let message = message(&Said::Sync(Sync::Update(update)));
            session.send_with(|reader| (reader.told = Some(next), message).1).await?;
        }
        tokio::select! {
            message = session.recv() => match message {
                Some(message) => hear(&session, &message, &text).await?,
                None => return Ok(()),
            },
            changed = head.changed() => changed?,
            words = seen.recv() => match words {
                // To a page that is away for long it is worth nothing.
                Ok(words) => drop(session.try_send(Outgoing::new(words).with_time_to_live(WORTH))),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}

async fn hear(session: &LiveSession<Reader>, message: &Message, text: &Arc<Text>) -> Result {
    let refused = match Said::decode_v1(message.as_bytes()) {
        Ok(Said::Sync(Sync::SyncStep1(has))) => return answer(session, text, &has).await,
        Ok(Said::Sync(Sync::SyncStep2(update) | Sync::Update(update))) => {
            let text = Arc::clone(text);
            spawn_blocking(move || text.apply(&update)).await?
        }
        Ok(Said::Awareness(_)) => {
            if message.len() <= MAX_SEEN {
                text.show(message.as_bytes().to_vec());
            }
            Ok(())
        }
        // Of these there are none here.
        Ok(Said::AwarenessQuery | Said::Auth(_) | Said::Custom(..)) => Ok(()),
        Err(_) => Err(Refused::Malformed),
    };
    match refused {
        Ok(()) => {}
        Err(refused @ Refused::Malformed) => session.close_with(MALFORMED, refused.to_string())?,
        Err(refused @ Refused::Full) => session.close_with(FULL, refused.to_string())?,
        Err(refused @ Refused::Disk(_)) => return Err(refused.into()),
    }
    Ok(())
}

/// Tells a page what it lacks, and asks for what it has more.
async fn answer(session: &LiveSession<Reader>, text: &Text, has: &yrs::StateVector) -> Result {
    let answer = text.answer(has)?;
    let lacks = message(&Said::Sync(Sync::SyncStep2(answer.update)));
    session.send_with(|reader| (reader.told = Some(answer.head), lacks).1).await?;
    session.send(message(&Said::Sync(Sync::SyncStep1(answer.has)))).await?;
    Ok(())
}

fn message(said: &Said) -> Message {
    Message::binary(said.encode_v1())
}
