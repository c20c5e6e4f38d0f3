//! Servers that are killed, and servers that are replaced.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use session_resume_client::{Client, Event, Sender, Status};
use session_resume_testkit::tcp::Proxy;
use session_resume_tests::Rng;
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::{
    flaps::{HASTE, next, url},
    place::{Place, on_each_store},
    server::{self, stop, within},
};

on_each_store! {
    two_thousand_additions_survive_ten_kills,
    two_thousand_additions_to_a_large_state_survive_ten_kills,
    under_exact_each_reply_arrives_once_through_ten_kills,
    under_exact_each_reply_to_four_users_arrives_once_through_twenty_kills,
    a_rolling_restart_under_load_is_invisible,
    a_message_that_is_in_hand_at_three_kills_is_dropped_and_the_session_goes_on,
}

/// Returns the next message. Passes over gaps by a restart, which are right under `Durability::State`.
async fn next_told(client: &mut Client) -> String {
    loop {
        match within(client.recv_event()).await.expect("the client goes on") {
            Event::Message(message) => return message.as_text().expect("text").to_owned(),
            Event::InDoubt(messages) => panic!("in doubt: {messages:?}"),
            Event::Done { .. } | Event::Failed { .. } | Event::Superseded => panic!("it is over"),
            _ => {}
        }
    }
}

/// A client whose session is on disk. Nothing is promised for what comes before the first save.
pub(crate) async fn settle(proxy: &Proxy) -> Client {
    let client = Client::builder(url(proxy)).with_backoff(HASTE);
    let mut client = client.start().unwrap();
    within(client.send("commit")).await.unwrap();
    assert_eq!(next(&mut client).await, "committed");
    client
}

pub(crate) fn flags<'a>(store: &'a str, durability: &'a str) -> [&'a str; 6] {
    ["--store", store, "--durability", durability, "--flush", "5"]
}

/// At most this many additions of a user are unanswered. The server takes a message that is never done, in life
/// after life, for the cause of its deaths. A user with more answers than this since a kill has made progress in
/// between.
const WINDOW: usize = 32;

/// Sends `add 1` `times` times, as fast as it is answered. The caller reports each answer with `add_permits`.
pub(crate) fn add(sender: Sender, times: u64) -> (JoinHandle<()>, Arc<Semaphore>) {
    let window = Arc::new(Semaphore::new(WINDOW));
    let room = Arc::clone(&window);
    let adding = tokio::spawn(async move {
        for _ in 0..times {
            within(room.acquire()).await.unwrap().forget();
            within(sender.send("add 1")).await.unwrap();
        }
    });
    (adding, window)
}

/// Kills the server `kills` times while `add 1` is sent again and again to a session that has a state of this many bytes
/// more. Returns the totals that were told.
async fn count_through_kills(
    place: &Place,
    durability: &str,
    kills: u64,
    seed: u64,
    state: usize,
) -> Vec<String> {
    const ADDS: u64 = 2000;
    let store = place.flag();
    let flags = flags(&store, durability);
    let mut testee = server::testee(&flags).await;
    let proxy = Proxy::start(testee.addr).await;
    let mut client = settle(&proxy).await;
    within(client.send(format!("state {state}"))).await.unwrap();
    assert_eq!(next(&mut client).await, format!("state:{state}"));
    // What is told before this is not told again after a kill.
    within(client.send("commit")).await.unwrap();
    assert_eq!(next(&mut client).await, "committed");
    let (adding, window) = add(client.sender(), ADDS);
    let mut rng = Rng(seed);
    let mut totals = Vec::new();
    for kill in 1..=kills {
        // At any moment of the work that remains, counted in what has arrived.
        let until = ADDS * kill / (kills + 1);
        assert!(until > last(&totals) + WINDOW as u64, "nothing comes on in between");
        take_totals(&mut client, until, &window, &mut totals).await;
        tokio::time::sleep(Duration::from_micros(rng.below(20_000))).await;
        testee.kill().await;
        testee = server::testee(&flags).await;
        proxy.set_target(testee.addr);
    }
    take_totals(&mut client, ADDS, &window, &mut totals).await;
    within(adding).await.unwrap();
    within(client.send("get")).await.unwrap();
    // The last kill may have come after the last total was told: under `State` some are then told again.
    let counted = loop {
        let told = next_told(&mut client).await;
        if told.contains(" n:") {
            break told;
        }
        totals.push(told);
    };
    assert_eq!(counted, format!("total:{ADDS} n:{ADDS}"));
    within(client.close()).await.unwrap();
    totals
}

async fn take_totals(
    client: &mut Client,
    until: u64,
    window: &Semaphore,
    totals: &mut Vec<String>,
) {
    while last(totals) < until {
        let before = last(totals);
        totals.push(next_told(client).await);
        // Under `State` some are told twice.
        window.add_permits(usize::from(last(totals) > before));
    }
}

fn last(totals: &[String]) -> u64 {
    totals.last().map_or(0, |total| total.strip_prefix("total:").unwrap().parse().unwrap())
}

async fn two_thousand_additions_survive_ten_kills(place: Place) {
    let totals = count_through_kills(&place, "state", 10, 1, 0).await;
    assert_eq!(last(&totals), 2000);
}

async fn two_thousand_additions_to_a_large_state_survive_ten_kills(place: Place) {
    let totals = count_through_kills(&place, "state", 10, 4, 200_000).await;
    assert_eq!(last(&totals), 2000);
}

