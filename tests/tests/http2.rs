//! WebSockets over HTTP/2 (RFC 8441): many sessions on one connection, each as on HTTP/1.1.

use std::net::SocketAddr;

use axum::{
    Router,
    response::Response,
    routing::{any, get},
};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Method, Request, StatusCode, Version, header};
use http_body_util::Empty;
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http2::SendRequest,
    ext::Protocol,
    upgrade::Upgraded,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use session_resume::{LiveSession, SessionResume, key};
use session_resume_axum::{ResumeUpgrade, Session};
use session_resume_tests::{Framework, scenarios};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};
use tower_layer::Layer as _;
use warp::Filter as _;

scenarios!(
    a_session_goes_on_over_http_2,
    haproxy_turns_http_2_into_http_1,
    one_connection_carries_many_sessions,
    a_refusal_has_its_status_on_http_2,
    a_connect_for_another_protocol_is_no_websocket,
);

use proxies::{Kind, Proxy};

#[expect(dead_code, reason = "one proxy is enough here, and it is not reloaded")]
#[path = "suite/proxies.rs"]
mod proxies;

const CLIENT: &str = "0123456789abcdef";

type State = u32;
type Socket = WebSocketStream<TokioIo<Upgraded>>;

async fn a_session_goes_on_over_http_2(framework: Framework) {
    let resume = SessionResume::new().with_state::<State>();
    goes_on(start(framework, resume.clone()).await, &resume).await;
}

async fn haproxy_turns_http_2_into_http_1(framework: Framework) {
    let resume = SessionResume::new().with_state::<State>();
    let server = start(framework, resume.clone()).await;
    if let Some(proxy) = Proxy::start(Kind::HaProxy, server).await {
        goes_on(proxy.address, &resume).await;
    }
}

/// A session over HTTP/2 with this address.
async fn goes_on(at: SocketAddr, resume: &SessionResume<State>) {
    let mut connection = Connection::open(at).await;
    let response = connection.get("/").await;
    assert_eq!(response.version(), Version::HTTP_2);
    let cookie = cookie(response.headers());

    let (mut socket, answer) =
        connection.websocket("/live", &format!("at.{CLIENT}"), &cookie).await;
    assert_eq!(answer[header::SEC_WEBSOCKET_PROTOCOL], "session-resume.v1");
    assert!(!answer.contains_key(header::SET_COOKIE), "split cookies are found");
    let hello = hello(&mut socket).await;
    assert_eq!(hello["status"], "reused");
    for text in ["a", "b"] {
        socket.send(Message::text(text)).await.unwrap();
    }
    assert_eq!(hear(&mut socket).await, "1: a");
    assert_eq!(hear(&mut socket).await, "2: b");
    drop(socket);

    let text = |name: &str| hello[name].as_str().unwrap().to_owned();
    let offer = format!("at.{CLIENT}.{}.{}.1", text("session"), text("epoch"));
    let (mut socket, _) = connection.websocket("/live", &offer, &cookie).await;
    let hello = self::hello(&mut socket).await;
    assert_eq!((&hello["status"], &hello["received"]), (&"resumed".into(), &2.into()));
    assert_eq!(hear(&mut socket).await, "2: b");
    assert_eq!(resume.sessions().len(), 1);
}

async fn one_connection_carries_many_sessions(framework: Framework) {
    let resume = SessionResume::new().with_state::<State>().with_key(key::by_path());
    let mut connection = Connection::open(start(framework, resume.clone()).await).await;
    let cookie = cookie(connection.get("/").await.headers());
    let mut sockets = Vec::new();
    for n in 0..20 {
        let path = format!("/live/{n}");
        let (mut socket, _) = connection.websocket(&path, &format!("at.{CLIENT}"), &cookie).await;
        assert_eq!(hello(&mut socket).await["status"], "new");
        sockets.push(socket);
    }
    for (n, socket) in sockets.iter_mut().enumerate() {
        socket.send(Message::text(n.to_string())).await.unwrap();
        assert_eq!(hear(socket).await, format!("1: {n}"));
    }
}

