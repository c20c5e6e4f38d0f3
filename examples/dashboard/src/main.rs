//! A dashboard whose selection and plot live on the server: the socket may drop, the page may reload, and it
//! is all still there.
//!
//! The parts in reading order: `app` (routes and the layer), `live` (the handler, once per session), `state`
//! (what a session remembers, and the commands that change it), `view` (what the page is told), `page`,
//! `plot` and `series` (what there is to see).

mod app;
mod fleet;
mod live;
mod node;
mod options;
mod page;
mod plot;
mod series;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod view;

use std::{error::Error, process::ExitCode, time::Duration};

use example_support::{log_to_stderr, place};
use lexopt::Parser;
use session_resume::SessionResume;
use session_resume_redb::RedbStore;
use session_resume_redis::RedisStore;

use crate::{
    options::{Command, Options, Store, USAGE, Url, command},
    state::Dashboard,
};

/// How long sessions get to finish the command in hand when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a session is kept that no browser comes back to.
const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How often the live value changes.
const TICK: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> ExitCode {
    let command = match command(Parser::from_env()) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("dashboard: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    log_to_stderr();
    let done = match command {
        Command::Help => {
            println!("{USAGE}");
            Ok(())
        }
        Command::Serve(options) => serve(options).await,
        Command::Cluster { listen, control } => fleet::run(&listen, &control).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dashboard: {error}");
            ExitCode::FAILURE
        }
    }
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

async fn serve(Options { listen, store, monitor, node }: Options) -> Result<(), Box<dyn Error>> {
    let (resume, hops) = match (node, store) {
        (Some(node), Store::Redis(Url(url))) => {
            let resume = SessionResume::new().with_state::<Dashboard>().with_stored_lifetime(KEPT);
            let (resume, hops) = node::layer(resume, &url, &node).await?;
            (resume, Some(hops))
        }
        (_, store) => (layer(store).await?, None),
    };
    let listener = example_support::listen(&listen).await?;
    let address = listener.local_addr()?;
    let mut app = app::router(resume.clone(), TICK);
    if monitor {
        if !address.ip().is_loopback() {
            return Err(format!("--monitor: {address} is not a loopback address").into());
        }
        app = app::with_monitor(app, &resume);
    }
    if let Some(hops) = hops {
        app = app.merge(node::routes(resume.clone()));
        // The same application, for the other nodes. It goes on during the drain, and ends with the process.
        tokio::spawn(session_resume_axum::serve_hops(hops, app.clone(), &resume).into_future());
        node::enlisted(&resume).await?;
    }
    let server = session_resume_axum::serve(listener, app, &resume);
    println!("listening on http://{address}");
    let report = server.with_deadline(DRAIN).await?;
    eprintln!("dashboard: sessions drained: {}, cut: {}", report.drained, report.cut.len());
    Ok(())
}
