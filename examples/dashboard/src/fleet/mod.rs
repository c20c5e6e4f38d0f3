//! `dashboard cluster`: a Redis server, three nodes and a balancer on this machine, and a page that shows which node does
//! what, with buttons that break them.
//!
//! `machine` has the processes, `control` the page.

mod control;
mod machine;

use std::error::Error;

use tokio::sync::Mutex;

use self::machine::Machine;

/// Runs until ctrl-c; then everything that was started ends.
pub(crate) async fn run(listen: &str, control: &str) -> Result<(), Box<dyn Error>> {
    let listener = session_resume_axum::bind(control).await;
    let listener = listener.map_err(|error| format!("{control}: {error}"))?;
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        return Err(format!("--control: {address} is not a loopback address").into());
    }
    let machine = Machine::start(listen).await?;
    println!("the dashboard, by any of three nodes: http://{}", machine.address());
    println!("what the nodes do, and how to break them: http://{address}");
    let machine = std::sync::Arc::new(Mutex::new(machine));
    let server = axum::serve(listener, control::router(std::sync::Arc::clone(&machine)));
    tokio::select! {
        ended = server => ended?,
        signal = tokio::signal::ctrl_c() => signal?,
        () = machine::terminated() => {}
    }
    machine.lock().await.stop().await;
    Ok(())
}
