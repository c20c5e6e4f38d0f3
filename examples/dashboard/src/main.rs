//! A dashboard whose selection and plot live on the server: the socket may drop, the page may reload, and it
//! is all still there.
//!
//! The parts in reading order: `app` (routes and the layer), `live` (the handler, once per session), `state`
//! (what a session remembers, and the commands that change it), `view` (what the page is told), `page`,
//! `plot` and `series` (what there is to see).

mod app;
mod live;
mod page;
mod plot;
mod series;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod view;

use std::{error::Error, ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use example_support::{log_to_stderr, place};
use lexopt::{Arg, Parser, ValueExt as _};
use session_resume::SessionResume;
use session_resume_redb::RedbStore;
use session_resume_redis::RedisStore;

use crate::state::Dashboard;

const USAGE: &str =
    "usage: dashboard [--listen ADDR] [--store PATH | --store redis://HOST:PORT | --memory] [--monitor]
  --listen  default 127.0.0.1:5007; port 0 picks one. A listener that systemd hands over goes first
  --store   where sessions are kept, in a file or on a Redis server; default
            session-resume-dashboard/sessions.redb in the state folder
  --memory  keeps sessions in memory alone: they end with the server
  --monitor shows all sessions at /monitor to browsers of this machine; for a loopback address alone";

/// How long sessions get to finish the command in hand when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a session is kept that no browser comes back to.
const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How often the live value changes.
const TICK: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Options {
    listen: String,
    store: Store,
    monitor: bool,
}

/// Where sessions are kept.
#[derive(Debug, PartialEq, Eq)]
enum Store {
    /// They end with the server.
    Memory,
    File(PathBuf),
    /// On the server at this URL.
    Redis(Url),
}

/// A URL that may have a password in it.
#[derive(PartialEq, Eq)]
struct Url(String);

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Url(..)")
    }
}

impl Store {
    fn new(value: OsString) -> Self {
        match value.into_string() {
            Ok(text) if text.starts_with("redis://") => Self::Redis(Url(text)),
            Ok(text) => Self::File(text.into()),
            Err(path) => Self::File(path.into()),
        }
    }
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
            eprintln!("dashboard: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    log_to_stderr();
    match serve(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dashboard: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the options, or `None` if help is all that was asked for.
fn options(mut args: Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        listen: "127.0.0.1:5007".into(),
        store: Store::File(place::default_file("dashboard", "sessions.redb")),
        monitor: false,
    };
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("listen") => options.listen = args.value()?.string()?,
            Arg::Long("store") => options.store = Store::new(args.value()?),
            Arg::Long("monitor") => options.monitor = true,
            Arg::Long("memory") => options.store = Store::Memory,
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(options))
}

/// Makes the layer: with a file or an engine, sessions outlive the server.
async fn layer(store: Store) -> Result<SessionResume<Dashboard>, Box<dyn Error>> {
    let resume = SessionResume::new().with_state::<Dashboard>();
    Ok(match store {
        Store::Memory => resume,
        Store::File(path) => {
            place::make_folder_of(&path)
                .map_err(|error| format!("folder of {}: {error}", path.display()))?;
            resume.with_stored_lifetime(KEPT).with_store(RedbStore::open(path)?)
        }
        Store::Redis(Url(url)) => {
            resume.with_stored_lifetime(KEPT).with_store(RedisStore::connect(url).await?)
        }
    })
}

async fn serve(Options { listen, store, monitor }: Options) -> Result<(), Box<dyn Error>> {
    let resume = layer(store).await?;
    let listener = example_support::listen(&listen).await?;
    let address = listener.local_addr()?;
    let mut app = app::router(resume.clone(), TICK);
    if monitor {
        if !address.ip().is_loopback() {
            return Err(format!("--monitor: {address} is not a loopback address").into());
        }
        app = app::with_monitor(app, &resume);
    }
    let server = session_resume_axum::serve(listener, app, &resume);
    println!("listening on http://{address}");
    let report = server.with_deadline(DRAIN).await?;
    eprintln!("dashboard: sessions drained: {}, cut: {}", report.drained, report.cut.len());
    Ok(())
}

#[cfg(test)]
mod arguments {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Options>, String> {
        options(Parser::from_args(args)).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_the_defaults_or_what_was_asked_for() {
        let defaults = parse(&[]).unwrap().unwrap();
        assert_eq!(defaults.listen, "127.0.0.1:5007");
        let Store::File(path) = defaults.store else { panic!("not a file") };
        assert!(path.ends_with("session-resume-dashboard/sessions.redb"));
        let given = parse(&["--listen", "[::]:80", "--store", "s.redb"]).unwrap().unwrap();
        assert_eq!((given.listen.as_str(), given.store), ("[::]:80", Store::File("s.redb".into())));
        let given = parse(&["--store", "redis://:hunter2@redis"]).unwrap().unwrap();
        assert!(!format!("{given:?}").contains("hunter2"));
        assert_eq!(given.store, Store::Redis(Url("redis://:hunter2@redis".into())));
        assert_eq!(parse(&["--memory"]).unwrap().unwrap().store, Store::Memory);
        assert!(!defaults.monitor && parse(&["--monitor"]).unwrap().unwrap().monitor);
        assert!(parse(&["--help"]).unwrap().is_none());
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert!(parse(&["--port", "1"]).unwrap_err().contains("--port"));
        assert!(parse(&["--listen"]).unwrap_err().contains("--listen"));
        assert!(parse(&["5007"]).unwrap_err().contains("5007"));
    }
}
