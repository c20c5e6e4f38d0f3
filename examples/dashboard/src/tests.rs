//! The application over real sockets: what a visitor was promised.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use session_resume::SessionResume;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{app, state::Dashboard};

/// Fast, so that a test need not wait for something to miss.
const TICK: Duration = Duration::from_millis(2);

/// Only a broken application takes this long.
const HANGS: Duration = Duration::from_secs(60);

/// The application on a port of its own.
struct App {
    address: String,
    resume: SessionResume<Dashboard>,
}

impl App {
    async fn start() -> Self {
        let resume = SessionResume::new().with_state::<Dashboard>();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // Ends with the test's runtime.
        tokio::spawn(axum::serve(listener, app::router(resume.clone(), TICK)).into_future());
        Self { address, resume }
    }

    /// Waits until no page is attached and `n` live values were sent that no page has seen.
    async fn miss_ticks(&self, session: &str, n: u64) {
        let session = self.resume.get(session.parse().unwrap()).unwrap();
        let missed = async {
            while session.info().transports > 0 {
                tokio::task::yield_now().await;
            }
            let until = session.read(|dashboard| dashboard.ticks) + n;
            while session.read(|dashboard| dashboard.ticks) < until {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(HANGS, missed).await.expect("the session ticks on without a page");
    }
}

/// A browser profile: keeps its cookie.
struct Browser<'a> {
    app: &'a App,
    cookie: String,
}

impl<'a> Browser<'a> {
    /// Visits the page for the first time.
    async fn new(app: &'a App) -> (Self, String) {
        let mut browser = Self { app, cookie: String::new() };
        let answer = browser.get("/").await;
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        cookie.split(';').next().unwrap().clone_into(&mut browser.cookie);
        (browser, answer)
    }

    async fn get(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(&self.app.address).await.unwrap();
        let cookie = &self.cookie;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n",
            self.app.address
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn open(&self) -> Page {
        let url = format!("ws://{}/live", self.app.address);
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("cookie", self.cookie.parse().unwrap());
        let (socket, _) = connect_async(request).await.unwrap();
        Page { socket, ticks: Vec::new() }
    }
}

/// One open page.
struct Page {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The live values received, in order: number, and whether no page was there.
    ticks: Vec<(u64, bool)>,
}

impl Page {
    /// Receives one message; a live value is written down instead of returned.
    async fn receive(&mut self) -> Option<Value> {
        assert!(self.ticks.len() < 2_000, "live values and nothing else");
        let text = match self.socket.next().await.unwrap().unwrap() {
            Message::Text(text) => text,
            Message::Ping(_) => return None,
            other => panic!("unexpected {other:?}"),
        };
        let message: Value = serde_json::from_str(&text).unwrap();
        let tick = &message["tick"];
        let Some(number) = tick["number"].as_u64() else { return Some(message) };
        self.ticks.push((number, tick["away"] == true));
        None
    }

    /// Receives the next message that is not a live value.
    async fn next(&mut self) -> Value {
        loop {
            if let Some(message) = self.receive().await {
                return message;
            }
        }
    }

    /// Receives up to a view that is as it should be: a page that comes back may first get earlier views
    /// again.
    async fn view_with(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            let view = self.next().await["view"].take();
            if is(&view) {
                return view;
            }
        }
    }

    async fn command(&mut self, command: &str) -> Value {
        self.socket.send(Message::text(command)).await.unwrap();
        self.next().await
    }

