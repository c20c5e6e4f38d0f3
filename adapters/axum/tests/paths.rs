//! One session, one path, under routers that take a part of the path away.

use axum::{Router, response::Response, routing::any};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{StatusCode, header};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use session_resume::SessionResume;
use session_resume_axum::ResumeUpgrade;
use tokio_tungstenite::{
    client_async,
    tungstenite::{self, Message, client::IntoClientRequest as _},
};

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

struct Browser {
    app: Router,
    cookie: Option<String>,
}

impl Browser {
    /// Opens a WebSocket, says something, and hears it.
    ///
    /// # Errors
    ///
    /// The status, if it is refused.
    async fn open(&mut self, path: &str) -> Result<(), StatusCode> {
        let (client, server) = tokio::io::duplex(4096);
        let app = self.app.clone();
        tokio::spawn(async move {
            let service = TowerToHyperService::new(app);
            let builder = Builder::new(TokioExecutor::new());
            builder.serve_connection_with_upgrades(TokioIo::new(server), service).await
        });
        let mut upgrade = format!("ws://host.example{path}").into_client_request().unwrap();
        if let Some(cookie) = &self.cookie {
            upgrade.headers_mut().insert(header::COOKIE, cookie.parse().unwrap());
        }
        let (mut socket, response) = match client_async(upgrade, client).await {
            Ok(opened) => opened,
            Err(tungstenite::Error::Http(response)) => return Err(response.status()),
            Err(error) => panic!("{error}"),
        };
        if let Some(set) = response.headers().get(header::SET_COOKIE) {
            self.cookie = set.to_str().unwrap().split(';').next().map(str::to_owned);
        }
        socket.send(Message::text(path)).await.unwrap();
        // What the socket before had not confirmed comes again first.
        while socket.next().await.unwrap().unwrap() != Message::text(path) {}
        Ok(())
    }
}

#[tokio::test]
async fn the_path_is_the_one_that_was_asked_for_wherever_the_layer_is() {
    let places = ["/a", "/b", "/v1/a", "/v2/a", "/v2/deep/a"];
    for (layer, app) in apps() {
        for first in places {
            let mut browser = Browser { app: app.clone(), cookie: None };
            browser.open(first).await.unwrap();
            for next in places {
                let expected = if next == first { Ok(()) } else { Err(StatusCode::CONFLICT) };
                assert_eq!(browser.open(next).await, expected, "layer {layer}: {first}, {next}");
            }
            for anywhere in ["/lobby", "/v1/lobby"] {
                assert_eq!(browser.open(anywhere).await, Ok(()), "layer {layer}: {first}");
            }
            let query = format!("{first}?x=/v1");
            assert_eq!(browser.open(&query).await, Ok(()), "layer {layer}: {query}");
        }
    }
}
