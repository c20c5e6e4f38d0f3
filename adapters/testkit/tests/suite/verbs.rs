//! What becomes of what was sent, and what each end learns. Sockets show what is on one connection, pages what the next
//! one makes of it.

use std::time::Duration;

use session_resume_testkit::{Received, Status, until};
use tokio::time::{Instant, sleep};

use crate::apps::{each, in_memory, newest, taken, transports};

const MOMENT: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_cut_comes_after_the_question_and_before_the_answer() {
    for (resume, server) in each() {
        let mut socket = server.browser().plain("/live").await;
        socket.send("say it").await;
        socket.cut().await;
        assert_eq!(taken(&resume), ["say it"], "it has arrived, and is answered");
        assert_eq!(socket.next().await, Received::Gone, "the answer has not");

        let mut page = server.browser().open("/live").await;
        page.send("say it");
        page.cut().await;
        assert_eq!(page.recv().await, "it");
        assert_eq!(page.statuses(), [Status::New, Status::Resumed]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_noticed_by_both_ends_at_once() {
    let (resume, server) = in_memory();
    let mut socket = server.browser().plain("/live").await;
    let start = Instant::now();
    socket.cut().await;
    sleep(MOMENT).await;
    assert_eq!(transports(&resume), 0);
    assert_eq!(socket.next().await, Received::Gone);
    assert!(socket.try_send("say it").await.is_err());
    assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_last_messages_are_lost_and_those_before_arrive() {
    let messages = ["say a", "say b", "say c", "say d"];
    for lost in 0..=4 {
        let (resume, server) = in_memory();
        let mut socket = server.browser().plain("/live").await;
        for message in messages {
            socket.send(message).await;
        }
        socket.lose(lost).await;
        until("they arrive", async || taken(&resume).len() >= 4 - lost).await;
        sleep(MOMENT).await;
        assert_eq!(taken(&resume), messages[..4 - lost], "{lost} lost");
        assert_eq!(socket.next().await, Received::Gone);

        let (resume, server) = in_memory();
        let mut page = server.browser().open("/live").await;
        for message in messages {
            page.send(message);
        }
        page.lose(lost).await;
        assert_eq!(taken(&resume), messages[..4 - lost], "{lost} lost");
        for answer in ["a", "b", "c", "d"] {
            assert_eq!(page.recv().await, answer);
        }
        assert_eq!(taken(&resume), messages, "what was lost is sent again");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_frozen_can_be_lost_whenever_it_was_sent() {
    let (resume, server) = in_memory();
    let page = server.browser().open("/live").await;
    page.freeze();
    page.send("say a");
    sleep(Duration::from_secs(1)).await;
    page.send("say b");
    sleep(Duration::from_secs(1)).await;
    page.lose(1).await;
    assert_eq!(taken(&resume), ["say a"]);
    page.thaw();
    until("it is sent again", async || taken(&resume) == ["say a", "say b"]).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "lose(2): 1 messages are under way")]
async fn what_has_arrived_cannot_be_lost() {
    let (_resume, server) = in_memory();
    let mut page = server.browser().open("/live").await;
    page.send("say a");
    assert_eq!(page.recv().await, "a");
    page.send("say b");
    page.lose(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_freeze_holds_everything_up_and_nobody_learns_of_it() {
    for (resume, server) in each() {
        let mut page = server.browser().open("/live").await;
        page.freeze();
        page.send("say it");
        sleep(Duration::from_secs(2)).await;
        assert!(taken(&resume).is_empty(), "nothing arrives at the server");
        assert_eq!(transports(&resume), 1);
        let session = newest(&resume);
        session.send("told").await.unwrap();
        sleep(Duration::from_secs(2)).await;
        let told = tokio::time::timeout(MOMENT, page.recv_event()).await;
        assert!(told.is_err(), "nothing arrives at the page: {told:?}");

        page.thaw();
        assert_eq!(page.recv().await, "told");
        assert_eq!(page.recv().await, "it");
        assert_eq!(page.statuses(), [Status::New], "on the same connection");
    }
}

#[tokio::test(start_paused = true)]
async fn both_ends_notice_a_freeze_that_lasts_and_the_page_is_back_after_it() {
    let (resume, server) = in_memory();
    let mut page = server.browser().open("/live").await;
    page.freeze();
    page.send("say it");
    sleep(Duration::from_secs(110)).await;
    assert_eq!(transports(&resume), 0, "the server has given the connection up");
    assert!(taken(&resume).is_empty());
    let thaw = Instant::now();
    page.thaw();
    assert_eq!(page.recv().await, "it");
    assert_eq!(page.statuses(), [Status::New, Status::Resumed]);
    assert!(thaw.elapsed() < Duration::from_secs(2), "{:?}", thaw.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_half_open_is_open_for_the_server_alone() {
    let (resume, server) = in_memory();
    let mut socket = server.browser().plain("/live").await;
    socket.send("say it").await;
    socket.half_open().await;
    assert_eq!(taken(&resume), ["say it"]);
    assert_eq!(socket.next().await, Received::Gone, "the answer does not come");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(transports(&resume), 1, "nobody has told the server");
    let session = newest(&resume);
    session.send("into nothing").await.unwrap();
    sleep(Duration::from_secs(90)).await;
    assert_eq!(transports(&resume), 0, "a pong is missed");
}

#[tokio::test(start_paused = true)]
async fn a_page_leaves_a_half_open_connection_behind_and_loses_nothing() {
    let (resume, server) = in_memory();
    let mut page = server.browser().open("/live").await;
    page.send("burst 100");
    page.half_open().await;
    for n in 0..100 {
        assert_eq!(page.recv().await, n.to_string());
    }
    assert_eq!(page.hello().await.attachment.get(), 2);
    assert_eq!(page.statuses(), [Status::New, Status::Resumed]);
    assert_eq!(transports(&resume), 1, "the newest wins");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_offline_stays_away_until_it_is_online() {
    let (resume, server) = in_memory();
    let mut page = server.browser().open("/live").await;
    page.go_offline().await;
    page.send("say it");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(transports(&resume), 0);
    let session = newest(&resume);
    session.send("missed").await.unwrap();
    let online = Instant::now();
    page.go_online();
    assert_eq!(page.recv().await, "missed");
    assert_eq!(page.recv().await, "it");
    assert!(online.elapsed() < Duration::from_millis(100), "at once: {:?}", online.elapsed());
    assert_eq!(page.statuses(), [Status::New, Status::Resumed]);
}

#[tokio::test(start_paused = true)]
async fn a_network_belongs_to_one_page() {
    let (_resume, server) = in_memory();
    let frozen = server.browser().open("/live").await;
    let mut other = server.browser().open("/live").await;
    frozen.freeze();
    other.send("say it");
    assert_eq!(other.recv().await, "it");
}

#[tokio::test]
async fn it_works_with_a_clock_that_runs() {
    for (resume, server) in each() {
        let mut page = server.browser().open("/live").await;
        for n in 0..20 {
            page.send(format!("say {n}"));
            match n % 4 {
                0 => page.cut().await,
                1 => page.lose(1).await,
                2 => page.half_open().await,
                _ => {}
            }
            assert_eq!(page.recv().await, n.to_string());
        }
        assert_eq!(taken(&resume).len(), 20);
    }
}
