//! One session, one path, under routers that take a part of the path away.

use axum::{Router, response::Response, routing::any};
use http::StatusCode;
use session_resume::SessionResume;
use session_resume_axum::ResumeUpgrade;
use session_resume_testkit::{Browser, TestServer};

async fn room(upgrade: ResumeUpgrade) -> Response {
    upgrade.on_session(|mut session| async move {
        while let Some(message) = session.recv().await {
            session.send(message).await?;
        }
        Ok(())
    })
}

async fn any_room(upgrade: ResumeUpgrade) -> Response {
    room(upgrade.any_path()).await
}

fn rooms() -> Router {
    Router::new().route("/{room}", any(room)).route("/lobby", any(any_room))
}

/// The same places, with the layer in other places: `/a`, `/v1/a`, `/v2/a`, `/v2/deep/a`.
fn apps() -> [(&'static str, Router); 4] {
    let resume = SessionResume::new;
    let deep = || rooms().nest("/deep", rooms());
    let one = resume();
    let inner = |rooms: Router| rooms.layer(one.clone());
    let both = resume();
    [
        ("outside", rooms().nest("/v1", rooms()).nest("/v2", deep()).layer(resume())),
        (
            "inside",
            inner(rooms())
                .nest("/v1", inner(rooms()))
                .nest("/v2", inner(rooms()).nest("/deep", inner(rooms()))),
        ),
        (
            "inside and outside",
            rooms()
                .nest("/v1", rooms().layer(both.clone()))
                .nest("/v2", deep().layer(both.clone()))
                .layer(both),
        ),
        (
            "as services",
            rooms()
                .nest_service("/v1", rooms())
                .nest_service("/v2", rooms().nest_service("/deep", rooms()))
                .layer(resume()),
        ),
    ]
}

/// Opens a WebSocket, says something, and hears it.
///
/// # Errors
///
/// The status, if it is refused.
async fn open(browser: &Browser, path: &str) -> Result<(), StatusCode> {
    let opened = browser.plain_with(path, |request| request).await;
    let mut socket = opened.map_err(|error| error.answer().expect("an answer").status)?;
    socket.send(path).await;
    // What the socket before had not confirmed comes again first.
    while socket.recv().await != path {}
    Ok(())
}

#[tokio::test]
async fn the_path_is_the_one_that_was_asked_for_wherever_the_layer_is() {
    let places = ["/a", "/b", "/v1/a", "/v2/a", "/v2/deep/a"];
    for (layer, app) in apps() {
        for first in places {
            let app = app.clone();
            let browser = TestServer::new(move || app.clone()).browser();
            open(&browser, first).await.unwrap();
            for next in places {
                let expected = if next == first { Ok(()) } else { Err(StatusCode::CONFLICT) };
                assert_eq!(open(&browser, next).await, expected, "layer {layer}: {first}, {next}");
            }
            for anywhere in ["/lobby", "/v1/lobby"] {
                assert_eq!(open(&browser, anywhere).await, Ok(()), "layer {layer}: {first}");
            }
            let query = format!("{first}?x=/v1");
            assert_eq!(open(&browser, &query).await, Ok(()), "layer {layer}: {query}");
        }
    }
}
