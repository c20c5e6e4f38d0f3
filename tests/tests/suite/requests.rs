//! Clients that come in plain requests, by hand.

use std::{collections::VecDeque, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, request::Builder};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use session_resume_proto::wire::{
    Close, EventReader, Inbound, PipeFrame, ServerControl, StreamItem, decode_frames,
    decode_server_text, encode_frames,
};
use session_resume_testkit::{Answer, Browser, soon};
use session_resume_tests::Testee;
use tokio::{net::TcpStream, task::JoinHandle};

pub(crate) const FRAMES: &str = "application/vnd.session-resume";

/// An answer that goes on; dropped, its connection is cut.
pub(crate) struct Streamed {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    connection: JoinHandle<()>,
}

impl Streamed {
    pub(crate) async fn ask(server: SocketAddr, browser: &Browser, request: Builder) -> Self {
        Self::ask_with(server, browser, request, "").await
    }

    /// The same with a body.
    pub(crate) async fn ask_with(
        server: SocketAddr,
        browser: &Browser,
        request: Builder,
        body: impl Into<Bytes>,
    ) -> Self {
        let authority = server.to_string();
        let mut request = request.header("host", &authority);
        let cookies = browser.cookies().header();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies);
        }
        let stream = TcpStream::connect(server).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let request = request.body(Full::new(body.into())).unwrap();
        let response = soon("the head of a stream", sender.send_request(request)).await.unwrap();
        let (parts, body) = response.into_parts();
        browser.cookies().store(&parts.headers);
        Self { status: parts.status, headers: parts.headers, body, connection }
    }

    /// The next piece as it came; `None` at the end.
    pub(crate) async fn piece(&mut self) -> Option<Bytes> {
        loop {
            let frame = soon("a piece of a stream", self.body.frame()).await?.unwrap();
            if let Ok(bytes) = frame.into_data() {
                return Some(bytes);
            }
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// One pipe, as a client holds it.
pub(crate) struct Pipe<'a> {
    pub(crate) testee: &'a Testee,
    pub(crate) browser: Browser,
    path: &'static str,
    pub(crate) nonce: String,
    pub(crate) token: String,
    /// The down frame that is wanted next.
    pub(crate) down: u64,
    /// The number of the next up frame.
    pub(crate) up: u64,
    /// What has come down and was not looked at.
    pub(crate) frames: VecDeque<PipeFrame>,
}

fn nonce() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{:011}{next:011}", std::process::id())
}

pub(crate) fn text(text: &str) -> PipeFrame {
    PipeFrame::Text(text.into())
}

