//! What the fuzz targets and the property tests feed with bytes: anything may come in, and these hold.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::http::{HeaderValue, Request, Response, header};
use session_resume::{SessionResume, adapter};
use session_resume_proto::{
    AttachmentNumber, ClientId, MAX_INTEGER, Message, Moment, Position, WireId,
    session::{
        Access, Arrival, Attach, Budget, Claim, ClientName, Epoch, Frame, IdentityTag, Incoming,
        Overflow, Reception, Rules, Session, SessionOrigin,
    },
    wire::{self, EventId, Inbound, Offer, OutcomeStatus, SUBPROTOCOL},
};
use tower_layer::Layer as _;
use tower_service::Service;

/// Reads the bytes as a list of subprotocols: what is accepted is what would be written.
pub fn offer(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let names = text.split(',').map(str::trim);
    let Ok(parsed) = Offer::parse(names) else {
        return;
    };
    let beyond = match &parsed {
        Offer::Plain | Offer::PlainAt(_) => return,
        Offer::Fresh { .. } => false,
        Offer::Resume { cursor, attachment, .. } => {
            cursor.received.get() > MAX_INTEGER || attachment.is_some_and(|n| n.get() > MAX_INTEGER)
        }
    };
    if !beyond {
        let written = parsed.to_string();
        assert_eq!(Offer::parse([SUBPROTOCOL, &written]), Ok(parsed), "{written}");
    }
}

/// Reads the bytes as a text frame of a client and as one of a server.
pub fn frame(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match wire::decode_client_text(text.into()) {
        Ok(Inbound::Data(data)) => assert_eq!(wire::escape(Message::Text(data)), text.into()),
        Ok(Inbound::Control(control)) => {
            let Ok(Inbound::Control(again)) = wire::decode_client_text(control.encode()) else {
                panic!("{text:?}");
            };
            assert_eq!(again.ack, control.ack);
        }
        Err(_) => assert!(text.starts_with('\u{1}'), "data is never an error: {text:?}"),
    }
    match wire::decode_server_text(text.into()) {
        Ok(Inbound::Data(data)) => assert_eq!(wire::escape(Message::Text(data)), text.into()),
        Ok(Inbound::Control(control)) => {
            let Ok(Inbound::Control(again)) = wire::decode_server_text(control.encode()) else {
                panic!("{text:?}");
            };
            assert_eq!(again, control);
        }
        Err(_) => assert!(text.starts_with('\u{1}'), "data is never an error: {text:?}"),
    }
}

/// Sends the bytes as a `Cookie` header, and as changes to a cookie that is genuine: nothing but the
/// genuine one is adopted.
pub fn cookie(bytes: &[u8]) {
    // A key of its own each time: a fuzzer that watches comparisons learns the genuine cookies of earlier calls.
    let layer = SessionResume::new();
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        assert!(minted(&layer, value).is_some(), "{bytes:?} was adopted");
    }
    let first = minted(&layer, HeaderValue::from_static("")).expect("a new identity");
    let genuine = first.split(';').next().expect("a pair").to_owned();
    let as_sent = HeaderValue::from_str(&genuine).expect("what we have written");
    assert!(minted(&layer, as_sent).is_none(), "the genuine one");
    let start = genuine.find('=').expect("a pair") + 1;
    let mut forged = genuine.into_bytes();
    let genuine = forged.clone();
    for change in bytes.chunks_exact(2) {
        let at = start + usize::from(change[0]) % (forged.len() - start);
        forged[at] = b"ABab01-_"[usize::from(change[1]) % 8];
    }
    if forged != genuine {
        let value = HeaderValue::from_bytes(&forged).expect("of the alphabet");
        assert!(minted(&layer, value).is_some(), "{forged:?} was adopted");
    }
}

/// The `Set-Cookie` with which a request is answered.
fn minted(layer: &SessionResume, cookie: HeaderValue) -> Option<String> {
    let mut request = Request::new(());
    request.headers_mut().insert(header::COOKIE, cookie);
    let answer = pin!(layer.layer(Empty).call(request));
    let Poll::Ready(Ok(response)) = answer.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the identity takes no time");
    };
    let set = response.headers().get(header::SET_COOKIE)?;
    Some(set.to_str().expect("ASCII").to_owned())
}

#[derive(Clone)]
struct Empty;

impl Service<Request<()>> for Empty {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        // Used, so that the answer sets its cookie.
        adapter::identity(&request.into_parts().0).expect("the layer is there");
        ready(Ok(Response::new(())))
    }
}

/// Reads the bytes as operations on a session, two each: it keeps to its bounds, says only what a client can
/// read, and can be stored and rebuilt at every boundary.
pub fn operations(bytes: &[u8]) {
    let Some((&setting, deeds)) = bytes.split_first() else {
        return;
    };
    let mut rules = Rules::default();
    rules.attach = [Attach::Takeover, Attach::Share, Attach::Refuse][usize::from(setting) % 3];
    rules.overflow = [Overflow::Backpressure, Overflow::DropOldest, Overflow::Close]
        [usize::from(setting / 3) % 3];
    rules.durable_inbox = setting & 64 != 0;
    rules.durable_outbox = setting & 128 != 0;
    rules.bounds.outbox_messages = 6;
    rules.bounds.inbox_messages = 3;
    rules.bounds.clients = 4;
    rules.bounds.shared_clients = 6;
    let rules = Arc::new(rules);
    let mut now = Moment::from_millis(1_000_000);
    let mut session = Session::new(Arc::clone(&rules), Epoch::new(1, 1), now);
    session.start_handler(now);
    for deed in deeds.chunks_exact(2) {
        session = act(session, &rules, deed[0], deed[1], &mut now);
        let _ = session.take_wake();
        assert!(session.outbox_messages() <= 6);
        // One more client may be there than is remembered when it leaves: never more than the limits.
        assert!(session.clients().count() <= 6);
        let of = |identity| session.clients().filter(|who| who.name.identity == identity).count();
        assert!([0, 1].iter().all(|n| of(IdentityTag::new([*n; 16])) <= 4));
        assert!(session.inbox_messages() <= 6 * 3);
    }
}

