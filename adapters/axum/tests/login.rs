//! The recipe for an application with a login (README): the session key is the user. A middleware outside the layer
//! finds the user.

use axum::{
    Router,
    body::Body,
    extract::{Extension, Request},
    middleware::{self, Next},
    response::Response,
    routing::{any, get, post},
};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, StatusCode, header};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use session_resume::{SessionResume, key};
use session_resume_axum::{ResumeUpgrade, Session};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};
use tower::ServiceExt as _;

/// The logged-in user.
#[derive(Clone, PartialEq, Debug)]
struct User(String);

/// What a session remembers: the visits to its page.
type Visits = u32;

/// The application's own login: here the cookie names the user. A real one would check a signature.
async fn authenticate(mut request: Request, next: Next) -> Response {
    let user = cookies(request.headers()).find_map(|pair| pair.strip_prefix("login="));
    if let Some(user) = user.map(|name| User(name.to_owned())) {
        request.extensions_mut().insert(user);
    }
    next.run(request).await
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split("; "))
}

/// The middleware is outside the layer: it has run when the key is asked for.
fn app() -> Router {
    let by_user = key::from_fn(|req, _identity| {
        req.extensions().get::<User>().map(|User(name)| name.clone())
    });
    Router::new()
        .route("/", get(page))
        .route("/live", any(live))
        .route("/logout", post(logout))
        .layer(SessionResume::new().with_state::<Visits>().with_key(by_user))
        .layer(middleware::from_fn(authenticate))
}

async fn page(Session(session): Session<Visits>) -> String {
    session.update(|visits| *visits += 1);
    format!("{} {}", session.id(), session.read(|visits| *visits))
}

async fn live(user: Option<Extension<User>>, upgrade: ResumeUpgrade<Visits>) -> Response {
    // The user of the request that starts the handler. Each user has a session of its own, so it is the user of every
    // later request, too.
    let name = user.map_or_else(|| "nobody".to_owned(), |Extension(User(name))| name);
    upgrade.on_session(|mut session| async move {
        while session.recv().await.is_some() {
            session.send(name.clone()).await?;
        }
        Ok(())
    })
}

/// Ends the session, and with it every socket of this user in this browser.
async fn logout(Session(session): Session<Visits>) -> StatusCode {
    session.close("logged out");
    StatusCode::NO_CONTENT
}

/// One browser profile.
struct Browser {
    app: Router,
    identity: Option<String>,
    login: Option<&'static str>,
}

impl Browser {
    fn new() -> Self {
        Self { app: app(), identity: None, login: None }
    }

    fn cookie(&self) -> String {
        let login = self.login.map(|name| format!("login={name}"));
        [self.identity.clone(), login].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// Asks for a path; returns status and body.
    async fn ask(&mut self, method: &str, path: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::COOKIE, self.cookie()).body(Body::empty()).unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        if let Some(set) = response.headers().get(header::SET_COOKIE) {
            self.identity = set.to_str().unwrap().split(';').next().map(str::to_owned);
        }
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Visits the page; returns the session's id and its visits.
    async fn visit(&mut self) -> (String, u32) {
        let (_, body) = self.ask("GET", "/").await;
        let (id, visits) = body.split_once(' ').unwrap();
        (id.to_owned(), visits.parse().unwrap())
    }

    async fn open(&self) -> WebSocketStream<tokio::io::DuplexStream> {
        let (client, server) = tokio::io::duplex(4096);
        let app = self.app.clone();
        tokio::spawn(async move {
            let service = TowerToHyperService::new(app);
            let builder = Builder::new(TokioExecutor::new());
            builder.serve_connection_with_upgrades(TokioIo::new(server), service).await
        });
        let mut upgrade = "ws://host.example/live".into_client_request().unwrap();
        upgrade.headers_mut().insert(header::COOKIE, self.cookie().parse().unwrap());
        client_async(upgrade, client).await.unwrap().0
    }
}

/// Receives the next message that is not a ping.
async fn next(socket: &mut WebSocketStream<tokio::io::DuplexStream>) -> Message {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Ping(_) => {}
            message => return message,
        }
    }
}

async fn who(socket: &mut WebSocketStream<tokio::io::DuplexStream>) -> String {
    socket.send(Message::text("who")).await.unwrap();
    next(socket).await.into_text().unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn two_users_of_one_browser_have_a_session_each() {
    let mut browser = Browser::new();
    let (nobodys, _) = browser.visit().await;
    browser.login = Some("ann");
    let (anns, visits) = browser.visit().await;
    assert!(anns != nobodys && visits == 1, "nothing of the visitor is in it");
    browser.login = Some("bob");
    assert_ne!(browser.visit().await.0, anns);
    // A logout that leaves the session: the next login of the same user finds it.
    browser.login = None;
    assert_eq!(browser.visit().await, (nobodys, 2));
    browser.login = Some("ann");
    assert_eq!(browser.visit().await, (anns, 2));
}

#[tokio::test(start_paused = true)]
async fn a_socket_speaks_as_the_user_who_opened_it() {
    let mut browser = Browser::new();
    browser.visit().await;
    browser.login = Some("ann");
    let mut anns = browser.open().await;
    assert_eq!(who(&mut anns).await, "ann");
    browser.login = Some("bob");
    let mut bobs = browser.open().await;
    assert_eq!((who(&mut bobs).await, who(&mut anns).await), ("bob".into(), "ann".into()));
}

#[tokio::test(start_paused = true)]
async fn a_logout_that_ends_the_session_closes_its_sockets() {
    let mut browser = Browser::new();
    browser.visit().await;
    browser.login = Some("ann");
    let (session, _) = browser.visit().await;
    let mut socket = browser.open().await;
    assert_eq!(who(&mut socket).await, "ann");
    assert_eq!(browser.ask("POST", "/logout").await.0, StatusCode::NO_CONTENT);
    let Message::Close(Some(close)) = next(&mut socket).await else { panic!("no close") };
    assert_eq!(u16::from(close.code), 1000);
    let (again, visits) = browser.visit().await;
    assert!(again != session && visits == 1, "the next login starts anew");
}
