// A browser in memory, for the examples of the docs: `mod browser { include!(..); }`.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Sink, Stream};
use http::{Request, Response, header, request::Parts};
use session_resume::{
    IntoOutcome, LiveSession, Session, SessionResume,
    adapter::{self, Upgrade},
    transport::{Frame, TransportError},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower::{Layer as _, ServiceExt as _, service_fn};

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
        let ((to_tab, from_server), (to_server, from_tab)) = (unbounded_channel(), unbounded_channel());
        tokio::spawn(upgrade.on_session(handler).unwrap().run(Socket { to_tab, from_tab }));
        Tab { to_server, from_server }
    }

    async fn request<T: Send + 'static>(
        &mut self,
        resume: &SessionResume<T>,
        mut request: http::request::Builder,
    ) -> Parts {
        request = request.header("sec-fetch-mode", "navigate");
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let seen = Arc::new(Mutex::new(None));
        let handler_sees = Arc::clone(&seen);
        let service = resume.clone().layer(service_fn(move |request: Request<()>| {
            *handler_sees.lock().unwrap() = Some(request.into_parts().0);
            let page = Response::builder().header(header::CONTENT_TYPE, "text/html").body(());
            async { Ok::<_, Infallible>(page.unwrap()) }
        }));
        let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
        if let Some(cookie) = response.headers().get(header::SET_COOKIE) {
            self.cookie = Some(cookie.to_str().unwrap().split(';').next().unwrap().to_owned());
        }
        let parts = seen.lock().unwrap().take();
        parts.expect("the layer has called the service")
    }
}

/// The page's end of a WebSocket. Dropping it breaks the connection.
pub struct Tab {
    to_server: UnboundedSender<Frame>,
    from_server: UnboundedReceiver<Frame>,
}

impl Tab {
    pub fn send(&self, text: &str) {
        self.to_server.send(Frame::Text(text.into())).unwrap();
    }

    /// Returns the next text message; answers pings.
    pub async fn receive(&mut self) -> String {
        loop {
            match tokio::time::timeout(Duration::from_secs(5), self.from_server.recv()).await {
                Ok(Some(Frame::Text(text))) => return text.to_string(),
                Ok(Some(Frame::Ping(payload))) => self.to_server.send(Frame::Pong(payload)).unwrap(),
                other => panic!("expected a message, got {other:?}"),
            }
        }
    }
}

struct Socket {
    to_tab: UnboundedSender<Frame>,
    from_tab: UnboundedReceiver<Frame>,
}

impl Stream for Socket {
    type Item = Result<Frame, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.from_tab.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

impl Sink<Frame> for Socket {
    type Error = TransportError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> Result<(), TransportError> {
        // A tab that is gone reads nothing.
        let _ = self.to_tab.send(frame);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }
}