fn act(
    mut session: Session<u8>,
    rules: &Arc<Rules>,
    deed: u8,
    arg: u8,
    now: &mut Moment,
) -> Session<u8> {
    let newest = session.newest_attachment().get();
    let number = AttachmentNumber::new(newest.saturating_sub(u64::from(arg % 3)));
    match deed % 12 {
        0 => {
            let (client, claim) = arrival(&session, arg);
            let id = WireId::parse("s").expect("a token");
            let info = arg % 4;
            let access = if arg / 4 % 4 == 3 { Access::ReadOnly } else { Access::Full };
            let arrival = Arrival {
                client,
                access,
                info,
                origin: SessionOrigin::Reused,
                claim,
                nonce: [arg; 8],
            };
            let _ = session.attach(arrival, &id, *now);
        }
        1 | 2 => {
            let text = match arg / 4 % 8 {
                0 => format!("\u{1}{{\"ack\":{}}}", session.head()),
                1 => format!("\u{1}{{\"ack\":{}}}", session.head().get().saturating_sub(2)),
                2 => "\u{1}\u{1}".to_owned(),
                3 if arg > 200 => "\u{1}?".to_owned(),
                _ => "data".to_owned(),
            };
            match session.handle_frame(number, Incoming::Text(text.into()), *now) {
                Reception::Done | Reception::Full(_) | Reception::TooFast { .. } => {}
                Reception::State(_) => panic!("nobody offers a state"),
            }
        }
        3 | 4 => {
            let budget = Budget { messages: usize::from(arg % 5), bytes: 1000 };
            let mut frames = Vec::new();
            session.poll_transmit(number, budget, *now, &mut frames);
            for frame in frames {
                if let Frame::Control(text) = frame {
                    let read = wire::decode_server_text(text.clone());
                    assert!(matches!(read, Ok(Inbound::Control(_))), "{text}");
                }
            }
        }
        5 | 6 => {
            let head = session.head();
            if let Ok(position) = session.send("message".into(), *now) {
                assert_eq!(position, head);
            }
        }
        7 | 8 => drop(session.poll_receive(*now)),
        9 => {
            *now = *now + Duration::from_millis(u64::from(arg) * 200);
            session.handle_transport_timeout(number, *now);
        }
        10 => match arg % 8 {
            0 => session.freeze_at_boundary(),
            1 => session.thaw(*now),
            2 if arg > 230 => drop(session.end(OutcomeStatus::Closed, *now)),
            3 => session.handle_close_answered(number),
            _ => session.detach(number, *now),
        },
        _ if session.is_message_in_hand() => {}
        _ => {
            let (snapshot, covered) = session.snapshot(arg & 1 != 0);
            session.handle_committed(&covered, *now);
            if arg & 2 != 0 && session.ended().is_none() {
                let clean = arg & 1 != 0;
                let head = session.head();
                session = Session::restore(
                    Arc::clone(rules),
                    snapshot,
                    clean,
                    now.as_micros(),
                    Duration::ZERO,
                    *now,
                    |_| 0,
                );
                let goes_on = clean || rules.durable_outbox;
                assert_eq!(session.head(), if goes_on { head } else { Position::ZERO });
                session.start_handler(*now);
            }
        }
    }
    session
}

fn arrival(session: &Session<u8>, arg: u8) -> (ClientName, Claim) {
    let name = ClientId::parse(
        &"abc"
            .chars()
            .nth(usize::from(arg % 6 / 2))
            .map_or_else(String::new, |c| c.to_string().repeat(16)),
    );
    // The same ids under two identities.
    let identity = IdentityTag::new([arg % 2; 16]);
    let named = ClientName::named(identity, name.expect("16 letters"));
    let received = Position::new(match arg / 8 % 4 {
        0 => 0,
        1 => session.head().get(),
        2 => session.head().get() / 2,
        _ => u64::MAX,
    });
    match arg / 32 {
        0 => (ClientName::plain(identity), Claim::Plain),
        1 => (named, Claim::Fresh),
        2 => {
            let (epoch, attachment) = (session.epoch().token(), session.newest_attachment());
            let at = EventId { epoch, position: received, attachment };
            (ClientName::plain(identity), Claim::PlainAt((received > Position::ZERO).then_some(at)))
        }
        3 => (named, Claim::Lost { received }),
        4 => {
            let epoch = WireId::parse("other").expect("a token");
            (named, Claim::Cursor { epoch, received, attachment: None })
        }
        more => {
            let attachment = (more == 5).then(|| session.newest_attachment());
            (named, Claim::Cursor { epoch: session.epoch().token(), received, attachment })
        }
    }
}
