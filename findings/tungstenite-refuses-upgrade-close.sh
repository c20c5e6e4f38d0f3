#!/bin/bash
# A server of hyper 1.12.0 whose connections are made with `http1().keep_alive(false)` answers an upgrade with
# `connection: upgrade, close`: it adds `close` to what its service has set. By RFC 6455 §4.1 that header needs only the
# token `upgrade`. The client of tungstenite 0.30.0 compares the whole value: it refuses the answer with
# `No "Connection: upgrade" header`. With keep-alive on, which is hyper's default, the same client takes the same service.
#
# Consequence: to have a connection carry one request alone, leave keep-alive on, and set `connection: close` on the answers
# that are no 101. The hop listener of this repository does so.
#
# Seen on 2026-12-02. Exits with 1 if the behaviour has changed. Needs cargo; builds in a temp folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"

[dependencies]
http-body-util = "=0.1.5"
hyper = { version = "=1.12.0", features = ["server", "http1"] }
hyper-util = { version = "=0.1.21", features = ["tokio"] }
tokio = { version = "=1.54.1", features = ["rt-multi-thread", "net", "macros"] }
tungstenite = "=0.30.0"
TOML
cat > src/main.rs <<'RUST'
use http_body_util::Empty;
use hyper::{body::{Bytes, Incoming}, server::conn::http1, service::service_fn, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tungstenite::handshake::derive_accept_key;

async fn upgrade(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, std::convert::Infallible> {
    let key = request.headers()["sec-websocket-key"].as_bytes();
    Ok(Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", derive_accept_key(key))
        .body(Empty::new())
        .unwrap())
}

#[tokio::main]
async fn main() {
    for keep_alive in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let client = tokio::task::spawn_blocking(move || tungstenite::connect(format!("ws://{addr}/")));
        let (server, _) = listener.accept().await.unwrap();
        let mut builder = http1::Builder::new();
        let connection = builder.keep_alive(keep_alive).serve_connection(TokioIo::new(server), service_fn(upgrade));
        tokio::spawn(connection.with_upgrades());
        match client.await.unwrap() {
            Ok((_, answer)) => println!("keep_alive({keep_alive}): {:?}", answer.headers()["connection"]),
            Err(error) => println!("keep_alive({keep_alive}): {error}"),
        }
    }
}
RUST
seen=$(cargo run --quiet)
echo "$seen"
if [ "$seen" = 'keep_alive(true): "upgrade"
keep_alive(false): WebSocket protocol error: No "Connection: upgrade" header' ]; then
  echo "as described"
else
  echo "CHANGED"
  exit 1
fi
