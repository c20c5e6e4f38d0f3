//! A small server that any black-box client can drive, in any language.
//!
//! Its command line and its replies are fixed: checks from outside the repository drive it, too.

mod answers;
mod axum_server;
mod chat;
mod flags;
mod live;
mod node;
mod observe;
mod shim;
mod tally;
mod warp_server;

use std::{io::Write as _, process::ExitCode, time::Duration};

use session_resume::SessionResume;
use tokio::{signal::unix, task::JoinSet};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use crate::{
    flags::{Flags, Framework},
    tally::Tally,
};

/// How long a drain may take.
const DRAIN: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .event_format(session_resume::console::Console)
        .with_writer(std::io::stderr)
        .with_env_filter(filter())
        .init();
    let flags = match Flags::parse(lexopt::Parser::from_env()) {
        Ok(flags) => flags,
        Err(error) => {
            eprintln!("testee: {error}");
            return ExitCode::from(2);
        }
    };
    match run(flags).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testee: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Warnings, unless `RUST_LOG` says otherwise.
fn filter() -> EnvFilter {
    let warnings = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    warnings.from_env_lossy()
}

async fn run(flags: Flags) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let hops = match &flags.cluster {
        Some(of) => Some(node::Listener::bind(of).await?),
        None => None,
    };
    let resume = flags.layer(hops.as_ref().map(|hops| &*hops.advertise)).await?;
    resume.validate()?;
    let listener = session_resume::adapter::bind(&flags.listen).await?;
    let address = listener.local_addr()?;
    let doors = flags.doors();
    let mut tasks = JoinSet::new();
    let second = match hops {
        Some(hops) => {
            let at = hops.listener.local_addr()?;
            match flags.framework {
                Framework::Axum => {
                    tasks.spawn(axum_server::serve_hops(
                        hops.listener,
                        resume.clone(),
                        doors.clone(),
                    ));
                }
                Framework::Warp => {
                    tasks.spawn(warp_server::serve_hops(
                        hops.listener,
                        resume.clone(),
                        doors.clone(),
                    ));
                }
            }
            Some(node::enlisted(&resume, at).await?)
        }
        None => None,
    };
    let mut lines = format!("listening on {address}\n");
    if let Some(second) = second {
        lines.push_str(&second);
        lines.push('\n');
    }
    // Both at once: who reads the first line alone may be gone for the second.
    std::io::stdout().write_all(lines.as_bytes())?;
    match flags.framework {
        Framework::Axum => tasks.spawn(axum_server::serve(listener, resume.clone(), doors)),
        Framework::Warp => tasks.spawn(warp_server::serve(listener, resume.clone(), doors)),
    };
    terminate.recv().await;
    let code = drain(&resume).await;
    tasks.abort_all();
    Ok(code)
}

/// Requests are still served meanwhile; a supervisor may want to look.
async fn drain(resume: &SessionResume<Tally>) -> ExitCode {
    let report = resume.drain(DRAIN).await;
    for session in &report.cut {
        eprintln!("testee: session {session} was cut");
    }
    if report.cut.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
