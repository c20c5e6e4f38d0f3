//! The three bugs that agents on other hosts have had.

use session_resume_client::OutcomeStatus;
use session_resume_testkit::tcp::Proxy;

use crate::support::{Disk, Server, Watcher, poll, report, until, whole, words_before_question};

#[tokio::test]
async fn an_agent_that_ends_without_a_finished_mark() {
    for (mishap, status, name, told) in [
        ("none", OutcomeStatus::Done, "done", ""),
        ("error", OutcomeStatus::Failed, "failed", "weather.txt: permission denied"),
        (
            "panic",
            OutcomeStatus::Panicked,
            "panicked",
            "weather.txt: the agent has lost its thread",
        ),
    ] {
        for watched in [true, false] {
            let disk = Disk::new();
            let server = Server::start(&disk.store()).await;
            let network = Proxy::start(server.address).await;
            server.gate.allow(words_before_question());
            let mut watcher = Watcher::open(network.address(), "").await;
            watcher.start(mishap).await;
            watcher.until_asked().await;
            watcher.answer(true).await;
            watcher.until("its answer is taken", |watcher| watcher.view["step"] == "work").await;
            if !watched {
                network.go_offline();
            }
            server.gate.open();
            // However the run ends, a client that asks, watches or comes back is told.
            let (code, outcome) = poll(server.address, &watcher.session, &watcher.cookies).await;
            assert_eq!((code, &outcome["status"]), (200, &name.into()));
            assert!(outcome["error"].as_str().unwrap_or_default().contains(told), "{outcome}");
            network.set_target(server.address);
            network.go_online();
            assert_eq!(watcher.until_done().await, status);
            assert_eq!(watcher.files.len(), if mishap == "none" { whole().files } else { 3 });
            assert_eq!(watcher.lost, []);
            until("the thread's end", || server.threads() == 0).await;
        }
    }
}

#[tokio::test]
async fn a_closed_queue_on_reattach() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    let network = Proxy::start(server.address).await;
    let mut watcher = Watcher::open(network.address(), "").await;
    watcher.start("none").await;
    // Detached and attached at every third beat, with output before, between and after.
    let beats = |watcher: &Watcher| watcher.numbers.len() + watcher.files.len();
    let all = whole();
    let all = usize::try_from(all.words).unwrap() + all.files;
    let mut reattached = 0;
    while beats(&watcher) + 6 < all {
        let session = server.resume.get(watcher.session.parse().unwrap()).unwrap();
        let said = || session.read(|agent| agent.words + agent.files as u64);
        let waits = || session.read(|agent| agent.step == agent_app::state::Step::Ask);
        let before = said();
        server.gate.allow(1);
        until("a beat while attached", || said() > before || waits()).await;
        network.go_offline();
        until("nobody is attached", || session.info().transports == 0).await;
        let before = said();
        server.gate.allow(2);
        until("beats while nobody is there", || said() >= before + 2 || waits()).await;
        network.set_target(server.address);
        network.go_online();
        reattached += 1;
        let told = usize::try_from(said()).unwrap();
        watcher.until("all of it", |watcher| beats(watcher) >= told).await;
        if waits() {
            watcher.until_asked().await;
            watcher.answer(true).await;
            watcher.until("its answer is taken", |watcher| watcher.question().is_none()).await;
        }
    }
    assert!(reattached > 20, "{reattached}");
    // And once more at the very end, when there is no agent any more.
    network.go_offline();
    server.gate.open();
    let report = report(&poll(server.address, &watcher.session, &watcher.cookies).await.1);
    network.set_target(server.address);
    network.go_online();
    assert_eq!(watcher.until_done().await, OutcomeStatus::Done);
    watcher.assert_exact(&report);
}

#[tokio::test]
async fn two_competing_pumps() {
    let disk = Disk::new();
    let server = Server::start(&disk.store()).await;
    let mut old = Watcher::open(server.address, "").await;
    old.start("none").await;
    server.gate.allow(5);
    old.until_words(5).await;
    // Both sockets are open when the words come. The old page reads on.
    let mut new = Watcher::open(server.address, &old.cookies).await;
    assert_eq!(new.session, old.session);
    server.gate.allow(words_before_question() - 5);
    new.until_asked().await;
    old.until("it is told", |old| old.superseded).await;
    assert!(old.numbers.iter().copied().eq(0..5), "not one more word: {:?}", old.numbers);
    assert_eq!(new.lines, whole().lines[..3]);

    // What the old page says now does not count.
    let question = new.question().unwrap();
    let deny = format!(r#"{{"answer":{{"question":{question},"approve":false}}}}"#);
    old.client.send(deny).await.unwrap();
    new.answer(true).await;
    server.gate.open();
    assert_eq!(new.until_done().await, OutcomeStatus::Done);
    assert_eq!(new.lines, whole().lines);
    assert!(new.numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{:?}", new.numbers);
    assert!(report(&new.poll().await.1).approved);
}
