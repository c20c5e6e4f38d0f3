//! The server; see the library beside it.

use std::{error::Error, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use example_support::{log_to_stderr, place};
use lexopt::{Arg, Parser, ValueExt as _};
use session_resume_redb::RedbStore;
use text_app::{app, text::Text};

const USAGE: &str = "usage: text [--listen ADDR] [--folder PATH]
  --listen  default 127.0.0.1:5009; port 0 picks one
  --folder  where the text and the sessions are kept; default session-resume-text in the state folder";

/// How long sessions get to come to a boundary when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Options {
    listen: String,
    sessions: PathBuf,
    text: PathBuf,
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
            eprintln!("text: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    log_to_stderr();
    match serve(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("text: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the options, or `None` if help is all that was asked for.
fn options(mut args: Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        listen: "127.0.0.1:5009".into(),
        sessions: place::default_file("text", "sessions.redb"),
        text: place::default_file("text", "text.redb"),
    };
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("listen") => options.listen = args.value()?.string()?,
            Arg::Long("folder") => {
                let folder = PathBuf::from(args.value()?);
                options.sessions = folder.join("sessions.redb");
                options.text = folder.join("text.redb");
            }
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(options))
}

async fn serve(Options { listen, sessions, text }: Options) -> Result<(), Box<dyn Error>> {
    place::make_folder_of(&text)
        .map_err(|error| format!("folder of {}: {error}", text.display()))?;
    // It says if another server has the folder.
    let resume = app::layer(RedbStore::open(&sessions)?);
    let text = Text::open(&text).map_err(|error| format!("{}: {error}", text.display()))?;
    let listener = example_support::listen(&listen).await?;
    let address = listener.local_addr()?;
    let router = app::router(resume.clone(), Arc::new(text));
    let server = session_resume_axum::serve(listener, router, &resume);
    println!("listening on http://{address}");
    let report = server.with_deadline(DRAIN).await?;
    eprintln!("text: sessions drained: {}, cut: {}", report.drained, report.cut.len());
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
        assert_eq!(defaults.listen, "127.0.0.1:5009");
        assert!(defaults.text.ends_with("session-resume-text/text.redb"));
        let given = parse(&["--listen", "[::]:80", "--folder", "here"]).unwrap().unwrap();
        assert_eq!(given.listen, "[::]:80");
        assert_eq!(given.sessions, PathBuf::from("here/sessions.redb"));
        assert_eq!(given.text, PathBuf::from("here/text.redb"));
        assert!(parse(&["--help"]).unwrap().is_none());
        assert!(parse(&["--port", "1"]).unwrap_err().contains("--port"));
    }
}
