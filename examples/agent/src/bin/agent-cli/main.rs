//! A terminal on the agent: start it, watch it, answer it; stop this program and start it again whenever.

mod outcome;
mod profile;
mod transcript;

use std::{
    io::{self, BufRead as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use example_support::place;
use lexopt::{Arg, Parser, ValueExt as _};
use serde_json::json;
use session_resume_client::{Client, Event, OutcomeStatus};
use tokio::sync::mpsc;

use crate::{
    outcome::Outcome,
    profile::Profile,
    transcript::{Step, Transcript},
};

const USAGE: &str =
    "usage: agent-cli [--server HOST:PORT] [--profile PATH] [--mishap error|panic] [TASK]
  --server   default 127.0.0.1:5008
  --profile  who you are; default session-resume-agent/cli.json in the state folder
  --mishap   what shall go wrong with the task
  TASK       what the agent shall do; asked for if it is missing";

type Error = Box<dyn std::error::Error>;

#[derive(Debug)]
struct Options {
    server: String,
    profile: PathBuf,
    mishap: String,
    task: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match options(Parser::from_env()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("agent-cli: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let code = match run(options).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("agent-cli: {error}");
            ExitCode::FAILURE
        }
    };
    // The thread that reads standard input may wait for ever: the program does not wait for it.
    let _ = io::stdout().flush();
    code
}

/// Returns the options, or `None` if help is all that was asked for.
fn options(mut args: Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        server: "127.0.0.1:5008".into(),
        profile: place::default_file("agent", "cli.json"),
        mishap: "none".into(),
        task: None,
    };
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("server") => options.server = args.value()?.string()?,
            Arg::Long("profile") => options.profile = args.value()?.into(),
            Arg::Long("mishap") => options.mishap = args.value()?.string()?,
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Value(task) if options.task.is_none() => options.task = Some(task.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(options))
}

async fn run(options: Options) -> Result<ExitCode, Error> {
    let mut profile = Profile::load(&options.profile)?;
    if let Some(session) = &profile.session
        && let Some(last) = Outcome::poll(&options.server, session, &profile.cookies).await?
    {
        println!("The last run: {last}");
    }
    let mut builder = Client::builder(format!("ws://{}/live", options.server));
    if !profile.cookies.is_empty() {
        builder = builder.with_cookies(&profile.cookies);
    }
    let mut terminal = Terminal {
        client: builder.start()?,
        transcript: Transcript::default(),
        task: options.task,
        mishap: options.mishap,
        told: None,
    };
    let mut lines = lines();
    let mut listens = true;
    loop {
        tokio::select! {
            event = terminal.client.recv_event() => match event {
                Some(Event::Message(message)) => terminal.take(message.as_bytes())?,
                Some(Event::Open { session, status }) => {
                    note(&format!("{status:?} session {session}").to_lowercase());
                    if profile.session.as_deref() != Some(&session.to_string()) {
                        terminal.transcript = Transcript::default();
                    }
                    profile.remember(&session, terminal.client.cookies());
                    profile.save(&options.profile)?;
                }
                Some(Event::Waiting { cause, .. }) => note(&format!("{cause}; trying again")),
                Some(Event::Done { status, .. }) => {
                    note("the session has ended");
                    let session = profile.session.clone().unwrap_or_default();
                    match Outcome::poll(&options.server, &session, &profile.cookies).await? {
                        Some(outcome) => println!("The result: {outcome}"),
                        None => println!("The result: {status:?}"),
                    }
                    let done = status == OutcomeStatus::Done;
                    return Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE });
                }
                Some(Event::InDoubt(messages)) => {
                    note(&format!("{} of your answers may be lost", messages.len()));
                }
                Some(Event::Superseded) => return Err("another terminal has taken over".into()),
                Some(Event::Refused { cause } | Event::Failed { cause }) => return Err(cause.to_string().into()),
                Some(_) => {}
                None => return Err("the client has ended".into()),
            },
            // What is typed ahead waits until it is the user's turn.
            line = lines.recv(), if listens && terminal.is_users_turn() => match line {
                Some(line) => terminal.read(&line)?,
                // No answer can come any more, but the agent may go on and finish.
                None => listens = false,
            },
        }
        if !listens && terminal.is_users_turn() {
            note("nobody is there to answer; come back any time");
            let session = profile.session.clone().unwrap_or_default();
            println!("Session {session} goes on.");
            // What was typed before must arrive.
            terminal.client.close().await?;
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Reads standard input, on a thread: there is no other way that works for pipes and terminals alike.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// One user at one agent.
struct Terminal {
    client: Client,
    transcript: Transcript,
    /// Not sent yet.
    task: Option<String>,
    mishap: String,
    /// What was prompted for last, with the number of words then: a question is asked once.
    told: Option<(Step, u64)>,
}

impl Terminal {
    /// Shows what the server says, and asks the user if it is their turn.
    fn take(&mut self, json: &[u8]) -> Result<(), Error> {
        print!("{}", self.transcript.take(json)?);
        let now = (self.transcript.step(), self.transcript.words());
        if self.told != Some(now) {
            match self.transcript.step() {
                Step::Idle => match self.task.take() {
                    Some(task) => self.start(&task)?,
                    None => println!("What shall the agent do?"),
                },
                Step::Ask => {
                    println!("\n? {} [y/n]", self.transcript.question());
                }
                Step::Busy => {}
            }
            self.told = Some(now);
        }
        io::stdout().flush()?;
        Ok(())
    }

    /// Does what the user has typed.
    fn read(&mut self, line: &str) -> Result<(), Error> {
        match (self.transcript.step(), line.trim()) {
            (Step::Busy, _) | (_, "") => {}
            (Step::Idle, task) => self.start(task)?,
            (Step::Ask, "y" | "yes") => self.answer(true)?,
            (Step::Ask, "n" | "no") => self.answer(false)?,
            (Step::Ask, _) => println!("y or n?"),
        }
        Ok(())
    }

    fn start(&mut self, task: &str) -> Result<(), Error> {
        let task = json!({ "task": { "text": task, "mishap": self.mishap } });
        self.transcript.wait();
        Ok(self.client.try_send(task.to_string())?)
    }

    fn answer(&mut self, approve: bool) -> Result<(), Error> {
        let answer =
            json!({ "answer": { "question": self.transcript.words(), "approve": approve } });
        self.transcript.wait();
        Ok(self.client.try_send(answer.to_string())?)
    }

    fn is_users_turn(&self) -> bool {
        self.transcript.step() != Step::Busy
    }
}

/// Tells of the connection; on standard error, so that what the agent says can be piped.
fn note(text: &str) {
    eprintln!("[{text}]");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Options>, String> {
        options(Parser::from_args(args)).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_the_defaults_or_what_was_asked_for() {
        let defaults = parse(&[]).unwrap().unwrap();
        assert_eq!((defaults.server.as_str(), defaults.task), ("127.0.0.1:5008", None));
        let given = parse(&["--server", "h:1", "count", "--mishap", "panic"]).unwrap().unwrap();
        assert_eq!((given.server.as_str(), given.task.as_deref()), ("h:1", Some("count")));
        assert_eq!(given.mishap, "panic");
        assert!(parse(&["one", "two"]).unwrap_err().contains("two"));
    }
}
