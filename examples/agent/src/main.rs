//! The server; see the library beside it.

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use agent_app::{app, live};
use example_support::{log_to_stderr, place};
use lexopt::{Arg, Parser, ValueExt as _};
use session_resume_redb::RedbStore;

const USAGE: &str = "usage: agent [--listen ADDR] [--store PATH] [--beat MS]
  --listen  default 127.0.0.1:5008; port 0 picks one
  --store   where sessions are kept; default session-resume-agent/sessions.redb in the state folder
  --beat    how long the agent takes for a word, in milliseconds; default 60";

/// How long sessions get to come to a boundary when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Options {
    listen: String,
    store: PathBuf,
    beat: Duration,
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
            eprintln!("agent: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    log_to_stderr();
    match serve(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agent: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the options, or `None` if help is all that was asked for.
fn options(mut args: Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        listen: "127.0.0.1:5008".into(),
        store: place::default_file("agent", "sessions.redb"),
        beat: Duration::from_millis(60),
    };
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("listen") => options.listen = args.value()?.string()?,
            Arg::Long("store") => options.store = args.value()?.into(),
            Arg::Long("beat") => options.beat = Duration::from_millis(args.value()?.parse()?),
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(options))
}

async fn serve(Options { listen, store, beat }: Options) -> Result<(), Box<dyn Error>> {
    place::make_folder_of(&store)
        .map_err(|error| format!("folder of {}: {error}", store.display()))?;
    let resume = app::layer(RedbStore::open(&store)?);
    let listener = example_support::listen(&listen).await?;
    let address = listener.local_addr()?;
    let server = session_resume_axum::serve(
        listener,
        app::router(resume.clone(), live::pace(beat)),
        &resume,
    );
    println!("listening on http://{address}");
    let report = server.with_deadline(DRAIN).await?;
    eprintln!("agent: sessions drained: {}, cut: {}", report.drained, report.cut.len());
    Ok(())
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
        assert_eq!(defaults.listen, "127.0.0.1:5008");
        assert!(defaults.store.ends_with("session-resume-agent/sessions.redb"));
        let args = ["--listen", "[::]:80", "--store", "s.redb", "--beat", "5"];
        let given = parse(&args).unwrap().unwrap();
        assert_eq!((given.listen.as_str(), given.beat.as_millis()), ("[::]:80", 5));
        assert_eq!(given.store, PathBuf::from("s.redb"));
        assert!(parse(&["--help"]).unwrap().is_none());
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert!(parse(&["--port", "1"]).unwrap_err().contains("--port"));
        assert!(parse(&["--beat", "soon"]).unwrap_err().contains("soon"));
        assert!(parse(&["5008"]).unwrap_err().contains("5008"));
    }
}
