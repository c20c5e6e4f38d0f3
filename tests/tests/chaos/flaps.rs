//! Connections that end in the middle of anything.

use std::{sync::atomic::Ordering, time::Duration};

use session_resume_client::{Backoff, Client, Event};
use session_resume_testkit::tcp::{Counts, End, Fate, Proxy, Stall};
use session_resume_tests::Rng;

use crate::server::{self, within};

/// Reconnects at once: the test is about drops, not about waits.
pub(crate) const HASTE: Backoff =
    Backoff { first: Duration::from_millis(2), max: Duration::from_millis(20) };

/// The next message of the server; anything that says something is gone fails the test.
pub(crate) async fn next(client: &mut Client) -> String {
    loop {
        match within(client.recv_event()).await.expect("the client goes on") {
            Event::Message(message) => return message.as_text().expect("text").to_owned(),
            Event::Connecting | Event::Open { .. } | Event::Waiting { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Sends `echo:<n>` from another task, so that both directions are busy at once.
fn say_all(client: &Client, count: u64) -> tokio::task::JoinHandle<()> {
    let sender = client.sender();
    tokio::spawn(async move {
        for n in 0..count {
            // Some begin with the character that marks control frames, and come back with it.
            let text =
                if n.is_multiple_of(7) { format!("say \u{1}{n}") } else { format!("say {n}") };
            within(sender.send(text)).await.unwrap();
        }
    })
}

fn said(n: u64) -> String {
    if n.is_multiple_of(7) { format!("\u{1}{n}") } else { n.to_string() }
}

/// Where the testee's handler is, by way of the proxy.
pub(crate) fn url(proxy: &Proxy) -> String {
    format!("ws://{}/live", proxy.address())
}

fn start(proxy: &Proxy) -> Client {
    let client = Client::builder(url(proxy)).with_backoff(HASTE);
    client.with_attach_timeout(Duration::from_secs(2)).start().unwrap()
}

/// What the server's handler has taken is what was sent, in order: each message comes back by itself.
async fn two_way(
    seed: u64,
    count: u64,
    mut fate: impl FnMut(&mut Rng) -> Fate + Send + 'static,
) -> Proxy {
    let testee = server::testee(&[]).await;
    let mut rng = Rng(seed);
    // The first answer brings the cookie: without it, another connection is another user.
    let mut first = true;
    let proxy = Proxy::with_fates(testee.addr, move || {
        if std::mem::take(&mut first) { Fate::cut(4000, End::Reset) } else { fate(&mut rng) }
    })
    .await;
    let mut client = start(&proxy);
    let saying = say_all(&client, count);
    for n in 0..count {
        assert_eq!(next(&mut client).await, said(n), "seed {seed}");
    }
    saying.await.unwrap();
    within(client.close()).await.unwrap();
    proxy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_flaps_lose_and_double_nothing() {
    let proxy = two_way(1, 10_000, |rng| {
        let end = if rng.below(2) == 0 { End::Reset } else { End::Close };
        let bytes = 600 + rng.below(2000);
        let stalls = rng.below(3) == 0;
        let stall = stalls.then(|| Stall {
            at: rng.below(bytes),
            wait: Some(Duration::from_micros(rng.below(5000))),
        });
        Fate { bytes, end, stall }
    })
    .await;
    let flaps = proxy.connections();
    assert!(flaps > 200, "only {flaps} connections");
    let Counts { resets, closes, gone_on, .. } = proxy.counts();
    for (what, count) in [("resets", resets), ("closes", closes), ("stalls that went on", gone_on)]
    {
        let count = count.load(Ordering::SeqCst);
        assert!(count > flaps / 8, "only {count} {what} in {flaps} connections");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn black_holes_lose_and_double_nothing() {
    let proxy = two_way(2, 1000, |rng| {
        let wait = Duration::from_millis(20 + rng.below(50));
        Fate::cut(1000 + rng.below(4000), End::BlackHole(wait))
    })
    .await;
    let flaps = proxy.connections();
    assert!(flaps > 5, "only {flaps} connections");
}

/// A short conversation of its own for every byte at which a connection can end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_at_every_byte_of_a_conversation() {
    let testee = server::testee(&["--key", "client"]).await;
    // One calm conversation tells how long it is, and brings the identity for all others.
    let calm = Proxy::start(testee.addr).await;
    let mut client = start(&calm);
    converse(&mut client).await;
    let cookies = client.cookies();
    within(client.close()).await.unwrap();
    let passed = &calm.counts().passed;
    while passed.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let length = passed.load(Ordering::SeqCst);
    assert!(length > 300, "{length}");
    for at in 1..length {
        let end = if at.is_multiple_of(2) { End::Reset } else { End::Close };
        let mut fates = [Fate::cut(at, end)].into_iter();
        let proxy =
            Proxy::with_fates(testee.addr, move || fates.next().unwrap_or(Fate::CALM)).await;
        let client = Client::builder(url(&proxy)).with_backoff(HASTE).with_cookies(&cookies);
        let mut client = client.start().unwrap();
        converse(&mut client).await;
        // If the sessions did not end, one identity would have more of them than the limits allow.
        within(client.send("finish")).await.unwrap();
        while !matches!(within(client.recv_event()).await, Some(Event::Done { .. })) {}
        assert!(proxy.connections() <= 3, "cut at {at}: {}", proxy.connections());
    }
}

/// A few messages each way.
async fn converse(client: &mut Client) {
    for n in 0..3 {
        within(client.send(format!("add {n}"))).await.unwrap();
    }
    for total in [0, 1, 3] {
        assert_eq!(next(client).await, format!("total:{total}"));
    }
}
