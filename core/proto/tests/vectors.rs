//! Reads `tests/vectors/wire.json`, which other languages read, too.

use std::time::Duration;

use serde_json::{Value, json};
use session_resume_proto::{
    MAX_INTEGER, Message, Moment, Position,
    client::{Action, Client, Config, Event, Random, TransportNumber},
    numbers,
    wire::{
        Close, CloseKind, Inbound, MalformedOffer, Offer, ProtocolError, SUBPROTOCOL,
        ServerControl, VERSION, decode_client_text, decode_server_text, escape,
    },
};

fn vectors() -> Value {
    let text = include_str!("../../../tests/vectors/wire.json");
    serde_json::from_str(text).unwrap()
}

/// Checks every row of one list, and that there are any.
fn each(list: &str, check: impl Fn(&Value)) {
    let vectors = vectors();
    let rows = vectors[list].as_array().unwrap();
    assert!(rows.len() > 5, "{list}");
    rows.iter().for_each(check);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn error_name(err: ProtocolError) -> &'static str {
    match err {
        ProtocolError::UnknownMark => "unknown-mark",
        ProtocolError::BadControl => "bad-control",
        ProtocolError::TooLarge => "too-large",
        other => panic!("not an error of reading: {other}"),
    }
}

/// What a frame reads as, in the form of the vectors.
fn read<C: serde::Serialize>(frame: Result<Inbound<C>, ProtocolError>) -> Value {
    match frame {
        Ok(Inbound::Data(text)) => json!({ "data": text.to_string() }),
        Ok(Inbound::Control(control)) => json!({ "control": control }),
        Err(err) => json!({ "error": error_name(err) }),
    }
}

/// Compares what a row expects with what came out.
fn compare(row: &Value, found: &Value, members: &[&str]) {
    for &member in members {
        assert_eq!(row.get(member), found.get(member), "{row}");
    }
}

#[test]
fn the_version_is_ours() {
    assert_eq!(vectors()["version"], 1);
    assert_eq!(vectors()["protocol"], SUBPROTOCOL);
}

#[test]
fn the_numbers_are_ours() {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
    let ours = json!({
        "version": VERSION,
        "largest_integer": MAX_INTEGER,
        "ack_messages": numbers::ACK_MESSAGES,
        "ack_bytes": numbers::ACK_BYTES,
        "ack_after_ms": ms(numbers::ACK_AFTER),
        "silent_heartbeats": f64::from(numbers::SILENT_HALF_HEARTBEATS) / 2.0,
        "ask_after_ms": ms(numbers::ASK_AFTER),
        "ask_again_ms": ms(numbers::ASK_AGAIN),
        "answer_within_ms": ms(numbers::ANSWER_WITHIN),
        "bytes_a_second": numbers::BYTES_A_SECOND,
        "backoff_first_ms": ms(numbers::BACKOFF_FIRST),
        "backoff_max_ms": ms(numbers::BACKOFF_MAX),
        "retry_spread_ms": ms(numbers::RETRY_SPREAD),
        "close_after_done_ms": ms(numbers::CLOSE_AFTER_DONE),
    });
    assert_eq!(vectors()["numbers"], ours);
    assert_eq!(SUBPROTOCOL, format!("session-resume.v{VERSION}"));
}

#[test]
fn offers() {
    each("offers", |row| {
        let protocols = row["protocols"].as_array().unwrap();
        let found = match Offer::parse(protocols.iter().map(text)) {
            Ok(offer) => json!({ "offer": offer_json(&offer) }),
            Err(MalformedOffer::UnknownVersion) => json!({ "error": "unknown-version" }),
            Err(MalformedOffer::Incomplete) => json!({ "error": "incomplete" }),
            Err(MalformedOffer::BadCursor) => json!({ "error": "bad-cursor" }),
            Err(other) => panic!("{other}"),
        };
        compare(row, &found, &["offer", "error"]);
    });
}

fn offer_json(offer: &Offer) -> Value {
    let number = |n: u64| {
        if n == u64::MAX { json!("above") } else { json!(n) }
    };
    match offer {
        Offer::Plain | Offer::PlainAt(_) => json!({ "kind": "plain" }),
        Offer::Fresh { client } => json!({ "kind": "fresh", "client": client }),
        Offer::Resume { client, cursor, attachment } => json!({
            "kind": "resume",
            "client": client,
            "session": cursor.session,
            "epoch": cursor.epoch,
            "received": number(cursor.received.get()),
            "attachment": attachment.map(|n| number(n.get())),
        }),
    }
}

#[test]
fn client_frames() {
    each("client_frames", |row| {
        let found = read(decode_client_text(text(&row["text"]).into()));
        compare(row, &found, &["data", "control", "error"]);
    });
}

#[test]
fn server_frames() {
    each("server_frames", |row| {
        let found = read(decode_server_text(text(&row["text"]).into()));
        compare(row, &found, &["data", "control", "error"]);
        if row["encode"] == true {
            let control: ServerControl = serde_json::from_value(row["control"].clone()).unwrap();
            assert_eq!(&*control.encode(), text(&row["text"]));
        }
    });
}

#[test]
fn escapes() {
    each("escape", |row| {
        let (data, wire) = (text(&row["data"]), text(&row["wire"]));
        assert_eq!(escape(Message::text(data)), Message::text(wire), "{row}");
        assert_eq!(read(decode_client_text(wire.into())), json!({ "data": data }));
    });
}

