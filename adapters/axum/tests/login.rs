//! The recipe for an application with a login (README): the session key is the user. A middleware outside the layer
//! finds the user.

use axum::{
    Router,
    extract::{Extension, Request},
    middleware::{self, Next},
    response::Response,
    routing::{any, get, post},
};
use http::{HeaderMap, StatusCode, header};
use session_resume::{SessionResume, key};
use session_resume_axum::{ResumeUpgrade, Session};
use session_resume_testkit::{Browser, Socket, TestServer};

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

async fn page(session: Session<Visits>) -> String {
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
async fn logout(session: Session<Visits>) -> StatusCode {
    session.close("logged out");
    StatusCode::NO_CONTENT
}

fn new_browser() -> Browser {
    TestServer::new(app).browser()
}

/// What the application's login and logout do.
fn log_in(browser: &Browser, name: &str) {
    browser.cookies().add(&format!("login={name}")).unwrap();
}

fn log_out(browser: &Browser) {
    browser.cookies().remove("login");
}

/// Visits the page; returns the session's id and its visits.
async fn visit(browser: &Browser) -> (String, u32) {
    let answer = browser.get("/").await;
    let (id, visits) = answer.text().split_once(' ').unwrap();
    (id.to_owned(), visits.parse().unwrap())
}

async fn who(socket: &mut Socket) -> String {
    socket.send("who").await;
    socket.recv().await
}

#[tokio::test(start_paused = true)]
async fn two_users_of_one_browser_have_a_session_each() {
    let browser = new_browser();
    let (nobodys, _) = visit(&browser).await;
    log_in(&browser, "ann");
    let (anns, visits) = visit(&browser).await;
    assert!(anns != nobodys && visits == 1, "nothing of the visitor is in it");
    log_in(&browser, "bob");
    assert_ne!(visit(&browser).await.0, anns);
    // A logout that leaves the session: the next login of the same user finds it.
    log_out(&browser);
    assert_eq!(visit(&browser).await, (nobodys, 2));
    log_in(&browser, "ann");
    assert_eq!(visit(&browser).await, (anns, 2));
}

#[tokio::test(start_paused = true)]
async fn a_socket_speaks_as_the_user_who_opened_it() {
    let browser = new_browser();
    visit(&browser).await;
    log_in(&browser, "ann");
    let mut anns = browser.plain("/live").await;
    assert_eq!(who(&mut anns).await, "ann");
    log_in(&browser, "bob");
    let mut bobs = browser.plain("/live").await;
    assert_eq!((who(&mut bobs).await, who(&mut anns).await), ("bob".into(), "ann".into()));
}

#[tokio::test(start_paused = true)]
async fn a_logout_that_ends_the_session_closes_its_sockets() {
    let browser = new_browser();
    visit(&browser).await;
    log_in(&browser, "ann");
    let (session, _) = visit(&browser).await;
    let mut socket = browser.plain("/live").await;
    assert_eq!(who(&mut socket).await, "ann");
    assert_eq!(browser.post("/logout", "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(socket.closed().await.code, 1000);
    let (again, visits) = visit(&browser).await;
    assert!(again != session && visits == 1, "the next login starts anew");
}