pub(crate) fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl<'a> Pipe<'a> {
    pub(crate) fn new(testee: &'a Testee, browser: &Browser) -> Self {
        let (nonce, token, frames) = (nonce(), String::new(), VecDeque::default());
        Self {
            testee,
            browser: browser.clone(),
            path: "/live",
            nonce,
            token,
            down: 0,
            up: 0,
            frames,
        }
    }

    /// The same on another route.
    pub(crate) fn at(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    /// Opens it with this offer, and takes what comes with the answer.
    pub(crate) async fn open(testee: &'a Testee, browser: &Browser, at: &str) -> Pipe<'a> {
        let mut pipe = Self::new(testee, browser);
        let answer = pipe.send_open(at).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        pipe.heard(&answer);
        pipe
    }

    pub(crate) fn open_request(&self, at: &str) -> Builder {
        Request::post(self.path)
            .header("origin", format!("http://{}", self.testee.addr))
            .header("content-type", FRAMES)
            .header("session-resume-offer", format!("session-resume.v1, at.{at}"))
            .header("session-resume-pipe", &self.nonce)
    }

    pub(crate) async fn send_open(&self, at: &str) -> Answer {
        self.browser.request(self.open_request(at), "").await
    }

    pub(crate) fn get_request(&self) -> Builder {
        Request::get(self.path)
            .header("session-resume-pipe", &self.token)
            .header("session-resume-down", self.down)
    }

    /// Asks from here on, and takes what comes.
    pub(crate) async fn get(&mut self) -> Answer {
        let answer = self.browser.request(self.get_request(), "").await;
        if answer.status == 200 {
            self.heard(&answer);
        }
        answer
    }

    /// Takes an answer with frames.
    pub(crate) fn heard(&mut self, answer: &Answer) {
        only(&answer.headers, "session-resume-pipe").unwrap().clone_into(&mut self.token);
        assert_eq!(only(&answer.headers, "session-resume-down"), Some(&*self.down.to_string()));
        let frames = decode_frames(answer.body.clone()).unwrap();
        self.down += frames.len() as u64;
        self.frames.extend(frames);
    }

    /// The next frame, asked for until it is there.
    pub(crate) async fn frame(&mut self) -> PipeFrame {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return frame;
            }
            let answer = self.get().await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }

    /// The next message.
    pub(crate) async fn data(&mut self) -> String {
        loop {
            match self.frame().await {
                PipeFrame::Text(text) if text.starts_with('\u{1}') => {}
                PipeFrame::Text(text) => return text.to_string(),
                PipeFrame::Ping => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn control(&mut self) -> ServerControl {
        loop {
            match self.frame().await {
                PipeFrame::Text(text) => match decode_server_text(text) {
                    Ok(Inbound::Control(control)) => return control,
                    other => panic!("{other:?}"),
                },
                PipeFrame::Ping => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The hello, as JSON.
    pub(crate) async fn hello(&mut self) -> serde_json::Value {
        serde_json::to_value(self.control().await.hello.expect("the hello comes first")).unwrap()
    }

    pub(crate) async fn closed(&mut self) -> Close {
        loop {
            match self.frame().await {
                PipeFrame::Close(close) => return close,
                PipeFrame::Text(_) | PipeFrame::Ping => {}
                PipeFrame::Binary(bytes) => panic!("{bytes:?}"),
            }
        }
    }

    pub(crate) fn post_request(&self) -> Builder {
        Request::post(self.path)
            .header("origin", format!("http://{}", self.testee.addr))
            .header("content-type", FRAMES)
            .header("session-resume-pipe", &self.token)
            .header("session-resume-up", self.up)
            .header("session-resume-down", self.down)
    }

    /// Posts a body as it is.
    pub(crate) async fn send(&self, body: impl Into<Bytes>) -> Answer {
        self.browser.request(self.post_request(), body).await
    }

    /// Posts these, once.
    pub(crate) async fn post(&mut self, frames: &[PipeFrame]) {
        let answer = self.send(encode_frames(frames)).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
        self.up += frames.len() as u64;
        assert_eq!(only(&answer.headers, "session-resume-up"), Some(&*self.up.to_string()));
        assert_eq!(only(&answer.headers, "session-resume-pipe"), Some(&*self.token));
    }

    pub(crate) async fn say(&mut self, message: &str) {
        self.post(&[text(message)]).await;
    }

    /// Asks for a stream from here on.
    pub(crate) async fn stream(&self) -> PipeStream {
        let request = self.get_request().header("accept", "text/event-stream");
        PipeStream::new(Streamed::ask(self.testee.addr, &self.browser, request).await)
    }
}

/// The stream of a pipe.
pub(crate) struct PipeStream {
    pub(crate) answer: Streamed,
    reader: EventReader,
}

impl PipeStream {
    pub(crate) fn new(answer: Streamed) -> Self {
        Self { answer, reader: EventReader::new(4 << 20) }
    }

    pub(crate) async fn item(&mut self) -> Option<StreamItem> {
        loop {
            if let Some(item) = self.reader.next_item() {
                return Some(item);
            }
            self.reader.feed(&self.answer.piece().await?).unwrap();
        }
    }

    /// The next frame; comments are passed over.
    pub(crate) async fn frame(&mut self) -> PipeFrame {
        loop {
            match self.item().await.expect("the stream goes on") {
                StreamItem::Frame(frame) => return frame,
                StreamItem::Comment(_) => {}
            }
        }
    }
}

/// One event of a stream for readers without a client of ours.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: String,
    pub(crate) retry: String,
}

/// What an `EventSource` does.
pub(crate) struct EventSource {
    pub(crate) answer: Streamed,
    text: String,
    /// The last `id`.
    pub(crate) last: String,
}

impl EventSource {
    pub(crate) async fn open(testee: &Testee, browser: &Browser, last: Option<&str>) -> Self {
        Self::open_at(testee, browser, "/live", last).await
    }

    pub(crate) async fn open_at(
        testee: &Testee,
        browser: &Browser,
        path: &str,
        last: Option<&str>,
    ) -> Self {
        let mut request = Request::get(path).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = Streamed::ask(testee.addr, browser, request).await;
        Self { last: last.unwrap_or_default().to_owned(), ..Self::of(answer) }
    }

    /// The events of an answer.
    pub(crate) fn of(answer: Streamed) -> Self {
        Self { answer, text: String::new(), last: String::new() }
    }

    /// The next event, comments left out; `None` at the end.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let mut event = Event::default();
                let mut data = Vec::new();
                for line in block.split('\n') {
                    let (name, value) = line.split_once(':').expect("a field");
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    match name {
                        "event" => value.clone_into(&mut event.name),
                        "id" => value.clone_into(&mut event.id),
                        "retry" => value.clone_into(&mut event.retry),
                        "data" => data.push(value),
                        _ => assert_eq!(name, "", "{line:?}"),
                    }
                }
                event.data = data.join("\n");
                if !event.id.is_empty() {
                    self.last.clone_from(&event.id);
                }
                if event != Event::default() {
                    return Some(event);
                }
            }
            let piece = self.answer.piece().await?;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// The next message's data.
    pub(crate) async fn message(&mut self) -> String {
        loop {
            let event = self.event().await.expect("the stream goes on");
            if event.name.is_empty() && event.retry.is_empty() {
                return event.data;
            }
        }
    }

    /// The next event of this name.
    pub(crate) async fn named(&mut self, name: &str) -> Event {
        loop {
            let event = self.event().await.expect("the stream goes on");
            if event.name == name {
                return event;
            }
        }
    }
}