async fn a_refusal_has_its_status_on_http_2(framework: Framework) {
    let resume = SessionResume::new().with_state::<State>();
    let mut connection = Connection::open(start(framework, resume).await).await;
    let cookie = cookie(connection.get("/").await.headers());
    let mut foreign = connect("/live", &format!("at.{CLIENT}"), &cookie);
    foreign.headers_mut().insert(header::ORIGIN, "http://elsewhere.example".parse().unwrap());
    let malformed = connect("/live", "at.short", &cookie);
    for (request, status) in
        [(foreign, StatusCode::FORBIDDEN), (malformed, StatusCode::BAD_REQUEST)]
    {
        assert_eq!(connection.0.send_request(request).await.unwrap().status(), status);
    }
}

async fn a_connect_for_another_protocol_is_no_websocket(framework: Framework) {
    let resume = SessionResume::new().with_state::<State>();
    let mut connection = Connection::open(start(framework, resume).await).await;
    let cookie = cookie(connection.get("/").await.headers());
    let mut request = connect("/live", &format!("at.{CLIENT}"), &cookie);
    request.extensions_mut().insert(Protocol::from_static("connect-udp"));
    let response = connection.0.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

async fn start(framework: Framework, resume: SessionResume<State>) -> SocketAddr {
    async fn index(session: Session<State>) -> String {
        session.read(u32::to_string)
    }
    async fn upgrade(upgrade: ResumeUpgrade<State>) -> Response {
        upgrade.on_session(live)
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    match framework {
        Framework::Axum => {
            let app = Router::new()
                .route("/", get(index))
                .route("/live", any(upgrade))
                .route("/live/{n}", any(upgrade))
                .layer(resume);
            tokio::spawn(async move { axum::serve(listener, app).await });
        }
        Framework::Warp => {
            let index = warp::path::end()
                .and(session_resume_warp::session())
                .map(|session: Session<State>| session.read(u32::to_string));
            let live = warp::path!("live" / ..)
                .and(session_resume_warp::resume())
                .map(|upgrade: session_resume_warp::ResumeUpgrade<State>| upgrade.on_session(live));
            let app = resume.layer(session_resume_warp::service(index.or(live)));
            tokio::spawn(async move { session_resume_warp::serve(listener, app).await });
        }
    }
    addr
}

async fn live(mut session: LiveSession<State>) -> session_resume::Result {
    while let Some(message) = session.recv().await {
        let n = session.update(|count| {
            *count += 1;
            *count
        });
        session.send(format!("{n}: {}", message.as_text().unwrap_or("?"))).await?;
    }
    Ok(())
}

struct Connection(SendRequest<Empty<Bytes>>);

impl Connection {
    async fn open(addr: SocketAddr) -> Self {
        let io = TokioIo::new(TcpStream::connect(addr).await.unwrap());
        let (send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    /// Must come before the first upgrade, too: the server's settings come with the first answer.
    async fn get(&mut self, path: &str) -> http::Response<Incoming> {
        let request = Request::get(format!("http://host.example{path}"));
        self.0.send_request(request.body(Empty::new()).unwrap()).await.unwrap()
    }

    async fn websocket(&mut self, path: &str, offer: &str, cookie: &str) -> (Socket, HeaderMap) {
        let mut response = self.0.send_request(connect(path, offer, cookie)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
        (socket, response.into_parts().0.headers)
    }
}

fn connect(path: &str, offer: &str, cookie: &str) -> Request<Empty<Bytes>> {
    Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://host.example{path}"))
        .extension(Protocol::from_static("websocket"))
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_PROTOCOL, format!("session-resume.v1, {offer}"))
        // One header each, as browsers send them on HTTP/2.
        .header(header::COOKIE, "theme=dark")
        .header(header::COOKIE, cookie)
        .body(Empty::new())
        .unwrap()
}

fn cookie(headers: &HeaderMap) -> String {
    headers[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned()
}

/// Reads the hello and answers it.
async fn hello(socket: &mut Socket) -> Value {
    let frame = socket.next().await.unwrap().unwrap();
    let text = frame.to_text().unwrap().strip_prefix('\u{1}').unwrap();
    let hello = serde_json::from_str::<Value>(text).unwrap()["hello"].take();
    let ack = format!("\u{1}{{\"ack\":{}}}", hello["from"]);
    socket.send(Message::text(ack)).await.unwrap();
    hello
}

/// Returns the next message of the handler.
async fn hear(socket: &mut Socket) -> String {
    loop {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap()
            && !text.starts_with('\u{1}')
        {
            return text.to_string();
        }
    }
}