async fn under_exact_each_reply_arrives_once_through_ten_kills(place: Place) {
    let totals = count_through_kills(&place, "exact", 10, 2, 0).await;
    let expected: Vec<_> = (1..=2000).map(|n| format!("total:{n}")).collect();
    assert_eq!(totals, expected);
}

/// Several users at once: a kill meets commits that they share, at any point of each.
async fn under_exact_each_reply_to_four_users_arrives_once_through_twenty_kills(place: Place) {
    const ADDS: u64 = 500;
    const USERS: usize = 4;
    const KILLS: u64 = 20;
    let store = place.flag();
    let flags = flags(&store, "exact");
    let mut testee = server::testee(&flags).await;
    let proxy = Proxy::start(testee.addr).await;
    // What each user has been told.
    let told: Arc<[AtomicU64; USERS]> = Arc::default();
    let mut users = Vec::new();
    for user in 0..USERS {
        let (mut client, told) = (settle(&proxy).await, Arc::clone(&told));
        users.push(tokio::spawn(async move {
            let (adding, window) = add(client.sender(), ADDS);
            for total in 1..=ADDS {
                assert_eq!(next_resumed(&mut client).await, format!("total:{total}"));
                window.add_permits(1);
                told[user].fetch_add(1, Relaxed);
            }
            adding.await.unwrap();
            within(client.send("get")).await.unwrap();
            assert_eq!(next_resumed(&mut client).await, format!("total:{ADDS} n:{ADDS}"));
            told[user].fetch_add(1, Relaxed);
            within(client.close()).await.unwrap();
        }));
    }
    let so_far = || std::array::from_fn::<_, USERS, _>(|user| told[user].load(Relaxed));
    let mut rng = Rng(3);
    let mut before = [0; USERS];
    for kill in 1..=KILLS {
        let all_have_come_on = |now: [u64; USERS]| {
            now.iter().zip(before).all(|(&now, before)| now > before + WINDOW as u64 || now > ADDS)
        };
        within(async {
            while so_far().iter().sum::<u64>() < USERS as u64 * ADDS * kill / (KILLS + 1)
                || !all_have_come_on(so_far())
            {
                assert!(!users.iter().all(JoinHandle::is_finished), "a user failed");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        tokio::time::sleep(Duration::from_micros(rng.below(20_000))).await;
        testee.kill().await;
        before = so_far();
        testee = server::testee(&flags).await;
        proxy.set_target(testee.addr);
    }
    for user in users {
        within(user).await.unwrap();
    }
}

async fn a_rolling_restart_under_load_is_invisible(place: Place) {
    const ADDS: u64 = 3000;
    let store = place.flag();
    let flags = flags(&store, "state");
    let mut testee = server::testee(&flags).await;
    let proxy = Proxy::start(testee.addr).await;
    let mut client = settle(&proxy).await;
    let (adding, window) = add(client.sender(), ADDS);
    for total in 1..=ADDS {
        // Any event but a message, a state of the connection, or a resumption fails.
        assert_eq!(next_resumed(&mut client).await, format!("total:{total}"));
        window.add_permits(1);
        if total % 1000 == 500 {
            assert!(stop(testee).await.success(), "a session was cut");
            testee = server::testee(&flags).await;
            proxy.set_target(testee.addr);
        }
    }
    within(adding).await.unwrap();
    within(client.close()).await.unwrap();
}

/// Returns the next message of a stream that must always be resumed.
pub(crate) async fn next_resumed(client: &mut Client) -> String {
    loop {
        match within(client.recv_event()).await.expect("the client goes on") {
            Event::Message(message) => return message.as_text().expect("text").to_owned(),
            Event::Open { status, .. } => assert_eq!(status, Status::Resumed),
            Event::Connecting | Event::Waiting { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The message kills the server, as far as the server can tell.
async fn a_message_that_is_in_hand_at_three_kills_is_dropped_and_the_session_goes_on(place: Place) {
    let store = place.flag();
    let flags = flags(&store, "state");
    let mut testee = server::testee(&flags).await;
    let proxy = Proxy::start(testee.addr).await;
    let mut client = settle(&proxy).await;
    within(client.send("add 7")).await.unwrap();
    assert_eq!(next_told(&mut client).await, "total:7");
    within(client.send("busy 60000")).await.unwrap();
    let mut kills = 0;
    let dropped = loop {
        // In hand, and for longer than a flush interval.
        let told = async {
            loop {
                if let Some(Event::Dropped(message)) = client.recv_event().await {
                    return message;
                }
            }
        };
        if let Ok(message) = tokio::time::timeout(Duration::from_secs(2), told).await {
            break message;
        }
        assert!(kills < 12, "not dropped after {kills} kills");
        kills += 1;
        testee.kill().await;
        testee = server::testee(&flags).await;
        proxy.set_target(testee.addr);
    };
    assert_eq!(dropped.as_text(), Some("busy 60000"));
    assert!(kills >= 3, "dropped after {kills} kills");
    within(client.send("get")).await.unwrap();
    assert!(next_told(&mut client).await.starts_with("total:7 "), "its state is there");
    within(client.send("dropped")).await.unwrap();
    assert_eq!(next_told(&mut client).await, "dropped:2");
    within(client.close()).await.unwrap();
}
