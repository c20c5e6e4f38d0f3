//! A server that is told to stop. One test, in a process of its own: all tests of a process would get the signal.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::ConnectInfo,
    routing::{any, get},
};
use session_resume::SessionResume;
use session_resume_axum::{ResumeUpgrade, bind, serve};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    time::{sleep, timeout},
};

/// No step takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

async fn ask(addr: SocketAddr, path: &str, more: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_that_is_told_to_stop_answers_what_is_under_way_and_drains() {
    let (asked, answers) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (reached, go) = (Arc::clone(&asked), Arc::clone(&answers));
    let late = move || async move {
        reached.notify_one();
        go.notified().await;
        "late"
    };
    let at_work = Arc::new(AtomicBool::new(false));
    let works = Arc::clone(&at_work);
    let live = move |upgrade: ResumeUpgrade| async move {
        upgrade.on_session(move |mut session| async move {
            while session.recv().await.is_some() {
                works.store(true, SeqCst);
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    };
    let resume = SessionResume::new();
    let app = Router::new()
        .route(
            "/from",
            get(|ConnectInfo(from): ConnectInfo<SocketAddr>| async move { from.ip().to_string() }),
        )
        .route("/late", get(late))
        .route("/never", get(std::future::pending::<()>))
        .route("/live", any(live))
        .layer(resume.clone());
    let listener = bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = serve(listener, app, &resume).with_deadline(Duration::from_secs(2));
    let server = tokio::spawn(server.into_future());

    let from = rest(ask(addr, "/from", "connection: close\r\n").await).await;
    assert!(from.ends_with("\r\n\r\n127.0.0.1"), "{from}");
    let late = ask(addr, "/late", "connection: close\r\n").await;
    timeout(PATIENCE, asked.notified()).await.unwrap();
    let _never = ask(addr, "/never", "").await;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut socket = ask(addr, "/live", upgrade).await;
    // A masked text of one byte, its mask all zeros.
    socket.write_all(b"\x81\x81\0\0\0\0x").await.unwrap();
    while !at_work.load(SeqCst) {
        sleep(Duration::from_millis(5)).await;
    }

    let id = std::process::id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    while TcpStream::connect(addr).await.is_ok() {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(!server.is_finished(), "a request is under way, and a handler works");
    answers.notify_one();
    assert!(rest(late).await.ends_with("\r\n\r\nlate"));
    // The request that is never answered, and the handler that never asks for more, do not hold it beyond its deadline.
    let report = timeout(PATIENCE, server).await.unwrap().unwrap().unwrap();
    assert_eq!((report.drained, report.cut.len()), (0, 1));
}
