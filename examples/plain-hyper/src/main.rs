//! A counter on hyper and tower alone: no framework but the page of code in `adapter.rs`.
//!
//! `cargo run -p session-resume-plain-hyper`, then open a WebSocket on `ws://127.0.0.1:3000/live` and send
//! anything.

mod adapter;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, io};

use http::{Request, Response, StatusCode};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use serde::{Deserialize, Serialize};
use session_resume::{LiveSession, Result, SessionResume, adapter::Refusal};
use tokio::net::TcpListener;
use tower::ServiceBuilder;

#[derive(Default, Serialize, Deserialize)]
struct Counter {
    clicks: u64,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on {}", listener.local_addr()?);
    serve(listener, SessionResume::new().with_state::<Counter>()).await
}

async fn serve(listener: TcpListener, resume: SessionResume<Counter>) -> io::Result<()> {
    let app = ServiceBuilder::new().layer(resume).service_fn(route);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await
        });
    }
}

async fn route<B>(request: Request<B>) -> std::result::Result<Response<String>, Infallible> {
    let answer = match request.uri().path() {
        "/" => page(request).await,
        "/live" => adapter::on_session(request, live).await,
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "no such page")),
    };
    Ok(answer.unwrap_or_else(Refusal::into_response))
}

async fn page<B>(request: Request<B>) -> std::result::Result<Response<String>, Refusal> {
    let session = session_resume::adapter::open::<Counter>(&request.into_parts().0).await?;
    Ok(Response::new(session.read(|counter| format!("{} clicks so far", counter.clicks))))
}

async fn live(mut session: LiveSession<Counter>) -> Result {
    while let Some(_click) = session.recv().await {
        let clicks = session.update(|counter| {
            counter.clicks += 1;
            counter.clicks
        });
        session.send(clicks.to_string()).await?;
    }
    Ok(())
}
