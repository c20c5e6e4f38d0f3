//! The same application twice.

use axum::{
    Router,
    response::Response,
    routing::{any, get},
};
use session_resume::{LiveSession, Session, SessionResume};
use session_resume_axum::ResumeUpgrade as AxumUpgrade;
use session_resume_testkit::TestServer;
use session_resume_warp::ResumeUpgrade as WarpUpgrade;
use tower::Layer as _;
use warp::Filter as _;

/// The messages that the handler has taken.
pub(crate) type Taken = Vec<String>;

/// Answers each message: `say x` with `x`, `burst n` with `n` messages, `finish` by the end.
pub(crate) async fn live(mut session: LiveSession<Taken>) -> session_resume::Result {
    while let Some(message) = session.recv().await {
        let text = message.as_text().unwrap_or("binary").to_owned();
        session.update(|taken| taken.push(text.clone()));
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        match word {
            "burst" => {
                for n in 0..rest.parse::<u32>()? {
                    session.send(n.to_string()).await?;
                }
            }
            "commit" => session.commit().await?,
            "finish" => return Ok(()),
            "binary" => session.send(message).await?,
            _ => session.send(rest).await?,
        }
    }
    Ok(())
}

pub(crate) fn layer() -> SessionResume<Taken> {
    SessionResume::new().with_state::<Taken>()
}

pub(crate) fn router() -> Router {
    async fn page(session: session_resume_axum::Session<Taken>) -> String {
        session.read(|taken| taken.join(","))
    }
    async fn upgrade(upgrade: AxumUpgrade<Taken>) -> Response {
        upgrade.on_session(live)
    }
    Router::new()
        .route("/", get(page))
        .route("/live", any(upgrade))
        .merge(session_resume_axum::outcomes::<Taken, _>())
}

pub(crate) fn axum(resume: &SessionResume<Taken>) -> TestServer {
    let resume = resume.clone();
    TestServer::new(move || router().layer(resume.clone()))
}

pub(crate) fn warp(resume: &SessionResume<Taken>) -> TestServer {
    let resume = resume.clone();
    TestServer::new(move || {
        let page = warp::path::end()
            .and(session_resume_warp::session())
            .map(|session: Session<Taken>| session.read(|taken| taken.join(",")));
        let live = warp::path!("live")
            .and(session_resume_warp::resume())
            .map(|upgrade: WarpUpgrade<Taken>| upgrade.on_session(live));
        resume.layer(session_resume_warp::service(page.or(live)))
    })
}

/// The layer and its server, for each framework.
pub(crate) fn each() -> [(SessionResume<Taken>, TestServer); 2] {
    let [first, second] = [layer(), layer()];
    let servers = [axum(&first), warp(&second)];
    let [axum, warp] = servers;
    [(first, axum), (second, warp)]
}

/// One layer and its server.
pub(crate) fn in_memory() -> (SessionResume<Taken>, TestServer) {
    let [first, _] = each();
    first
}

/// What the handler of the newest session session has taken.
pub(crate) fn taken(resume: &SessionResume<Taken>) -> Taken {
    newest(resume).read(Clone::clone)
}

/// How many transports the newest session has.
pub(crate) fn transports(resume: &SessionResume<Taken>) -> usize {
    newest(resume).info().transports
}

/// The newest session.
pub(crate) fn newest(resume: &SessionResume<Taken>) -> Session<Taken> {
    let newest = resume.sessions().into_iter().min_by_key(|session| session.age);
    resume.get(newest.expect("there is one").id).expect("it lives")
}
