//! The search itself, and that it finds each planted fault.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    bounds::{BASE, Bounds, Kind, POLL, STREAM},
    fault::Fault,
    search::explore,
};

const THREE_POLLS: &[Kind] = &[Kind::Poll, Kind::Poll, Kind::Poll];
const POLL_THEN_WEB_SOCKET: &[Kind] = &[Kind::Poll, Kind::WebSocket];
const WEB_SOCKET_THEN_POLL: &[Kind] = &[Kind::WebSocket, Kind::Poll];
const STREAM_THEN_WEB_SOCKET: &[Kind] = &[Kind::Stream, Kind::WebSocket];
const ONE_OF_EACH: &[Kind] = &[Kind::Stream, Kind::Poll, Kind::WebSocket];

/// Nothing goes wrong.
const CALM: Bounds = Bounds { losses: 0, doubles: 0, give_ups: 0, ..BASE };
const LAZY: Bounds = Bounds { lazy: true, ..CALM };

fn holds(name: &str, bounds: Bounds) {
    println!("{name}: {} states", explore(bounds, None));
}

#[test]
fn polls() {
    holds("poll, one message each way", Bounds { give_ups: 0, ..BASE });
    holds("poll, two down", Bounds { up: 0, down: 2, give_ups: 0, ..BASE });
    holds("poll, two up", Bounds { up: 2, down: 0, give_ups: 0, ..BASE });
    holds("poll, re-attach", Bounds { losses: 0, ..BASE });
    holds("poll, window 1", Bounds { window: 1, doubles: 0, ..BASE });
}

#[test]
fn polls_that_are_given_up_too_early() {
    holds("poll slow", Bounds { slow: 1, doubles: 1, ..CALM });
}

#[test]
fn polls_that_the_server_finds_absent() {
    holds("poll, absent", Bounds { absences: 1, doubles: 1, ..CALM });
    holds("poll, absent and lost", Bounds { absences: 1, losses: 1, ..CALM });
}

#[test]
fn polls_that_the_session_reads_late() {
    holds("poll, read late", Bounds { losses: 1, doubles: 1, down: 0, ..LAZY });
    holds("poll, read late, re-attach", Bounds { give_ups: 1, doubles: 1, down: 0, ..LAZY });
}

#[test]
fn streams() {
    holds("stream", Bounds { kinds: STREAM, give_ups: 0, ..BASE });
    holds("stream, two losses", Bounds { kinds: STREAM, losses: 2, ..CALM });
    holds("stream, window 1", Bounds { kinds: STREAM, window: 1, losses: 1, down: 2, ..CALM });
    holds("stream, re-attach", Bounds { kinds: STREAM, losses: 0, ..BASE });
}

#[test]
fn a_stream_that_is_held_back_becomes_polls_on_the_same_pipe() {
    holds("stream, then polls", Bounds { kinds: STREAM, flips: true, give_ups: 0, ..BASE });
}

#[test]
fn from_one_transport_to_another() {
    holds("poll, WebSocket", Bounds { kinds: POLL_THEN_WEB_SOCKET, ..BASE });
    holds("WebSocket, poll", Bounds { kinds: WEB_SOCKET_THEN_POLL, ..BASE });
    holds("stream, WebSocket", Bounds { kinds: STREAM_THEN_WEB_SOCKET, losses: 0, ..BASE });
    let bounds = Bounds { kinds: ONE_OF_EACH, losses: 0, doubles: 0, give_ups: 2, ..BASE };
    holds("stream, poll, WebSocket", bounds);
}

#[test]
fn three_pipes_in_a_row_with_offers_that_come_late() {
    let bounds = Bounds { kinds: THREE_POLLS, losses: 0, give_ups: 2, down: 0, ..BASE };
    holds("three polls", bounds);
}

/// Where each fault shows: a search through fewer states is enough.
#[test]
fn every_planted_fault_is_found() {
    for (fault, bounds) in [
        (Fault::WrittenIsConfirmed, Bounds { losses: 1, ..CALM }),
        (Fault::WrittenIsConfirmed, Bounds { kinds: STREAM, losses: 1, ..CALM }),
        (Fault::NoUpNumbers, Bounds { doubles: 1, ..CALM }),
        (Fault::AnsweredIsAcknowledged, Bounds { give_ups: 1, down: 0, ..LAZY }),
        (Fault::QueueIsReadLate, Bounds { give_ups: 1, down: 0, ..LAZY }),
        (Fault::PostsCountAfterTurn, Bounds { give_ups: 1, down: 0, ..CALM }),
        (Fault::NoStaleCheck, Bounds { kinds: THREE_POLLS, give_ups: 2, down: 0, ..CALM }),
        (Fault::ConfirmsByGetsOnly, Bounds { kinds: STREAM, window: 2, down: 3, ..CALM }),
        (Fault::RepeatGrows, Bounds { losses: 1, ..CALM }),
        (Fault::TwoPosts, Bounds { up: 2, down: 0, ..CALM }),
        (Fault::LateAnswersHeard, Bounds { slow: 1, down: 2, ..CALM }),
        (Fault::NoTag, Bounds { absences: 1, doubles: 1, kinds: POLL, ..CALM }),
    ] {
        let found = catch_unwind(AssertUnwindSafe(move || explore(bounds, Some(fault))));
        println!("{fault:?} found: {}", found.is_err());
        assert!(found.is_err(), "{fault:?} is not found");
    }
}