#[test]
fn closes() {
    each("closes", |row| {
        let code = u16::try_from(row["code"].as_u64().unwrap()).unwrap();
        let close = Close::new(code, text(&row["reason"]).to_owned());
        assert_eq!(kind_name(close.kind()), row["kind"], "{row}");
        if let Some(name) = row.get("name") {
            assert_eq!(close, ours(text(name)), "{row}");
        }
        let mut client = Attached::new();
        assert_eq!(client.answer(&close), row["first"], "{row}");
        if row["first"] != row["again"] {
            assert_eq!(client.answer(&close), row["again"], "{row}, again");
        }
    });
}

#[test]
fn every_kind_of_close_has_a_row() {
    let vectors = vectors();
    let rows = vectors["closes"].as_array().unwrap();
    for kind in KINDS {
        assert!(rows.iter().any(|row| row["kind"] == kind_name(kind)), "{kind:?}");
    }
}

const KINDS: [CloseKind; 17] = [
    CloseKind::Normal,
    CloseKind::Done,
    CloseKind::NoCode,
    CloseKind::TooBig,
    CloseKind::InternalError,
    CloseKind::Superseded,
    CloseKind::Replaced,
    CloseKind::Refused,
    CloseKind::ProtocolError,
    CloseKind::ReadOnly,
    CloseKind::Reauthenticate,
    CloseKind::Restarting,
    CloseKind::Moved,
    CloseKind::TryAgain,
    CloseKind::Stale,
    CloseKind::Application,
    CloseKind::Other,
];

/// The name of a kind in the vectors. A new kind goes into [`KINDS`], too.
fn kind_name(kind: CloseKind) -> &'static str {
    match kind {
        CloseKind::Normal => "normal",
        CloseKind::Done => "done",
        CloseKind::NoCode => "no-code",
        CloseKind::TooBig => "too-big",
        CloseKind::InternalError => "internal-error",
        CloseKind::Superseded => "superseded",
        CloseKind::Replaced => "replaced",
        CloseKind::Refused => "refused",
        CloseKind::ProtocolError => "protocol-error",
        CloseKind::ReadOnly => "read-only",
        CloseKind::Reauthenticate => "reauthenticate",
        CloseKind::Restarting => "restarting",
        CloseKind::Moved => "moved",
        CloseKind::TryAgain => "try-again",
        CloseKind::Stale => "stale",
        CloseKind::Application => "application",
        CloseKind::Other => "other",
    }
}

fn ours(name: &str) -> Close {
    match name {
        "DONE" => Close::DONE,
        "TOO_BIG" => Close::TOO_BIG,
        "INTERNAL_ERROR" => Close::INTERNAL_ERROR,
        "RESTARTING" => Close::RESTARTING,
        "TRY_AGAIN" => Close::TRY_AGAIN,
        "MOVED" => Close::MOVED,
        "STALE" => Close::STALE,
        "SUPERSEDED" => Close::SUPERSEDED,
        "REPLACED" => Close::REPLACED,
        "REFUSED" => Close::REFUSED,
        "ANOTHER_HANDLER" => Close::ANOTHER_HANDLER,
        "ANOTHER_PATH" => Close::ANOTHER_PATH,
        "PROTOCOL_ERROR" => Close::PROTOCOL_ERROR,
        "READ_ONLY" => Close::READ_ONLY,
        "REAUTHENTICATE" => Close::REAUTHENTICATE,
        other => panic!("{other}"),
    }
}

/// A client with a session, on the transport that is to be closed.
struct Attached {
    client: Client,
    transport: TransportNumber,
    now: Moment,
}

impl Attached {
    fn new() -> Self {
        let now = Moment::ZERO;
        let mut client = Client::new(Config::default(), &Random::default(), now);
        let Some(Action::Connect { transport, .. }) = client.poll_action() else {
            panic!("a client connects")
        };
        let hello = &vectors()["server_frames"][0]["text"];
        client.handle_frame(transport, text(hello).into(), now);
        Self { client, transport, now }
    }

    /// What the client does about this close of its newest transport.
    fn answer(&mut self, close: &Close) -> &'static str {
        let id = self.client.id();
        while self.client.take(self.now).is_some() {}
        self.client.handle_closed(self.transport, Some(close.clone()));
        if self.client.is_offline() {
            return match self.client.take(self.now) {
                Some(Event::Superseded) => "superseded",
                Some(Event::Refused { .. }) => "refused",
                Some(Event::Failed { .. }) => "failed",
                other => panic!("{other:?}"),
            };
        }
        assert_eq!(self.client.poll_action(), Some(Action::Randomize));
        self.client.handle_random(&[0x99; 32], self.now);
        let waits = matches!(self.client.take(self.now), Some(Event::Waiting { .. }));
        if waits {
            self.now = self.client.poll_timeout().unwrap();
            self.client.handle_timeout(self.now);
        }
        let Some(Action::Connect { transport, offer }) = self.client.poll_action() else {
            panic!("it was going to come back")
        };
        self.transport = transport;
        match (offer, waits) {
            (Offer::Resume { cursor, .. }, waits) => {
                assert_eq!((cursor.session.as_str(), cursor.received), ("s", Position::ZERO));
                if waits { "return" } else { "return-at-once" }
            }
            (Offer::Fresh { client }, false) if client != id => "rename",
            (Offer::Fresh { client }, true) if client == id => "fresh",
            other => panic!("{other:?}"),
        }
    }
}
