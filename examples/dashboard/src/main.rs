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
mod view;

use std::{error::Error, process::ExitCode, time::Duration};

use lexopt::{Arg, Parser, ValueExt as _};
use session_resume::SessionResume;
use tokio::net::TcpListener;

use crate::state::Dashboard;

const USAGE: &str =
    "usage: dashboard [--listen ADDR]    (default 127.0.0.1:5007; port 0 picks one)";

/// How long sessions get to finish the command in hand when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How often the live value changes.
const TICK: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> ExitCode {
    let listen = match listen_address(Parser::from_env()) {
        Ok(Some(listen)) => listen,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("dashboard: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match serve(&listen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dashboard: {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the address, or `None` if help is all that was asked for.
fn listen_address(mut args: Parser) -> Result<Option<String>, lexopt::Error> {
    let mut listen = String::from("127.0.0.1:5007");
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("listen") => listen = args.value()?.string()?,
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(listen))
}

async fn serve(listen: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(listen).await?;
    let stop = stop_signal()?;
    println!("listening on http://{}", listener.local_addr()?);
    let resume = SessionResume::new().with_state::<Dashboard>();
    // A flushed message leaves at once: with Nagle's algorithm it may wait for a delayed ACK of the one before.
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        let _ = stream.set_nodelay(true);
    });
    let server = axum::serve(listener, app::router(resume.clone(), TICK));
    let drained = async {
        stop.await;
        resume.drain(DRAIN).await
    };
    // Not axum's graceful shutdown, which waits for every connection that a visitor holds open: requests are
    // served until all WebSockets are closed, and that is the end.
    tokio::select! {
        result = server => result?,
        report = drained => eprintln!("dashboard: {} sessions drained, {} cut", report.drained, report.cut.len()),
    }
    Ok(())
}

/// Returns a future that ends with ctrl-c or, where there is such a thing, `SIGTERM`.
#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    // Both are taken now, not when first polled: a signal right after "listening" must not kill.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Returns a future that ends with ctrl-c.
#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    })
}

#[cfg(test)]
mod arguments {
    use super::*;

    fn listen(args: &[&str]) -> Result<Option<String>, String> {
        listen_address(Parser::from_args(args)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_address_is_the_default_or_what_was_asked_for() {
        assert_eq!(listen(&[]).unwrap().unwrap(), "127.0.0.1:5007");
        assert_eq!(listen(&["--listen", "[::]:80"]).unwrap().unwrap(), "[::]:80");
        assert_eq!(listen(&["--help"]).unwrap(), None);
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert!(listen(&["--port", "1"]).unwrap_err().contains("--port"));
        assert!(listen(&["--listen"]).unwrap_err().contains("--listen"));
        assert!(listen(&["5007"]).unwrap_err().contains("5007"));
    }
}
