//! Redis servers that are killed, stopped and disturbed, with clients that notice nothing.

use std::time::Duration;

use session_resume_engine::{Engine, without_redis};
use session_resume_testkit::{
    Browser,
    tcp::{End, Fate, Proxy},
};
use session_resume_tests::Rng;

use crate::{
    crash::{add, flags, next_resumed, settle},
    server::{self, within},
};

/// What happens to the engine, one after the other, while `add 1` is sent.
#[derive(Clone, Copy)]
enum Fault {
    /// `kill -9`, and a start with what is on the disk.
    Restart,
    /// The engine stands still for this many milliseconds.
    Stop(u64),
    /// All connections of the engine are closed.
    Disconnect,
    /// The engine forgets the scripts.
    Forget,
}

/// Every reply comes once and in order, and the stream is always resumed: the process is still the same.
async fn additions_survive_what_happens_to(mut engine: Engine, durability: &str, seed: u64) {
    use Fault::{Disconnect, Forget, Restart, Stop};
    const ADDS: u64 = 3000;
    const FAULTS: [Fault; 12] = [
        Restart,
        Forget,
        Stop(300),
        Disconnect,
        Restart,
        Stop(20),
        Forget,
        Restart,
        Disconnect,
        Restart,
        Stop(700),
        Restart,
    ];
    let url = engine.url();
    let testee = server::testee(&flags(&url, durability)).await;
    let proxy = Proxy::start(testee.addr).await;
    let mut client = settle(&proxy).await;
    let (adding, window) = add(client.sender(), ADDS);
    let mut rng = Rng(seed);
    let mut faults = FAULTS.into_iter();
    for total in 1..=ADDS {
        assert_eq!(next_resumed(&mut client).await, format!("total:{total}"));
        window.add_permits(1);
        if total % (ADDS / FAULTS.len() as u64) != 100 {
            continue;
        }
        tokio::time::sleep(Duration::from_micros(rng.below(20_000))).await;
        match faults.next().unwrap() {
            Restart => engine.restart(),
            Stop(millis) => {
                engine.stop();
                tokio::time::sleep(Duration::from_millis(millis)).await;
                engine.go_on();
            }
            Disconnect => drop(engine.command("CLIENT KILL TYPE normal")),
            Forget => drop(engine.command("SCRIPT FLUSH")),
        }
    }
    assert!(faults.next().is_none());
    within(adding).await.unwrap();
    within(client.send("get")).await.unwrap();
    assert_eq!(next_resumed(&mut client).await, format!("total:{ADDS} n:{ADDS}"));
    within(client.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn additions_survive_what_happens_to_the_engine_under_state() {
    if !without_redis() {
        additions_survive_what_happens_to(Engine::durable(), "state", 5).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn additions_survive_what_happens_to_the_engine_under_exact() {
    if !without_redis() {
        additions_survive_what_happens_to(Engine::durable(), "exact", 6).await;
    }
}

/// The engine comes back with nothing. The process that has the session in memory puts it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn additions_survive_an_engine_that_keeps_nothing() {
    if !without_redis() {
        additions_survive_what_happens_to(Engine::start(), "exact", 7).await;
    }
}

/// A client that is moved to another process goes on there; the process that had it tells it nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_takes_a_session_over() {
    const ADDS: u64 = 600;
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let url = engine.url();
    let flags = flags(&url, "exact");
    let testees = [server::testee(&flags).await, server::testee(&flags).await];
    let proxy = Proxy::with_fates(testees[0].addr, || Fate::cut(2500, End::Reset)).await;
    let mut client = settle(&proxy).await;
    let (adding, window) = add(client.sender(), ADDS);
    for total in 1..=ADDS {
        assert_eq!(next_resumed(&mut client).await, format!("total:{total}"));
        window.add_permits(1);
        // At the next cut it comes to the other one.
        let turn = usize::try_from(total / 100 % 2).unwrap();
        proxy.set_target(testees[turn].addr);
    }
    within(adding).await.unwrap();
    within(client.close()).await.unwrap();
    assert!(proxy.connections() > 4, "it has moved");
}

/// With clients attached and gone, and nothing that happens, no session asks the engine for anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_at_rest_say_nothing_to_the_engine() {
    const SESSIONS: usize = 20;
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let url = engine.url();
    let testee = server::testee(&flags(&url, "state")).await;
    let mut attached = Vec::new();
    for n in 0..SESSIONS {
        let browser = Browser::at(testee.addr);
        let mut ws = browser.plain("/live").await;
        ws.send("add 1").await;
        assert_eq!(ws.data().await, "total:1");
        // The other half is suspended.
        if n % 2 == 0 {
            attached.push(ws);
        }
    }
    let said = || {
        let stats = engine.command("INFO commandstats");
        let calls = stats.split("cmdstat_evalsha:calls=").nth(1).unwrap_or("0,");
        calls.split(',').next().unwrap().parse::<usize>().unwrap()
    };
    assert!(said() >= SESSIONS, "{}", said());
    // What has happened is written within moments.
    let settled = async {
        loop {
            let before = said();
            tokio::time::sleep(Duration::from_millis(500)).await;
            if said() == before {
                return before;
            }
        }
    };
    let before = within(settled).await;
    // The layer as a whole may look for what has expired. Fewer calls than sessions are not calls of each session.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let since = said() - before;
    assert!(since < SESSIONS / 4, "{since} calls of {SESSIONS} sessions");
    // They are alive all the same.
    for mut ws in attached {
        ws.send("add 1").await;
        assert_eq!(ws.data().await, "total:2");
    }
    // What they did is written within the flush interval.
    let written = async {
        while said() == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(written).await;
}

/// Wrong engines are one line, and exit code 1.
#[tokio::test]
async fn a_testee_without_its_engine_says_so_in_one_line() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let testee = tokio::process::Command::new(env!("CARGO_BIN_EXE_testee"))
        .args(["--store", &format!("redis://:hunter2@127.0.0.1:{port}")])
        .output();
    let output = within(testee).await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(&format!("127.0.0.1:{port}")) && !text.contains("hunter2"), "{text}");
}
