//! The handler: one plain thread per session, whatever becomes of its sockets.

use std::{sync::Arc, thread, time::Duration};

use session_resume::{BlockingSession, Message, Result};

use crate::{
    script::{Mishap, Report},
    state::{Agent, Command, Step},
    view,
};

/// What the agent does between two beats (a word, a file): sleep, here; a test may hold it up.
pub type Pause = Arc<dyn Fn(Step) + Send + Sync>;

/// Makes a pause of `beat` before each word; a file takes ten times as long.
pub fn pace(beat: Duration) -> Pause {
    Arc::new(move |step| thread::sleep(if step == Step::Work { beat * 10 } else { beat }))
}

/// Runs the agent from wherever its state says it is, to its end.
///
/// When the process has died, this starts anew with nothing but the state: so there is no progress in local
/// variables, and the script is a state machine over [`Agent`]. Each beat changes the state and sends what it
/// has to say as one step, so that a snapshot never has one without the other.
///
/// # Errors
///
/// Fails if the agent's tool does, if the session ends while it runs, or if the store does not take a step.
pub fn run(mut session: BlockingSession<Agent>, pause: &Pause) -> Result<Report> {
    let (id, origin) = (session.id(), session.origin());
    loop {
        // A page that comes fresh starts with this, then gets what was said since.
        session.send_checkpoint(session.read(|agent| view::view(agent, id, origin)))?;
        let step = session.read(|agent| agent.step);
        match step {
            Step::Idle | Step::Ask => listen(&mut session)?,
            Step::Think | Step::Plan | Step::Work | Step::Report => {
                // Without a guard, work that no client watches would be cut off after `limits.max_unattended`.
                let _guard = session.block_expiration(step.why());
                while session.read(|agent| agent.step) == step {
                    pause(step);
                    if let Ok(message) = session.try_urgent() {
                        obey(&session, &message)?;
                        continue;
                    }
                    go_wrong(&session)?;
                    session.send_with(view::beat)?;
                }
            }
            Step::Done => return Ok(session.read(Agent::report)),
        }
        // A step begins only when the one before is on disk: what was approved stays approved, and the message
        // that approved it is never handled again.
        session.commit()?;
    }
}

/// Waits, for hours if need be, for a command that the agent can obey now.
fn listen(session: &mut BlockingSession<Agent>) -> Result {
    while let Some(message) = session.recv() {
        if obey(session, &message)? {
            return Ok(());
        }
    }
    // Stored or drained: the agent goes on in another thread, if a client comes back. No client is told this error.
    Err("the session is over".into())
}

/// Obeys a command, or says what is wrong with it; returns whether the agent goes on.
fn obey(session: &BlockingSession<Agent>, message: &Message) -> Result<bool> {
    let command = Command::parse(message.as_bytes());
    match command.and_then(|command| session.update(|agent| agent.obey(command))) {
        Ok(()) => Ok(true),
        Err(wrong) => {
            session.send(view::error(&wrong))?;
            Ok(false)
        }
    }
}

/// Whether a message is for an agent that works, and does not wait until it listens.
pub fn is_urgent(message: &Message) -> bool {
    matches!(Command::parse(message.as_bytes()), Ok(Command::Stop))
}

/// Goes wrong at work, if that is what was asked for.
fn go_wrong(session: &BlockingSession<Agent>) -> Result {
    let (mishap, file) = session.read(|agent| (agent.due_mishap(), agent.next_file()));
    match mishap {
        Mishap::None => Ok(()),
        Mishap::Error => Err(format!("{file}: permission denied").into()),
        Mishap::Panic => panic!("{file}: the agent has lost its thread"),
    }
}
