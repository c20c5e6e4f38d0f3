//! One run, with all that happens to connections and pages meanwhile.

use session_resume_client::{OutcomeStatus, Status};
use session_resume_testkit::tcp::Proxy;

use crate::support::{
    Disk, Server, Watcher, get, poll, report, until, whole, words_before_question,
};

/// Somebody watches an agent that has read two files and is about to read the third one.
async fn at_work(server: &Server, network: &Proxy) -> Watcher {
    server.gate.allow(words_before_question() + 2);
    let mut watcher = Watcher::open(network.address(), "").await;
    watcher.start("none").await;
    watcher.until_asked().await;
    watcher.answer(true).await;
    watcher.until("two files", |watcher| watcher.files.len() == 2).await;
    watcher
}

#[tokio::test]
async fn a_run_goes_from_task_to_outcome() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    server.gate.open();
    let mut watcher = Watcher::open(server.address, "").await;
    assert_eq!(watcher.view["step"], "idle");
    watcher.start("none").await;
    watcher.until_asked().await;
    assert_eq!(watcher.numbers.len() as u64, words_before_question());
    watcher.answer(true).await;
    assert_eq!(watcher.until_done().await, OutcomeStatus::Done);
    let (status, outcome) = watcher.poll().await;
    assert_eq!((status, outcome["session"].as_str()), (200, Some(watcher.session.as_str())));
    watcher.assert_exact(&report(&outcome));
    assert_eq!(watcher.statuses, [Status::New]);
    until("the thread's end", || server.threads() == 0).await;
}

#[tokio::test]
async fn an_agent_that_is_denied_does_nothing() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    server.gate.open();
    let mut watcher = Watcher::open(server.address, "").await;
    watcher.start("none").await;
    watcher.until_asked().await;
    watcher.answer(false).await;
    assert_eq!(watcher.until_done().await, OutcomeStatus::Done);
    let report = report(&watcher.poll().await.1);
    assert!(!report.approved);
    assert_eq!((report.files, watcher.files.len()), (0, 0));
    assert_eq!(report.summary, watcher.lines.last().unwrap().text);
}

#[tokio::test]
async fn an_agent_that_works_is_stopped_once_also_when_its_client_comes_again() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    let network = Proxy::start(server.address).await;
    let mut watcher = at_work(&server, &network).await;
    watcher.client.send("\"stop\"").await.unwrap();
    let session = server.resume.get(watcher.session.parse().unwrap()).unwrap();
    until("it has come, and the agent works", || session.info().inbox_messages == 1).await;
    // It is not acknowledged, so the client sends it again.
    drop(network.cut());
    server.gate.open();
    assert_eq!(watcher.until_done().await, OutcomeStatus::Done);
    let report = report(&watcher.poll().await.1);
    assert!(report.stopped && report.approved && report.files == 2, "{report:?}");
    assert_eq!(report.summary, watcher.lines.last().unwrap().text);
    assert!(watcher.errors.is_empty(), "it was obeyed once: {:?}", watcher.errors);
}

#[tokio::test]
async fn only_an_answer_to_the_open_question_counts() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    server.gate.open();
    let mut watcher = Watcher::open(server.address, "").await;
    for nonsense in
        ["", "{}", r#"{"answer":{"question":0,"approve":true}}"#, r#"{"task":{"text":" "}}"#]
    {
        watcher.client.send(nonsense).await.unwrap();
    }
    watcher.until("errors", |watcher| watcher.errors.len() == 4).await;
    watcher.start("none").await;
    // Sent while the agent thinks, before there is a question.
    watcher.client.send(r#"{"answer":{"question":0,"approve":true}}"#).await.unwrap();
    watcher.start("none").await;
    watcher.until("errors", |watcher| watcher.errors.len() == 6).await;
    assert!(watcher.errors[4].contains("not open") && watcher.errors[5].contains("busy"));
    assert_eq!(watcher.view["step"], "ask");
    assert_eq!(watcher.files.len(), 0);
}

#[tokio::test]
async fn a_page_loaded_anew_during_approval_sees_the_question_and_can_answer() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    server.gate.open();
    let mut page = Watcher::open(server.address, "").await;
    page.start("none").await;
    page.until_asked().await;
    let (session, cookies, lines) = (page.session, page.cookies, page.lines);
    drop(page.client);

    let mut page = Watcher::open(server.address, &cookies).await;
    assert_eq!((page.statuses.as_slice(), &page.session), ([Status::Reused].as_slice(), &session));
    assert!(page.question().is_some(), "its first view has the question");
    assert_eq!(page.lines, lines);
    page.answer(true).await;
    assert_eq!(page.until_done().await, OutcomeStatus::Done);
    assert_eq!(page.lines, whole().lines);
}