    /// Receives up to a live value with at least this number.
    async fn ticks_until(&mut self, number: u64) {
        while self.ticks.last().is_none_or(|(last, _)| *last < number) {
            self.receive().await;
        }
    }
}

/// The rows that are ticked in the HTML, before any script has run.
fn ticked(html: &str) -> Vec<&str> {
    let inputs = html.split("<input ").skip(1).filter(|input| {
        input.split('>').next().is_some_and(|attributes| attributes.ends_with(" checked"))
    });
    inputs.map(|input| input.split("value=\"").nth(1).unwrap().split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn a_plot_survives_a_dropped_socket_and_a_reload() {
    let app = App::start().await;
    let (browser, first) = Browser::new(&app).await;
    assert!(first.contains(r#"<code id="origin">new</code>"#), "{first}");
    let mut page = browser.open().await;
    let view = page.next().await["view"].take();
    assert_eq!((&view["selected"], &view["plot"]), (&json!([]), &Value::Null));
    let session = view["session"].as_str().unwrap().to_owned();
    assert!(first.contains(&session), "the page and the socket meet in one session");

    let view = page.command(r#"{"select":["solar","wind-sea"]}"#).await["view"].take();
    assert_eq!(view["selected"], json!(["wind-sea", "solar"]));
    page.command(r#"{"options":{"range":"quarter","scale":"index"}}"#).await;
    let plotted = page.command(r#"{"plot":true}"#).await["view"].take();
    let svg = plotted["plot"]["svg"].as_str().unwrap();
    assert!(svg.starts_with("<svg ") && svg.matches("<polyline ").count() == 2, "{svg}");

    // At live value 200 the view has been acknowledged: it is not replayed, but sent anew.
    page.ticks_until(200).await;
    drop(page);
    app.miss_ticks(&session, 5).await;
    let mut page = browser.open().await;
    let same = |view: &Value| {
        ["session", "selected", "options", "plot"].iter().all(|part| view[part] == plotted[part])
    };
    page.view_with(same).await;

    let again = browser.get("/").await;
    assert!(again.contains(r#"<code id="origin">reused</code>"#) && again.contains(&session));
    assert_eq!(ticked(&again), ["wind-sea", "solar"]);
}

#[tokio::test]
async fn ticks_missed_are_replayed_in_order_and_none_is_lost() {
    let app = App::start().await;
    let (browser, _) = Browser::new(&app).await;
    let mut page = browser.open().await;
    let session = page.next().await["view"]["session"].as_str().unwrap().to_owned();
    page.ticks_until(3).await;
    let seen = page.ticks.last().unwrap().0;
    drop(page);
    app.miss_ticks(&session, 5).await;

    let mut page = browser.open().await;
    page.ticks_until(seen + 10).await;
    let numbers: Vec<_> = page.ticks.iter().map(|(number, _)| *number).collect();
    assert!(numbers[0] <= seen + 1, "{numbers:?} after {seen}");
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert!(page.ticks.iter().filter(|(_, away)| *away).count() >= 5, "{:?}", page.ticks);
}

#[tokio::test]
async fn another_identity_has_a_session_of_its_own() {
    let app = App::start().await;
    let (one, _) = Browser::new(&app).await;
    let (other, html) = Browser::new(&app).await;
    let mut page = one.open().await;
    page.next().await;
    let view = page.command(r#"{"select":["gas"]}"#).await["view"].take();
    page.command(r#"{"plot":true}"#).await;

    let theirs = other.open().await.next().await["view"].take();
    assert_ne!(theirs["session"], view["session"]);
    assert_ne!(theirs["identity"], view["identity"]);
    assert_eq!((&theirs["selected"], &theirs["plot"]), (&json!([]), &Value::Null));
    assert!(html.contains(theirs["session"].as_str().unwrap()));
    assert!(ticked(&other.get("/").await).is_empty());
}

#[tokio::test]
async fn the_second_tab_takes_over_and_the_first_is_told() {
    let app = App::start().await;
    let (browser, _) = Browser::new(&app).await;
    let mut first = browser.open().await;
    first.next().await;
    first.command(r#"{"select":["hydro"]}"#).await;
    let mut second = browser.open().await;
    second.view_with(|view| view["selected"] == json!(["hydro"])).await;
    let close = loop {
        if let Message::Close(close) = first.socket.next().await.unwrap().unwrap() {
            break close.unwrap();
        }
    };
    assert_eq!(u16::from(close.code), 4100);
    second.socket.send(Message::text(r#"{"select":["rail"]}"#)).await.unwrap();
    second.view_with(|view| view["selected"] == json!(["rail"])).await;
}

#[tokio::test]
async fn nonsense_is_answered_and_the_session_goes_on() {
    let app = App::start().await;
    let (browser, _) = Browser::new(&app).await;
    let mut page = browser.open().await;
    page.next().await;
    let huge = format!(r#"{{"select":["{}"]}}"#, "x".repeat(900_000));
    for command in ["", "nonsense", r#"{"select":[1]}"#, r#"{"plot":true}"#, &huge] {
        let answer = page.command(command).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(!error.is_empty() && error.len() < 1_000, "{answer}");
    }
    page.socket.send(Message::binary(vec![0xff, 0x00])).await.unwrap();
    assert!(page.next().await["error"].is_string());
    let view = page.command(r#"{"select":["rail"]}"#).await;
    assert_eq!(view["view"]["selected"], json!(["rail"]));
}

#[tokio::test]
async fn pages_are_served_with_a_policy_and_never_from_a_cache() {
    let app = App::start().await;
    let (browser, page) = Browser::new(&app).await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'"), "{page}");
    assert!(page.contains("cache-control: no-store"), "{page}");
    for (path, content_type) in [
        ("/dashboard.js", "text/javascript"),
        ("/session-resume.js", "text/javascript"),
        ("/session-resume-notify.js", "text/javascript"),
        ("/style.css", "text/css"),
    ] {
        let file = browser.get(path).await;
        assert!(file.starts_with("HTTP/1.1 200") && file.contains(content_type), "{file}");
    }
}
