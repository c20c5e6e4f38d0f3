//! Connections break; sessions do not.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use session_resume_testkit::{
    Browser, Close, Message, OpenError, Received, Socket,
    tcp::{Fate, Proxy},
    until,
};
use session_resume_tests::{Framework, scenarios};

use crate::{client, testee};

scenarios!(
    a_stock_client_reset_in_mid_stream_misses_nothing,
    a_handler_outlives_its_socket,
    a_resumable_client_gets_each_message_once_through_flaps_at_any_byte,
    commands_reach_the_handler_once_through_flaps_at_any_byte,
);

/// How many connections have ended.
fn flaps(chaos: &Proxy) -> u64 {
    chaos.counts().ended.load(Ordering::Relaxed)
}

/// Returns the number of an `e:<i>:…` message.
fn number(text: &str) -> u64 {
    let number = text.strip_prefix("e:").and_then(|rest| rest.split(':').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no emission: {text}"))
}

async fn a_stock_client_reset_in_mid_stream_misses_nothing(framework: Framework) {
    const MESSAGES: usize = 3000;
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.plain("/live").await;
    ws.send(format!("emit {MESSAGES} 300")).await;
    let mut got = BTreeSet::new();
    let mut doubled = 0;
    let mut flaps = 0;
    while got.len() < MESSAGES {
        for _ in 0..257 {
            let i = number(&ws.recv().await);
            doubled += usize::from(!got.insert(i));
            if got.len() == MESSAGES {
                break;
            }
        }
        // All before this may be in our stack, unread; whatever it had not received comes again.
        ws.cut().await;
        flaps += 1;
        // Otherwise the next one supersedes it, and a circle of plain clients is slowed down.
        until("it is noticed", async || testee.count().await["suspended"] == 1).await;
        // A ping each 64 messages: its pong counts even if the reset comes right behind it.
        assert!(flaps < 64, "each connection gets further");
        ws = browser.plain("/live").await;
    }
    assert_eq!(got, (0..MESSAGES as u64).collect(), "after {flaps} resets, {doubled} doubled");
}

async fn a_handler_outlives_its_socket(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.plain("/live").await;
    ws.send("whoami").await;
    let first = ws.recv().await;
    ws.send("add 5").await;
    assert_eq!(ws.recv().await, "total:5");
    ws.cut().await;
    until("it is suspended", async || testee.count().await["suspended"] == 1).await;
    assert_eq!(browser.get("/").await.json()["total"], 5);
    let mut ws = browser.plain("/live").await;
    ws.send("whoami").await;
    let mut again = ws.recv().await;
    while again.starts_with("total") || again.is_empty() {
        again = ws.recv().await;
    }
    assert_eq!(again, first);
}

async fn a_resumable_client_gets_each_message_once_through_flaps_at_any_byte(framework: Framework) {
    const MESSAGES: usize = 5000;
    let testee = testee(framework, "").await;
    let chaos = Proxy::with_fates(testee.addr, Fate::drawn(0x5eed_0001, 40_000, 60)).await;
    let browser = Browser::at(testee.addr);
    browser.get("/").await;
    let browser = browser.moved_to_address(chaos.address());
    let mut at = client('a');
    let mut position = 0_u64;
    let mut started = false;
    let mut got = Vec::new();
    while got.len() < MESSAGES {
        let offer = format!("session-resume.v1, at.{at}");
        let Some(mut ws) = offered(&browser, &offer).await else { continue };
        let mut first = true;
        while let received = ws.next().await
            && received != Received::Gone
        {
            let Received::Message(Message::Text(text)) = received else {
                expect_replaced(&received);
                break;
            };
            let Some(json) = text.strip_prefix('\u{1}') else {
                got.push(number(&text));
                position += 1;
                at = cursor(&at, position);
                // Not every message: an ack is cumulative.
                let ack = format!("\u{1}{{\"ack\":{position}}}");
                if position.is_multiple_of(50) && ws.try_send(&*ack).await.is_err() {
                    break;
                }
                if got.len() == MESSAGES {
                    break;
                }
                continue;
            };
            let control: serde_json::Value = serde_json::from_str(json).unwrap();
            if let Some(hello) = control.get("hello") {
                assert!(std::mem::take(&mut first), "one hello");
                assert_eq!(hello["gap"], serde_json::Value::Null);
                assert_eq!(hello["from"], position);
                at = Socket::cursor(&client('a'), hello, position);
                let received = hello["received"].as_u64().unwrap();
                let send = if received == 0 && (!started || position == 0) {
                    started = true;
                    ws.try_send(format!("emit {MESSAGES} 100")).await
                } else {
                    Ok(())
                };
                let ack = format!("\u{1}{{\"ack\":{position}}}");
                if send.is_err() || ws.try_send(&*ack).await.is_err() {
                    break;
                }
            }
        }
    }
    assert_eq!(got, (0..MESSAGES as u64).collect::<Vec<_>>(), "after {} flaps", flaps(&chaos));
    assert!(flaps(&chaos) > 10, "{} flaps", flaps(&chaos));
}

/// Opens a WebSocket through a network that may break; only the network refuses it.
async fn offered(browser: &Browser, offer: &str) -> Option<Socket> {
    let set = |request: http::request::Builder| request.header("sec-websocket-protocol", offer);
    match browser.plain_with("/live", set).await {
        Ok(socket) => Some(socket),
        Err(OpenError::Refused(answer)) => panic!("only the network refuses: {answer:?}"),
        Err(_) => None,
    }
}

/// An attempt that was cut on its way may attach after the next one: that is replaced, and its client comes back
/// (PROTOCOL.md, 4100). Nothing else closes.
fn expect_replaced(received: &Received) {
    let replaced = Received::Close(Close::new(4100, "replaced"));
    assert_eq!(*received, replaced, "closed by the server");
}

/// Moves the position of an offer on.
fn cursor(at: &str, position: u64) -> String {
    let mut parts: Vec<_> = at.split('.').map(str::to_owned).collect();
    parts[3] = position.to_string();
    parts.join(".")
}

async fn commands_reach_the_handler_once_through_flaps_at_any_byte(framework: Framework) {
    const COMMANDS: usize = 1000;
    let testee = testee(framework, "").await;
    let chaos = Proxy::with_fates(testee.addr, Fate::drawn(0x5eed_0002, 3_000, 60)).await;
    let direct = Browser::at(testee.addr);
    direct.get("/").await;
    let browser = direct.moved_to_address(chaos.address());
    let (mut at, mut position, mut sent) = (client('a'), 0_u64, 0_u64);
    let mut totals = Vec::new();
    while totals.len() < COMMANDS {
        let offer = format!("session-resume.v1, at.{at}");
        let Some(mut ws) = offered(&browser, &offer).await else { continue };
        while let received = ws.next().await
            && received != Received::Gone
        {
            let Received::Message(Message::Text(text)) = received else {
                expect_replaced(&received);
                break;
            };
            let control = if let Some(json) = text.strip_prefix('\u{1}') {
                serde_json::from_str(json).unwrap()
            } else {
                totals.push(text.to_string());
                position += 1;
                at = cursor(&at, position);
                serde_json::Value::Null
            };
            if let Some(hello) = control.get("hello") {
                assert_eq!(
                    (&hello["gap"], &hello["from"]),
                    (&serde_json::Value::Null, &position.into())
                );
                at = Socket::cursor(&client('a'), hello, position);
                // What it has not received is sent again, what it has is not.
                sent = hello["received"].as_u64().unwrap();
            }
            let ack = format!("\u{1}{{\"ack\":{position}}}");
            let mut broken = ws.try_send(&*ack).await.is_err();
            // A few under way at a time.
            while !broken && sent < (COMMANDS as u64).min(position + 20) {
                broken = ws.try_send(format!("add {}", sent + 1)).await.is_err();
                sent += 1;
            }
            if broken || totals.len() == COMMANDS {
                break;
            }
        }
    }
    let mut total = 0;
    let expected: Vec<_> = (1..=COMMANDS as u64)
        .map(|k| {
            total += k;
            format!("total:{total}")
        })
        .collect();
    assert_eq!(totals, expected, "after {} flaps", flaps(&chaos));
    assert!(flaps(&chaos) > 10, "{} flaps", flaps(&chaos));
    assert_eq!(direct.get("/").await.json()["total"], COMMANDS * (COMMANDS + 1) / 2);
}
