//! The server dies or is stopped, and comes back on the same store.

use std::time::Duration;

use session_resume_client::{OutcomeStatus, Status};
use session_resume_testkit::tcp::Proxy;

use crate::support::{Disk, Server, Watcher, poll, report, until, words_before_question};

#[tokio::test]
async fn killed_again_and_again_the_agent_goes_on_with_the_next_word() {
    let disk = Disk::new();
    let mut server = Server::start(&disk.store()).await;
    let network = Proxy::start(server.address).await;
    let mut watcher = Watcher::open(network.address(), "").await;
    watcher.start("none").await;
    let mut kills = 0;
    while watcher.done.is_none() {
        // At the first beat of a step, in the middle of one, and during the question, as it comes.
        server.gate.allow(13);
        let beats = |watcher: &Watcher| watcher.numbers.len() + watcher.files.len();
        let until = beats(&watcher) + 9;
        watcher
            .until("some words", |watcher| {
                beats(watcher) >= until || watcher.question().is_some() || watcher.done.is_some()
            })
            .await;
        if watcher.done.is_some() {
            break;
        }
        network.go_offline();
        server.kill();
        kills += 1;
        server = Server::start(&disk.store()).await;
        network.set_target(server.address);
        network.go_online();
        if watcher.question().is_some() {
            watcher.answer(true).await;
            watcher.until("its answer is taken", |watcher| watcher.question().is_none()).await;
        }
    }
    assert!(kills >= 5, "{kills}");
    assert_eq!(watcher.done, Some(OutcomeStatus::Done));
    watcher
        .assert_exact(&report(&poll(server.address, &watcher.session, &watcher.cookies).await.1));
}

#[tokio::test]
async fn a_question_outlives_its_page_and_its_server() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    server.gate.open();
    let mut page = Watcher::open(server.address, "").await;
    page.start("none").await;
    page.until_asked().await;
    // An answer leaves when it is on disk that the agent waits for the next command.
    page.client.send("nonsense").await.unwrap();
    page.until("an answer", |page| !page.errors.is_empty()).await;
    let (session, cookies, lines) = (page.session, page.cookies, page.lines);
    drop(page.client);
    server.kill();

    let server = Server::start(&disk.store()).await;
    server.gate.open();
    let (status, outcome) = poll(server.address, &session, &cookies).await;
    assert_eq!((status, &outcome["status"]), (202, &"stored".into()));
    let mut page = Watcher::open(server.address, &cookies).await;
    assert_eq!(
        (page.statuses.as_slice(), &page.session),
        ([Status::Restored].as_slice(), &session)
    );
    assert_eq!(page.lines, lines);
    page.answer(true).await;
    assert_eq!(page.until_done().await, OutcomeStatus::Done);
    assert!(report(&page.poll().await.1).approved);
}

#[tokio::test]
async fn an_agent_killed_at_work_is_interrupted_until_somebody_comes_back() {
    let disk = Disk::new();
    let store = disk.store();
    let start = || {
        Server::start_with(&store, |resume| resume.with_flush_interval(Duration::from_millis(1)))
    };
    let mut server = start().await;
    let network = Proxy::start(server.address).await;
    let mut watcher = Watcher::open(network.address(), "").await;
    watcher.start("none").await;
    // It has committed what it was told to do and what it has said, and thinks about the next word. That it is
    // at work is noted when that has lasted for the flush interval, so perhaps not after the first.
    for words in 1.. {
        server.gate.allow(1);
        watcher.until_words(words).await;
        network.go_offline();
        server.kill();
        server = start().await;
        let (status, outcome) = poll(server.address, &watcher.session, &watcher.cookies).await;
        assert_eq!(status, 202);
        network.set_target(server.address);
        network.go_online();
        if outcome["status"] == "interrupted" {
            break;
        }
        assert!(words < 20, "{outcome}");
    }
    server.gate.open();
    watcher.until_asked().await;
    watcher.answer(true).await;
    assert_eq!(watcher.until_done().await, OutcomeStatus::Done);
    watcher
        .assert_exact(&report(&poll(server.address, &watcher.session, &watcher.cookies).await.1));
}

#[tokio::test]
async fn the_outcome_outlives_the_server() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    let network = Proxy::start(server.address).await;
    server.gate.open();
    let mut watcher = Watcher::open(network.address(), "").await;
    watcher.start("none").await;
    watcher.until_asked().await;
    let (session, cookies) = (watcher.session.clone(), watcher.cookies.clone());
    watcher.answer(true).await;
    watcher.until("its answer is taken", |watcher| watcher.view["step"] == "work").await;
    network.go_offline();
    assert_eq!(poll(server.address, &session, &cookies).await.0, 200);
    server.kill();

    let server = Server::start(&disk.store()).await;
    let (status, outcome) = poll(server.address, &session, &cookies).await;
    assert_eq!(status, 200);
    assert!(report(&outcome).approved);
    // A client that still holds a place in that run is told that the run is over. It is never given another
    // run instead.
    network.set_target(server.address);
    network.go_online();
    assert_eq!(watcher.until_done().await, OutcomeStatus::Done);
    assert_eq!(watcher.session, session);
}

#[tokio::test]
async fn a_drained_server_is_a_drop_that_nobody_notices() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    let network = Proxy::start(server.address).await;
    let mut watcher = Watcher::open(network.address(), "").await;
    watcher.start("none").await;
    server.gate.allow(10);
    watcher.until_words(10).await;
    let report_of_drain = server.resume.drain(Duration::from_secs(60)).await;
    assert_eq!((report_of_drain.drained, report_of_drain.cut.len()), (1, 0));
    network.go_offline();
    server.kill();

    let server = Server::start(&disk.store()).await;
    server.gate.open();
    network.set_target(server.address);
    network.go_online();
    watcher.until_asked().await;
    assert_eq!(watcher.statuses.last(), Some(&Status::Resumed));
    watcher.answer(true).await;
    assert_eq!(watcher.until_done().await, OutcomeStatus::Done);
    watcher
        .assert_exact(&report(&poll(server.address, &watcher.session, &watcher.cookies).await.1));
}

#[tokio::test]
async fn a_question_that_nobody_answers_is_stored_and_its_thread_ends() {
    let disk = Disk::new();
    let short = Duration::from_millis(1);
    let server = Server::start_with(&disk.store(), |resume| {
        resume.with_unused_lifetime(short).with_check_interval(short)
    })
    .await;
    server.gate.allow(words_before_question());
    let mut page = Watcher::open(server.address, "").await;
    page.start("none").await;
    page.until_asked().await;
    let (session, cookies) = (page.session, page.cookies);
    drop(page.client);
    until("it leaves memory", || server.resume.sessions().is_empty()).await;
    until("its thread ends", || server.threads() == 0).await;
    assert_eq!(poll(server.address, &session, &cookies).await.1["status"], "stored");

    let page = Watcher::open(server.address, &cookies).await;
    assert_eq!(
        (page.statuses.as_slice(), &page.session),
        ([Status::Restored].as_slice(), &session)
    );
    assert!(page.question().is_some());
}
