//! The handler: runs once per session, whatever becomes of its sockets.

use std::time::Duration;

use session_resume::{Event, LiveSession, Message, Result, Resumed};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    state::{Command, Dashboard},
    view::{self, Who},
};

/// Obeys the page's commands and sends the live value, until the session is over.
pub(crate) async fn run(mut session: LiveSession<Dashboard>, tick: Duration) -> Result {
    let who = Who::of(&session);
    let mut clock = interval(tick);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        // In this order, so that a page has its view before its first tick. The clock beside `recv_event`, not
        // in a task of the session's: a ticker alone must not keep an abandoned session for ever.
        tokio::select! {
            biased;
            event = session.recv_event() => match event {
                None => return Ok(()),
                Some(Event::Message { message, .. }) => {
                    session.send_with(|dashboard| answer(dashboard, &message, &who)).await?;
                }
                // A page that resumes has all it needs. Plain WebSockets cannot tell a page that lost its socket
                // from one that was loaded anew, so they are shown everything again.
                Some(Event::Attached { resumed: Resumed::Fresh | Resumed::Assumed, .. }) => {
                    session.send_with(|dashboard| view::view(dashboard, &who)).await?;
                }
                Some(_) => {}
            },
            _ = clock.tick() => {
                let away = session.info().transports == 0;
                session.send_with(|dashboard| view::tick(dashboard.next_tick(), away)).await?;
            }
        }
    }
}

/// Does what the message says: the new view, or what is wrong with it.
///
/// One command, one answer: the page counts on it.
fn answer(dashboard: &mut Dashboard, message: &Message, who: &Who) -> Message {
    let done = Command::parse(message.as_bytes()).and_then(|command| dashboard.obey(command));
    match done {
        Ok(()) => view::view(dashboard, who),
        Err(wrong) => view::error(&wrong),
    }
}