#[tokio::test]
async fn a_page_loaded_anew_in_the_middle_of_a_word_stream_has_all_of_it() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    let mut page = Watcher::open(server.address, "").await;
    page.start("none").await;
    server.gate.allow(9);
    page.until_words(9).await;
    let cookies = page.cookies;
    drop(page.client);
    server.gate.allow(3);
    let mut page = Watcher::open(server.address, &cookies).await;
    page.until_words(12).await;
    assert_eq!(page.lines[1].text.split(' ').count(), 12);
    assert!(whole().lines[1].text.starts_with(&page.lines[1].text));
}

#[tokio::test]
async fn a_connection_lost_during_work_loses_and_doubles_nothing() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    let network = Proxy::start(server.address).await;
    let mut watcher = at_work(&server, &network).await;

    network.go_offline();
    let session = server.resume.get(watcher.session.parse().unwrap()).unwrap();
    until("nobody is attached", || session.info().transports == 0).await;
    assert_eq!(session.info().guards, ["reading files"]);
    server.gate.allow(2);
    until("work without anybody", || session.read(|agent| agent.files == 4)).await;
    network.set_target(server.address);
    network.go_online();
    watcher.until("what was missed", |watcher| watcher.files.len() == 4).await;
    assert_eq!(watcher.statuses.last(), Some(&Status::Resumed));
    server.gate.open();
    assert_eq!(watcher.until_done().await, OutcomeStatus::Done);
    watcher.assert_exact(&report(&watcher.poll().await.1));
}

#[tokio::test]
async fn who_comes_back_after_the_end_gets_the_rest_and_the_outcome() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    let network = Proxy::start(server.address).await;
    server.gate.allow(words_before_question());
    let mut watcher = Watcher::open(network.address(), "").await;
    watcher.start("none").await;
    watcher.until_asked().await;
    watcher.answer(true).await;
    watcher.until("its answer is taken", |watcher| watcher.view["step"] == "work").await;
    network.go_offline();
    server.gate.open();
    // With no socket at all.
    let (status, outcome) = poll(server.address, &watcher.session, &watcher.cookies).await;
    assert_eq!(status, 200);
    let report = report(&outcome);
    network.set_target(server.address);
    network.go_online();
    assert_eq!(watcher.until_done().await, OutcomeStatus::Done);
    watcher.assert_exact(&report);
}

#[tokio::test]
async fn a_finished_run_makes_room_for_the_next() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    server.gate.open();
    let mut first = Watcher::open(server.address, "").await;
    first.start("none").await;
    first.until_asked().await;
    first.answer(false).await;
    first.until_done().await;
    let second = Watcher::open(server.address, &first.cookies).await;
    assert_ne!(second.session, first.session);
    assert_eq!(
        (second.statuses.as_slice(), &second.view["step"]),
        ([Status::New].as_slice(), &"idle".into())
    );
    assert_eq!(first.poll().await.0, 200, "the outcome of the first is still there");
}

#[tokio::test]
async fn nobody_else_gets_at_an_agent_or_its_outcome() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    server.gate.open();
    let mut mine = Watcher::open(server.address, "").await;
    mine.start("none").await;
    mine.until_asked().await;
    let other = Watcher::open(server.address, "").await;
    assert_ne!(other.session, mine.session);
    assert_eq!(other.view["step"], "idle");
    assert_eq!(poll(server.address, &mine.session, &other.cookies).await.0, 404);
}

#[tokio::test]
async fn the_page_and_the_browser_client_are_served_with_a_policy() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    let page = get(server.address, "/", "").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'"), "{page}");
    assert!(!page.contains("style=") && !page.contains("<style"), "{page}");
    let files = ["/agent.js", "/style.css", "/session-resume.js", "/session-resume-notify.js"];
    for path in files {
        let file = get(server.address, path, "").await;
        assert!(file.starts_with("HTTP/1.1 200"), "{path}: {file}");
    }
}
