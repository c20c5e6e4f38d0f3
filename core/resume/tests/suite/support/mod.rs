//! A browser without HTTP: requests go through the layer, sockets are in memory.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use http::{Request, header, request::Parts};
use session_resume::{
    IntoOutcome, LiveSession, Session, SessionResume,
    adapter::{self, Refusal, Upgrade},
};
use session_resume_testkit::transport::behind;
pub(crate) use session_resume_testkit::transport::{ClientEnd as Wire, pair};
use tokio::time::Instant;

/// Polls a pinned future once and expects it to wait.
pub(crate) async fn waits<F: Future>(mut future: Pin<&mut F>) {
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending(), "it should wait");
        Poll::Ready(())
    })
    .await;
}

/// One browser profile: it keeps its cookie, which it gets with a page before it asks for anything else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Browser {
    pub(crate) cookie: Option<String>,
}

impl Browser {
    /// Extracts the session, as an HTTP handler does.
    pub(crate) async fn get<T: Send + 'static>(
        &mut self,
        resume: &SessionResume<T>,
    ) -> Result<Session<T>, Refusal> {
        adapter::open(&self.enter(resume, Request::get("/")).await).await
    }

    /// Extracts the session with the very first request, without having loaded a page.
    pub(crate) async fn first_get<T: Send + 'static>(
        &mut self,
        resume: &SessionResume<T>,
    ) -> Result<Session<T>, Refusal> {
        adapter::open(&self.send(resume, Request::get("/")).await).await
    }

    /// Looks for the session without starting one.
    pub(crate) async fn look<T: Send + 'static>(
        &mut self,
        resume: &SessionResume<T>,
    ) -> Option<Session<T>> {
        adapter::look(&self.enter(resume, Request::get("/")).await).await.expect("looking is free")
    }

    /// Polls an outcome; returns status and body.
    pub(crate) async fn poll<T: Send + 'static>(
        &mut self,
        resume: &SessionResume<T>,
        id: &str,
        wait: Duration,
    ) -> (u16, String) {
        let uri = format!("/sessions/x?wait={}", wait.as_secs());
        let parts = self.enter(resume, Request::get(uri)).await;
        let poll = adapter::poll::<T>(&parts, id).await.expect("the layer is there");
        (poll.status.as_u16(), poll.body)
    }

    /// Opens a WebSocket at `/live`; `at` is what follows `at.` in the offer, `None` a plain socket.
    pub(crate) async fn connect<T, F, Fut>(
        &mut self,
        resume: &SessionResume<T>,
        at: Option<&str>,
        handler: F,
    ) -> Result<Wire, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        open(self.upgrade(resume, at).await?, handler)
    }

    pub(crate) async fn upgrade<T: Send + 'static>(
        &mut self,
        resume: &SessionResume<T>,
        at: Option<&str>,
    ) -> Result<Upgrade<T>, Refusal> {
        self.upgrade_at(resume, "/live", at).await
    }

    /// The same on another path.
    pub(crate) async fn upgrade_at<T: Send + 'static>(
        &mut self,
        resume: &SessionResume<T>,
        path: &str,
        at: Option<&str>,
    ) -> Result<Upgrade<T>, Refusal> {
        let parts = self.enter(resume, upgrade_request(path, at)).await;
        Upgrade::<T>::prepare(&parts).await
    }

    /// Upgrades with the very first request, without having loaded a page.
    pub(crate) async fn first_upgrade<T: Send + 'static>(
        &mut self,
        resume: &SessionResume<T>,
        at: Option<&str>,
    ) -> Result<Upgrade<T>, Refusal> {
        let parts = self.send(resume, upgrade_request("/live", at)).await;
        Upgrade::<T>::prepare(&parts).await
    }

    /// Sends a request through the layer; returns it as the handler sees it.
    pub(crate) async fn enter<T: Send + 'static>(
        &mut self,
        resume: &SessionResume<T>,
        request: http::request::Builder,
    ) -> Parts {
        if self.cookie.is_none() {
            self.send(resume, Request::get("/page")).await;
        }
        self.send(resume, request).await
    }

    /// Sends a request, as one for a page, to a handler that uses nothing and answers with one.
    pub(crate) async fn send<T: Send + 'static>(
        &mut self,
        resume: &SessionResume<T>,
        request: http::request::Builder,
    ) -> Parts {
        behind(resume, &mut self.cookie, request).await
    }
}

/// Opens the WebSocket of an upgrade.
pub(crate) fn open<T, F, Fut>(upgrade: Upgrade<T>, handler: F) -> Result<Wire, Refusal>
where
    T: Send + 'static,
    F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
    Fut: Future<Output: IntoOutcome> + Send + 'static,
{
    let attach = upgrade.on_session(handler)?;
    let (socket, wire) = pair();
    tokio::spawn(attach.run(socket));
    Ok(wire)
}

/// A request for a WebSocket; `at` is what follows `at.` in the offer, `None` a plain one.
fn upgrade_request(path: &str, at: Option<&str>) -> http::request::Builder {
    let mut request = Request::get(path)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket");
    if let Some(at) = at {
        let offer = format!("session-resume.v1, at.{at}");
        request = request.header(header::SEC_WEBSOCKET_PROTOCOL, offer);
    }
    request
}

/// A handler that takes everything and answers nothing.
pub(crate) async fn idle<T: Send + 'static>(mut live: LiveSession<T>) {
    while live.recv().await.is_some() {}
}

/// A handler that sends back what it gets.
pub(crate) async fn echo<T: Send + 'static>(mut live: LiveSession<T>) -> session_resume::Result {
    while let Some(message) = live.recv().await {
        live.send(message).await?;
    }
    Ok(())
}

/// A handler that is busy with its first message for ever.
pub(crate) async fn busy<T: Send + 'static>(mut live: LiveSession<T>) {
    live.recv().await;
    std::future::pending::<()>().await;
}

/// Measures paused time.
pub(crate) struct Watch(Instant);

impl Watch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        // The machine counts microseconds; tokio's timer wheel milliseconds.
        (self.0.elapsed().as_secs_f64() * 100.0).round() / 100.0
    }
}

pub(crate) async fn sleep(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Lets everything happen that can happen now.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_micros(1)).await;
}
