//! A counter on hyper and tower alone, without a framework.
//!
//! `cargo run -p session-resume-plain-hyper`, then open a WebSocket on `ws://127.0.0.1:3000/live` and send
//! anything.

#[cfg(test)]
mod tests;

use std::{convert::Infallible, io};

use http::{Request, Response, StatusCode, request::Parts};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use serde::{Deserialize, Serialize};
use session_resume::{
    LiveSession, SessionResume,
    adapter::{self, Refusal, ResumeUpgrade},
};
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

async fn route<B>(request: Request<B>) -> Result<Response<String>, Infallible> {
    let (parts, _) = request.into_parts();
    let answer = match parts.uri.path() {
        "/" => page(&parts).await,
        "/live" => ResumeUpgrade::prepare(&parts).await.map(|upgrade| upgrade.on_session(live)),
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "no such page")),
    };
    Ok(answer.unwrap_or_else(Refusal::into_response))
}

async fn page(parts: &Parts) -> Result<Response<String>, Refusal> {
    let session = adapter::open::<Counter>(parts).await?;
    Ok(Response::new(session.read(|counter| format!("{} clicks so far", counter.clicks))))
}

async fn live(mut session: LiveSession<Counter>) -> session_resume::Result {
    while let Some(_click) = session.recv().await {
        let clicks = session.update(|counter| {
            counter.clicks += 1;
            counter.clicks
        });
        session.send(clicks.to_string()).await?;
    }
    Ok(())
}
