//! A counter on hyper and tower alone, without a framework.
//!
//! `cargo run -p session-resume-plain-hyper`, then open a WebSocket on `ws://127.0.0.1:3000/live` and send
//! anything.

#[cfg(test)]
mod tests;

use std::{convert::Infallible, io};

use http::{Request, Response, StatusCode, request::Parts};
use serde::{Deserialize, Serialize};
use session_resume::{
    LiveSession, SessionResume,
    adapter::{self, Refusal, ResumeUpgrade},
};
use tower::ServiceBuilder;

#[derive(Default, Serialize, Deserialize)]
struct Counter {
    clicks: u64,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = session_resume::adapter::bind("127.0.0.1:3000").await?;
    println!("listening on {}", listener.local_addr()?);
    let resume = SessionResume::new().with_state::<Counter>();
    let app = ServiceBuilder::new().layer(resume.clone()).service_fn(route);
    adapter::serve(listener, app).until_stopped(&resume).await?;
    Ok(())
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
