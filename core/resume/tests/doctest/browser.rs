// A browser in memory, for the examples of the docs: `mod browser { include!(..); }`.

use std::time::Duration;

use http::{Request, request::Parts};
use session_resume::{
    IntoOutcome, LiveSession, Session, SessionResume,
    adapter::{self, Accepted, Upgrade},
};
use session_resume_testkit::transport::{ClientEnd, behind, pair};

/// Keeps its cookie.
#[derive(Default)]
pub struct Browser {
    cookie: Option<String>,
}

impl Browser {
    /// Sends a request, and returns the session that its handler extracts.
    pub async fn get<T: Send + 'static>(&mut self, resume: &SessionResume<T>) -> Session<T> {
        adapter::open(&self.request(resume, Request::get("/")).await).await.unwrap()
    }

    /// Opens a plain WebSocket.
    pub async fn open<T, F, Fut>(
        &mut self,
        resume: &SessionResume<T>,
        request: http::request::Builder,
        handler: F,
    ) -> Tab
    where
        T: Send + 'static,
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        if self.cookie.is_none() {
            self.get(resume).await;
        }
        let parts = self.request(resume, request).await;
        let upgrade = Upgrade::<T>::prepare(&parts).await.unwrap();
        Tab::run(upgrade.on_session(handler).unwrap())
    }

    /// Sends a request, and returns it as its handler sees it.
    pub async fn request<T: Send + 'static>(
        &mut self,
        resume: &SessionResume<T>,
        request: http::request::Builder,
    ) -> Parts {
        behind(resume, &mut self.cookie, request).await
    }
}

/// The page's end of a WebSocket. Dropping it breaks the connection.
pub struct Tab {
    wire: ClientEnd,
}

impl Tab {
    /// Opens the page's end of an upgrade.
    pub fn run<T, F, Fut>(accepted: Accepted<T, F>) -> Self
    where
        T: Send + 'static,
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        let (socket, wire) = pair();
        tokio::spawn(accepted.run(socket));
        Self { wire }
    }

    /// Returns the code and the reason with which it is closed.
    pub async fn closed(&mut self) -> (u16, String) {
        self.wire.closed().await
    }

    pub fn send(&self, text: &str) {
        self.wire.text(text);
    }

    /// Returns the next text message.
    pub async fn receive(&mut self) -> String {
        tokio::time::timeout(Duration::from_secs(5), self.wire.next_text()).await.expect("a message")
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.wire.finish();
    }
}
