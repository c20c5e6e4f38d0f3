//! The client against a real server over HTTP, on a network that lets through what a test says.

use std::{
    future::{pending, ready},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, any},
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use session_resume::{Http, SessionResume};
use session_resume_axum::ResumeConnection;
use session_resume_client::{
    Backoff, Builder, Cause, Client, ConnectError, Event, Message, Request as Prepared, Status,
    Transport,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, copy_bidirectional, duplex},
    net::TcpListener,
    task::AbortHandle,
    time::{Instant, timeout},
};

const ALL: [Transport; 3] = [Transport::WebSocket, Transport::Sse, Transport::Poll];
const PIPE: &str = "session-resume-pipe";

/// A server in memory and the network before it.
#[derive(Clone)]
struct Net(Arc<Inner>);

struct Inner {
    app: Router,
    way: Arc<Way>,
    /// A connection each.
    relays: Mutex<Vec<AbortHandle>>,
}

/// What passes.
#[derive(Default)]
struct Way(Mutex<Rules>, Counts);

#[derive(Clone, Default)]
struct Rules {
    down: bool,
    web_socket: WebSockets,
    /// Streams are held back to their end.
    holds_streams: bool,
    /// Of this many answers to requests one is dropped after the server has given it; 0: none.
    drops_one_of: usize,
    /// Each request is answered with this, and the server never sees it.
    status: Option<StatusCode>,
    /// The next post is answered with this, in the name of the server.
    next_post: Option<StatusCode>,
    /// Each opening is answered with this, and names no pipe.
    status_of_opens: Option<StatusCode>,
    /// The server dies after the head of its answer to the next opening: what follows asks for a pipe that is not there.
    dies_before_hello: bool,
}

#[derive(Clone, Copy, Default)]
enum WebSockets {
    #[default]
    Pass,
    Refused,
    /// The upgrade is never answered.
    Mute,
}

#[derive(Default)]
struct Counts {
    requests: AtomicUsize,
    upgrades: AtomicUsize,
    /// The header `ticket` of each upgrade and each other request.
    tickets: Mutex<Vec<(Asks, String)>>,
}

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asks {
    Upgrade,
    Http,
}

impl Net {
    fn new() -> Self {
        Self::of(any(live))
    }

    /// Before a server with this route.
    fn of(route: MethodRouter) -> Self {
        let way = Arc::new(Way::default());
        let http = Http::default().with_hold(Duration::from_secs(2));
        let app = Router::new()
            .route("/live", route)
            .layer(SessionResume::new().with_http(http))
            .layer(middleware::from_fn_with_state(Arc::clone(&way), proxy));
        Self(Arc::new(Inner { app, way, relays: Mutex::default() }))
    }

    fn set(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.0.way.rules());
    }

    fn requests(&self) -> usize {
        self.0.way.1.requests.load(Ordering::Relaxed)
    }

    /// A client that comes back within milliseconds.
    fn client(&self, transports: impl IntoIterator<Item = Transport>) -> Builder {
        let net = self.clone();
        Client::builder("ws://server/live")
            .with_backoff(Backoff {
                first: Duration::from_millis(1),
                max: Duration::from_millis(20),
            })
            .with_connector(move |_| {
                let net = net.clone();
                async move { net.connect() }
            })
            .transports(transports)
    }

    fn connect(&self) -> io::Result<DuplexStream> {
        if self.0.way.rules().down {
            return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
        }
        let (client, mut near) = duplex(1 << 16);
        let (mut far, server) = duplex(1 << 16);
        let relay = tokio::spawn(async move {
            let _ = copy_bidirectional(&mut near, &mut far).await;
        });
        lock(&self.0.relays).push(relay.abort_handle());
        tokio::spawn(serve(server, self.0.app.clone()));
        Ok(client)
    }

    /// Cuts every connection.
    fn cut(&self) {
        lock(&self.0.relays).drain(..).for_each(|relay| relay.abort());
    }
}

