//! The application in memory: what a visitor was promised.

use std::time::Duration;

use serde_json::{Value, json};
use session_resume::SessionResume;
use session_resume_testkit::{Browser, Socket, TestServer, until};

use crate::{app, state::Dashboard};

/// Fast, so that a test need not wait for something to miss.
const TICK: Duration = Duration::from_millis(2);

/// The application.
struct App {
    server: TestServer,
    resume: SessionResume<Dashboard>,
}

impl App {
    fn start() -> Self {
        let resume = SessionResume::new().with_state::<Dashboard>();
        let layer = resume.clone();
        let server = TestServer::new(move || app::router(layer.clone(), TICK));
        Self { server, resume }
    }

    /// Visits the page for the first time; returns it, too.
    async fn visitor(&self) -> (Browser, String) {
        let browser = self.server.browser();
        let html = html_of(&browser).await;
        (browser, html)
    }

    /// Waits until no page is attached and `n` live values were sent that no page has seen.
    async fn miss_ticks(&self, session: &str, n: u64) {
        let session = self.resume.get(session.parse().unwrap()).unwrap();
        until("no page is attached", async || session.info().transports == 0).await;
        let last = session.read(|dashboard| dashboard.ticks) + n;
        until("live values", async || session.read(|dashboard| dashboard.ticks) >= last).await;
    }
}

async fn html_of(browser: &Browser) -> String {
    browser.get("/").await.text().to_owned()
}

/// One open page.
struct Page {
    socket: Socket,
    /// The live values received, in order: number, and whether no page was there.
    ticks: Vec<(u64, bool)>,
}

impl Page {
    async fn open(browser: &Browser) -> Self {
        Self { socket: browser.plain("/live").await, ticks: Vec::new() }
    }

    /// Receives one message; a live value is written down instead of returned.
    async fn receive(&mut self) -> Option<Value> {
        assert!(self.ticks.len() < 2_000, "live values and nothing else");
        let message: Value = serde_json::from_str(&self.socket.recv().await).unwrap();
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
        self.socket.send(command).await;
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

#[tokio::test(start_paused = true)]
async fn a_plot_survives_a_dropped_socket_and_a_reload() {
    let app = App::start();
    let (browser, first) = app.visitor().await;
    assert!(first.contains(r#"<code id="origin">new</code>"#), "{first}");
    let mut page = Page::open(&browser).await;
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
    let mut page = Page::open(&browser).await;
    let same = |view: &Value| {
        ["session", "selected", "options", "plot"].iter().all(|part| view[part] == plotted[part])
    };
    page.view_with(same).await;

    let again = html_of(&browser).await;
    assert!(again.contains(r#"<code id="origin">reused</code>"#) && again.contains(&session));
    assert_eq!(ticked(&again), ["wind-sea", "solar"]);
}

#[tokio::test(start_paused = true)]
async fn ticks_missed_are_replayed_in_order_and_none_is_lost() {
    let app = App::start();
    let (browser, _) = app.visitor().await;
    let mut page = Page::open(&browser).await;
    let session = page.next().await["view"]["session"].as_str().unwrap().to_owned();
    page.ticks_until(3).await;
    let seen = page.ticks.last().unwrap().0;
    drop(page);
    app.miss_ticks(&session, 5).await;

    let mut page = Page::open(&browser).await;
    page.ticks_until(seen + 10).await;
    let numbers: Vec<_> = page.ticks.iter().map(|(number, _)| *number).collect();
    assert!(numbers[0] <= seen + 1, "{numbers:?} after {seen}");
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert!(page.ticks.iter().filter(|(_, away)| *away).count() >= 5, "{:?}", page.ticks);
}

#[tokio::test(start_paused = true)]
async fn another_identity_has_a_session_of_its_own() {
    let app = App::start();
    let (one, _) = app.visitor().await;
    let (other, html) = app.visitor().await;
    let mut page = Page::open(&one).await;
    page.next().await;
    let view = page.command(r#"{"select":["gas"]}"#).await["view"].take();
    page.command(r#"{"plot":true}"#).await;

    let theirs = Page::open(&other).await.next().await["view"].take();
    assert_ne!(theirs["session"], view["session"]);
    assert_ne!(theirs["identity"], view["identity"]);
    assert_eq!((&theirs["selected"], &theirs["plot"]), (&json!([]), &Value::Null));
    assert!(html.contains(theirs["session"].as_str().unwrap()));
    assert!(ticked(&html_of(&other).await).is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_second_tab_takes_over_and_the_first_is_told() {
    let app = App::start();
    let (browser, _) = app.visitor().await;
    let mut first = Page::open(&browser).await;
    first.next().await;
    first.command(r#"{"select":["hydro"]}"#).await;
    let mut second = Page::open(&browser).await;
    second.view_with(|view| view["selected"] == json!(["hydro"])).await;
    assert_eq!(first.socket.closed().await.code, 4100);
    second.socket.send(r#"{"select":["rail"]}"#).await;
    second.view_with(|view| view["selected"] == json!(["rail"])).await;
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_answered_and_the_session_goes_on() {
    let app = App::start();
    let (browser, _) = app.visitor().await;
    let mut page = Page::open(&browser).await;
    page.next().await;
    let huge = format!(r#"{{"select":["{}"]}}"#, "x".repeat(900_000));
    for command in ["", "nonsense", r#"{"select":[1]}"#, r#"{"plot":true}"#, &huge] {
        let answer = page.command(command).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(!error.is_empty() && error.len() < 1_000, "{answer}");
    }
    page.socket.send(vec![0xff, 0x00]).await;
    assert!(page.next().await["error"].is_string());
    let view = page.command(r#"{"select":["rail"]}"#).await;
    assert_eq!(view["view"]["selected"], json!(["rail"]));
}

#[tokio::test(start_paused = true)]
async fn pages_are_served_with_a_policy_and_never_from_a_cache() {
    let app = App::start();
    let browser = app.server.browser();
    let page = browser.get("/").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").next().unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert_eq!(page.header("cache-control").next(), Some("no-store"));
    for (path, content_type) in [
        ("/dashboard.js", "text/javascript"),
        ("/session-resume.js", "text/javascript"),
        ("/session-resume-notify.js", "text/javascript"),
        ("/style.css", "text/css"),
    ] {
        let file = browser.get(path).await;
        assert_eq!(file.status, 200, "{path}");
        assert!(file.header("content-type").next().unwrap().starts_with(content_type), "{file:?}");
    }
}