impl Way {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        lock(&self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, app: Router) {
    let service = TowerToHyperService::new(app);
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = connection.with_upgrades().await;
}

async fn proxy(State(way): State<Arc<Way>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let upgrades = headers.contains_key(header::UPGRADE);
    let streams = headers.get(header::ACCEPT).is_some_and(|accept| accept == "text/event-stream");
    let posts = headers.contains_key("session-resume-up");
    let pipe = headers.get(PIPE).cloned();
    let opens = headers.contains_key("session-resume-offer");
    let rules = way.rules().clone();
    let ticket = headers.get("ticket").map_or("none", |ticket| ticket.to_str().unwrap());
    let asks = if upgrades { Asks::Upgrade } else { Asks::Http };
    lock(&way.1.tickets).push((asks, ticket.to_owned()));
    if let Some(status) = rules.status {
        return status.into_response();
    }
    if opens && let Some(status) = rules.status_of_opens {
        return status.into_response();
    }
    if upgrades {
        way.1.upgrades.fetch_add(1, Ordering::Relaxed);
        match rules.web_socket {
            WebSockets::Pass => {}
            WebSockets::Refused => return StatusCode::FORBIDDEN.into_response(),
            WebSockets::Mute => pending().await,
        }
        return next.run(request).await;
    }
    let number = 1 + way.1.requests.fetch_add(1, Ordering::Relaxed);
    if posts && let Some(status) = way.rules().next_post.take() {
        return (status, [(PIPE, pipe.unwrap_or(HeaderValue::from_static("")))]).into_response();
    }
    if rules.dies_before_hello
        && let Some(pipe) = pipe.filter(|_| !opens)
    {
        way.rules().dies_before_hello = false;
        return (StatusCode::GONE, [(PIPE, pipe)]).into_response();
    }
    let mut response = next.run(request).await;
    if rules.dies_before_hello {
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    if rules.drops_one_of > 0 && number.is_multiple_of(rules.drops_one_of) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    if streams && rules.holds_streams {
        pending::<()>().await;
    }
    response
}

/// Answers each message with how many it has had.
async fn live(connection: ResumeConnection) -> Response {
    connection
        .on_session(|mut session| async move {
            let mut had = 0;
            while let Some(message) = session.recv().await {
                let answer = match message {
                    Message::Text(text) => Message::text(format!("{had}:{text}")),
                    Message::Binary(bytes) => Message::binary(bytes),
                };
                session.send(answer).await?;
                had += 1;
            }
            Ok(())
        })
        .await
}

/// An application that tells what is lost, doubled or swapped.
struct App {
    client: Client,
    sent: u64,
    heard: u64,
    opened: Vec<Status>,
}

impl App {
    async fn open(builder: Builder) -> Self {
        let client = soon(builder.connect()).await.unwrap();
        Self { client, sent: 0, heard: 0, opened: Vec::new() }
    }

    async fn send(&mut self, count: u64) {
        for _ in 0..count {
            self.client.send(format!("m{}", self.sent)).await.unwrap();
            self.sent += 1;
        }
    }

    /// Takes the answers to everything.
    async fn hear(&mut self) {
        while self.heard < self.sent {
            self.hear_one().await;
        }
    }

    async fn hear_one(&mut self) {
        match soon(self.client.recv_event()).await {
            Some(Event::Message(message)) => {
                let expected = format!("{0}:m{0}", self.heard);
                assert_eq!(message.as_text(), Some(expected.as_str()));
                self.heard += 1;
            }
            Some(Event::Open { status, .. }) => self.opened.push(status),
            Some(Event::Connecting | Event::Waiting { .. }) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Sends and hears one message after another, until the client comes that way.
    async fn until(&mut self, transport: Transport) {
        let start = Instant::now();
        while self.client.transport() != Some(transport) {
            let comes = self.client.transport();
            assert!(start.elapsed() < Duration::from_secs(600), "it comes by {comes:?}");
            self.send(1).await;
            self.hear().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn close(self) {
        assert_eq!(soon(self.client.close()).await, Ok(()));
    }
}

/// Waits longer than any rule of the protocol does.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(120), future).await.expect("something happens")
}

/// A client that comes this way talks, and all is exact, in one session.
async fn talks(
    net: &Net,
    ways: impl IntoIterator<Item = Transport>,
    by: Transport,
    count: u64,
) -> App {
    let mut app = App::open(net.client(ways)).await;
    assert_eq!(app.client.transport(), Some(by));
    app.send(count).await;
    app.hear().await;
    assert_eq!(app.opened, [Status::New]);
    app
}

#[tokio::test(start_paused = true)]
async fn where_web_sockets_are_refused_a_session_is_exact_over_a_stream() {
    let net = Net::new();
    net.set(|rules| rules.web_socket = WebSockets::Refused);
    talks(&net, ALL, Transport::Sse, 1000).await.close().await;
}

#[tokio::test(start_paused = true)]
async fn polls_alone_carry_a_session() {
    let net = Net::new();
    let mut app = talks(&net, [Transport::Poll], Transport::Poll, 1000).await;
    // Binary and long messages, too.
    for message in [vec![], vec![0; 1 << 20]] {
        let message = Message::binary(message);
        app.client.send(message.clone()).await.unwrap();
        assert_eq!(soon(app.client.recv()).await, Some(message));
    }
    assert_eq!(app.opened, [Status::New]);
    assert_eq!(net.0.way.1.upgrades.load(Ordering::Relaxed), 0);
    app.close().await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_dropped_cost_no_message_and_no_transport() {
    for transport in [Transport::Sse, Transport::Poll] {
        let net = Net::new();
        net.set(|rules| rules.drops_one_of = 3);
        let mut app = App::open(net.client([transport])).await;
        for _ in 0..100 {
            app.send(3).await;
            app.hear().await;
        }
        assert_eq!(app.opened, [Status::New], "{transport:?}");
        app.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_cut_cost_no_message_and_no_transport() {
    for transport in [Transport::Sse, Transport::Poll] {
        let net = Net::new();
        let mut app = App::open(net.client([transport])).await;
        for round in 0..100 {
            app.send(5).await;
            // At another point of the exchange each time.
            for _ in 0..round % 23 {
                tokio::task::yield_now().await;
            }
            net.cut();
            app.hear().await;
        }
        assert_eq!(app.opened, [Status::New], "{transport:?}");
        app.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_web_socket_that_is_mute_is_given_up_where_the_server_answers() {
    let net = Net::new();
    net.set(|rules| rules.web_socket = WebSockets::Mute);
    let start = Instant::now();
    let mut app = App::open(net.client(ALL)).await;
    assert_eq!(app.client.transport(), Some(Transport::Sse));
    // The clock of the test runs only while nothing else does.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    app.send(10).await;
    app.hear().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_held_back_becomes_polls_on_the_same_pipe() {
    let net = Net::new();
    net.set(|rules| {
        rules.web_socket = WebSockets::Refused;
        rules.holds_streams = true;
    });
    talks(&net, ALL, Transport::Poll, 100).await.close().await;
}

#[tokio::test(start_paused = true)]
async fn one_session_goes_from_way_to_way_and_back() {
    let net = Net::new();
    let mut app = App::open(net.client(ALL)).await;
    assert_eq!(app.client.transport(), Some(Transport::WebSocket));
    for path in [Transport::Sse, Transport::Poll, Transport::Poll] {
        app.send(100).await;
        net.set(|rules| rules.web_socket = WebSockets::Refused);
        net.cut();
        // A client does not try a stream again where streams were held back.
        app.until(path).await;
        app.send(100).await;
        net.set(|rules| rules.holds_streams = true);
        net.cut();
        app.until(Transport::Poll).await;
        app.send(100).await;
        net.set(|rules| *rules = Rules::default());
        // By a probe: nothing is cut.
        app.until(Transport::WebSocket).await;
        app.hear().await;
    }
    assert_eq!(app.opened[0], Status::New);
    assert!(app.opened[1..].iter().all(|status| *status == Status::Resumed), "{:?}", app.opened);
    app.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_says_nothing_about_ways() {
    let net = Net::new();
    let mut app = App::open(net.client(ALL)).await;
    net.set(|rules| rules.down = true);
    net.cut();
    app.send(10).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    net.set(|rules| rules.down = false);
    app.hear().await;
    // The attempt that was under way may have been one over HTTP. The probe goes back.
    app.until(Transport::WebSocket).await;
    assert!(app.opened[1..].iter().all(|status| *status == Status::Resumed), "{:?}", app.opened);
    app.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_the_server_does_not_know_any_more_is_followed_by_another() {
    let net = Net::new();
    let mut app = App::open(net.client([Transport::Sse])).await;
    app.send(10).await;
    app.hear().await;
    net.set(|rules| rules.next_post = Some(StatusCode::GONE));
    app.send(10).await;
    app.hear().await;
    assert_eq!(app.opened, [Status::New, Status::Resumed]);
    app.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_before_its_hello_refuses_nobody() {
    for transport in [Transport::Sse, Transport::Poll] {
        let net = Net::new();
        let mut app = App::open(net.client([transport])).await;
        net.set(|rules| {
            rules.next_post = Some(StatusCode::GONE);
            rules.dies_before_hello = true;
        });
        app.send(10).await;
        app.hear().await;
        assert!(!net.0.way.rules().dies_before_hello, "it has asked for the pipe that is gone");
        assert_eq!(app.opened, [Status::New, Status::Resumed]);
        app.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pipe_of_another_identity_refuses_nobody() {
    let net = Net::new();
    let mut app = App::open(net.client([Transport::Sse])).await;
    net.set(|rules| {
        rules.next_post = Some(StatusCode::GONE);
        rules.status_of_opens = Some(StatusCode::GONE);
    });
    app.send(10).await;
    // As long as an opening is repeated, and longer.
    tokio::time::sleep(Duration::from_secs(60)).await;
    net.set(|rules| rules.status_of_opens = None);
    app.hear().await;
    app.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_goes_on_as_another_client_and_is_told_what_is_in_doubt() {
    let net = Net::new();
    let mut app = App::open(net.client([Transport::Poll])).await;
    app.send(1).await;
    app.hear().await;
    // The server acknowledges what it has.
    tokio::time::sleep(Duration::from_secs(60)).await;
    net.set(|rules| rules.next_post = Some(StatusCode::CONFLICT));
    app.client.send("doubtful").await.unwrap();
    let doubtful = loop {
        match soon(app.client.recv_event()).await {
            Some(Event::InDoubt(messages)) => break messages,
            Some(Event::Connecting | Event::Waiting { .. } | Event::Open { .. }) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(doubtful, ["doubtful".into()]);
    app.client.send("after").await.unwrap();
    let answer = soon(app.client.recv()).await.unwrap();
    assert!(answer.as_text().unwrap().ends_with(":after"), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_status_that_a_repetition_does_not_change_stops_the_client() {
    let net = Net::new();
    net.set(|rules| rules.status = Some(StatusCode::UNAUTHORIZED));
    for transports in [&ALL[..], &[Transport::Poll]] {
        let cause = match soon(net.client(transports.iter().copied()).connect()).await {
            Err(ConnectError::Failed { cause }) => cause,
            other => panic!("{other:?}"),
        };
        assert_eq!(cause, Cause::Http { status: 401, retry_after: None });
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_limit_ends_the_pipe_and_not_the_client() {
    for transport in [Transport::Sse, Transport::Poll] {
        let net = Net::new();
        let builder = net.client([transport]).with_max_received(1000);
        let mut client = soon(builder.connect()).await.unwrap();
        client.send(vec![0; 100_000]).await.unwrap();
        loop {
            match soon(client.recv_event()).await {
                Some(Event::Waiting { cause: Cause::TooBig, .. }) => break,
                Some(Event::Connecting | Event::Open { .. } | Event::Waiting { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_uses_what_it_was_given_until_the_next_and_a_look_asks_anew() {
    let net = Net::new();
    net.set(|rules| rules.web_socket = WebSockets::Refused);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let attempts = Arc::clone(&asked);
    let builder = net.client(ALL).with_request(move |attempt| {
        let mut attempts = lock(&attempts);
        attempts.push((attempt.number(), attempt.is_look()));
        // The second look is not made.
        let request = match attempts.len() {
            3 => Err("no ticket"),
            count => Ok(Prepared::new().with_header("ticket", &count.to_string())),
        };
        async move { request }
    });
    let start = Instant::now();
    let mut app = App::open(builder).await;
    // A look at once, for the server may just have come back; one at 5 s that is not made; the next one passes.
    while app.client.transport() == Some(Transport::Sse) && start.elapsed().as_secs() < 34 {
        app.send(1).await;
        app.hear().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(*lock(&asked), [(1, false), (0, true), (0, true)]);
    net.set(|rules| *rules = Rules::default());
    app.until(Transport::WebSocket).await;
    assert_eq!(lock(&asked)[3..], [(0, true), (1, false)]);
    let tickets_of = |what| -> Vec<_> {
        let tickets = lock(&net.0.way.1.tickets).clone();
        let of = tickets.into_iter().filter(|(asks, _)| *asks == what).map(|(_, ticket)| ticket);
        of.collect()
    };
    assert_eq!(tickets_of(Asks::Upgrade), ["1", "2", "4", "5"]);
    let mut over_http = tickets_of(Asks::Http);
    over_http.dedup();
    assert_eq!(over_http, ["1"], "no request goes without, and none with another");
    app.close().await;
}

/// A login that a client renews.
#[derive(Default)]
struct Login {
    /// The newest ticket. No other one is good.
    issued: AtomicUsize,
    /// The tickets with which upgrades came.
    used: Mutex<Vec<usize>>,
}

/// The time of the server's tickets does not stand still while a test does.
#[tokio::test]
async fn a_client_whose_credentials_run_out_comes_back_with_fresh_ones_and_misses_nothing() {
    const GOOD_FOR: Duration = Duration::from_millis(50);

    async fn with_ticket(
        login: Arc<Login>,
        headers: HeaderMap,
        connection: ResumeConnection,
    ) -> Response {
        let ticket = headers["ticket"].to_str().unwrap().parse().unwrap();
        if ticket != login.issued.load(Ordering::Relaxed) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        if headers.contains_key(header::UPGRADE) {
            lock(&login.used).push(ticket);
        }
        live(connection.valid_until(std::time::Instant::now() + GOOD_FOR)).await
    }

    for transport in [Transport::WebSocket, Transport::Sse, Transport::Poll] {
        let login = Arc::new(Login::default());
        let (issuer, checker) = (Arc::clone(&login), Arc::clone(&login));
        let net = Net::of(any(move |headers, connection| {
            with_ticket(Arc::clone(&checker), headers, connection)
        }));
        let builder = net.client([transport]).with_request(move |_| {
            let ticket = 1 + issuer.issued.fetch_add(1, Ordering::Relaxed);
            ready(Ok::<_, String>(Prepared::new().with_header("ticket", &ticket.to_string())))
        });
        let mut app = App::open(builder).await;
        while app.opened.len() < 5 {
            app.send(1).await;
            app.hear().await;
        }
        assert_eq!(app.opened[0], Status::New, "{transport:?}");
        assert!(app.opened[1..].iter().all(|status| *status == Status::Resumed), "{transport:?}");
        assert_eq!(app.client.transport(), Some(transport));
        let used = lock(&login.used).clone();
        match transport {
            Transport::WebSocket => assert_eq!(used[..5], [1, 2, 3, 4, 5], "each once"),
            _ => assert!(used.is_empty(), "{used:?}"),
        }
        app.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_cannot_be_prepared_says_nothing_about_ways() {
    let net = Net::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let builder = net.client(ALL).with_request(move |_| {
        let count = asked.fetch_add(1, Ordering::Relaxed);
        async move {
            match count {
                0 => return Err("no ticket"),
                1 => pending().await,
                // Longer than a WebSocket may be mute.
                _ => tokio::time::sleep(Duration::from_secs(10)).await,
            }
            Ok(Prepared::new())
        }
    });
    let mut client = builder.start().unwrap();
    let mut causes = Vec::new();
    loop {
        match soon(client.recv_event()).await {
            Some(Event::Waiting { cause, .. }) => causes.push(cause),
            Some(Event::Connecting) => {}
            Some(Event::Open { .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(causes, [Cause::Unprepared("no ticket".into()), Cause::TimedOut]);
    assert_eq!((client.transport(), net.requests()), (Some(Transport::WebSocket), 0));
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_there_are_only_web_sockets() {
    let net = Net::new();
    net.set(|rules| rules.web_socket = WebSockets::Refused);
    let connector = net.clone();
    let client = Client::builder("ws://server/live").with_connector(move |_| {
        let net = connector.clone();
        async move { net.connect() }
    });
    let failed = soon(client.connect()).await;
    let cause = Cause::Http { status: 403, retry_after: None };
    assert_eq!(failed.err(), Some(ConnectError::Failed { cause }));
    assert_eq!(net.requests(), 0);
}

#[tokio::test]
async fn a_session_over_http_on_real_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/live", listener.local_addr().unwrap());
    let app = Net::new().0.app.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, app.clone()));
        }
    });
    for transport in [Transport::Sse, Transport::Poll] {
        let mut app = App::open(Client::builder(&url).transports([transport])).await;
        app.send(50).await;
        app.hear().await;
        assert_eq!(app.client.transport(), Some(transport));
        app.close().await;
    }
}
