//! Reads `tests/vectors/http.json`, which other languages read, too.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use session_resume_proto::{
    Message, Moment, numbers,
    pipe::{
        Answer, Arrival, Choice, Client, ClientConfig, Follow, Form, Lane, Memory, Method, Nonce,
        Path,
    },
    wire::{
        Close, EventReader, FLOW, FrameError, GREETING, PipeFrame, StreamItem, decode_frames,
        encode_event, encode_frames,
    },
};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../tests/vectors/http.json")).unwrap()
}

fn each(list: &str, check: impl Fn(&Value)) {
    let vectors = vectors();
    let rows = vectors[list].as_array().unwrap();
    assert!(rows.len() > 5, "{list}");
    rows.iter().for_each(check);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> =
        hex.chars().map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn close(value: &Value) -> Close {
    Close::new(u16::try_from(value[0].as_u64().unwrap()).unwrap(), text(&value[1]).to_owned())
}

fn close_json(close: &Close) -> Value {
    json!([close.code, close.reason])
}

fn frame(value: &Value) -> PipeFrame {
    let (kind, content) = value.as_object().unwrap().iter().next().unwrap();
    match &**kind {
        "text" => PipeFrame::Text(text(content).into()),
        "binary" => PipeFrame::Binary(bytes(text(content)).into()),
        "close" => PipeFrame::Close(close(content)),
        "ping" => PipeFrame::Ping,
        other => panic!("{other}"),
    }
}

fn frame_json(frame: &PipeFrame) -> Value {
    match frame {
        PipeFrame::Text(text) => json!({ "text": text.to_string() }),
        PipeFrame::Binary(bytes) => json!({ "binary": hex(bytes) }),
        PipeFrame::Close(close) => json!({ "close": close_json(close) }),
        PipeFrame::Ping => json!({ "ping": true }),
    }
}

fn frames(value: &Value) -> Vec<PipeFrame> {
    value.as_array().unwrap().iter().map(frame).collect()
}

fn frames_json(frames: &[PipeFrame]) -> Value {
    frames.iter().map(frame_json).collect()
}

fn error_name(error: FrameError) -> &'static str {
    match error {
        FrameError::UnknownKind => "unknown-kind",
        FrameError::BadPayload => "bad-payload",
        FrameError::Cut => "cut",
        other => panic!("{other}"),
    }
}

#[test]
fn the_numbers_are_ours() {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
    let ours = json!({
        "ack_after_ms": ms(numbers::PIPE_ACK_AFTER),
        "absent_ms": ms(numbers::PIPE_ABSENT),
        "hold_ms": ms(numbers::PIPE_HOLD),
        "rotate_ms": ms(numbers::PIPE_ROTATE),
        "kept_frames": numbers::PIPE_KEPT_FRAMES,
        "kept_bytes": numbers::PIPE_KEPT_BYTES,
        "batch_frames": numbers::PIPE_BATCH_FRAMES,
        "batch_bytes": numbers::PIPE_BATCH_BYTES,
        "post_given_up_ms": ms(numbers::PIPE_POST_GIVEN_UP),
        "get_slack_ms": ms(numbers::PIPE_GET_SLACK),
        "buffered_ms": ms(numbers::PIPE_BUFFERED),
        "flow_after_ms": ms(numbers::PIPE_FLOW_AFTER),
        "retry_ms": ms(numbers::PIPE_RETRY),
        "open_repeated_ms": ms(numbers::PIPE_OPEN_REPEATED),
        "pause_ms": ms(numbers::PIPE_PAUSE),
        "confirm_frames": numbers::PIPE_CONFIRM_FRAMES,
        "confirm_bytes": numbers::PIPE_CONFIRM_BYTES,
        "mute_ms": ms(numbers::CHOICE_MUTE),
        "options_ms": ms(numbers::CHOICE_OPTIONS),
        "died_within_ms": ms(numbers::CHOICE_DIED_WITHIN),
        "deaths": numbers::CHOICE_DEATHS,
        "probes_ms": numbers::CHOICE_PROBES.map(ms),
        "remembered_ms": ms(numbers::CHOICE_REMEMBERED),
    });
    let vectors = vectors();
    assert_eq!(vectors["version"], 1);
    assert_eq!(vectors["numbers"], ours);
    assert_eq!((&vectors["greeting"], &vectors["flow"]), (&json!(GREETING), &json!(FLOW)));
}

#[test]
fn frames_in_bodies() {
    each("frames", |row| {
        let found = match decode_frames(bytes(text(&row["hex"])).into()) {
            Ok(frames) => json!({ "frames": frames_json(&frames) }),
            Err(error) => json!({ "error": error_name(error) }),
        };
        assert_eq!(
            (row.get("frames"), row.get("error")),
            (found.get("frames"), found.get("error")),
            "{row}"
        );
        if let Some(list) = row.get("frames") {
            assert_eq!(hex(&encode_frames(&frames(list))), text(&row["hex"]), "{row}");
        }
    });
}

#[test]
fn events_of_streams() {
    each("events", |row| {
        let event = text(&row["event"]);
        let mut reader = EventReader::new(1000);
        let fed = reader.feed(event.as_bytes());
        let read = std::iter::from_fn(|| reader.next_item()).find_map(|item| match item {
            StreamItem::Frame(frame) => Some(frame_json(&frame)),
            StreamItem::Comment(_) => None,
        });
        assert_eq!(row.get("error"), fed.err().map(error_name).map(Value::from).as_ref(), "{row}");
        assert_eq!(row.get("frame"), read.as_ref(), "{row}");
        // What only a reader must bear is not written.
        if row.get("error").is_none() && !event.starts_with(':') {
            let mut written = String::new();
            encode_event(&frame(&row["frame"]), &mut written);
            assert_eq!(written, event);
        }
    });
}

/// A client that lives a script.
struct Actor {
    client: Client,
    now: Moment,
}

#[test]
fn pipes_of_a_client() {
    each("pipe", |script| {
        let name = text(&script["name"]);
        let form = if script["form"] == "stream" { Form::Stream } else { Form::Poll };
        let config = ClientConfig { form, limit: 4096, random: u64::MAX };
        let nonce = Nonce::parse("AAAAAAAAAAAAAAAAAAAAAA").unwrap();
        let offer = "session-resume.v1, at.abcdefghijklmnop".to_owned();
        let now = Moment::from_millis(1000);
        let mut actor = Actor { client: Client::new(config, nonce, offer, now), now };
        for (n, step) in script["steps"].as_array().unwrap().iter().enumerate() {
            actor.step(step, &format!("{name}, step {n}"));
        }
    });
}

impl Actor {
    fn step(&mut self, step: &Value, place: &str) {
        let (now, client) = (self.now, &mut self.client);
        while client.poll_abort().is_some() {}
        let member = |name: &str| step.get(name);
        if let Some(expected) = member("request") {
            assert_eq!(&self.request(), expected, "{place}");
        } else if member("none").is_some() {
            assert_eq!(client.poll_request(now), None, "{place}");
        } else if let Some(lane) = member("lane") {
            let lane = if lane == "get" { Lane::Get } else { Lane::Post };
            self.answer(lane, step);
        } else if let Some(more) = member("more") {
            client.handle_body(text(more).as_bytes(), now);
        } else if let Some(lane) = member("fails") {
            client.handle_failed(if lane == "get" { Lane::Get } else { Lane::Post }, now);
        } else if let Some(frame) = member("sends") {
            client.send(Message::text(text(frame)));
        } else if let Some(value) = member("closes") {
            client.close(close(value), now);
        } else if let Some(expected) = member("arrives") {
            assert_eq!(&self.arrived(), expected, "{place}");
        } else if let Some(after) = member("after") {
            self.now = now + Duration::from_millis(after.as_u64().unwrap());
            self.client.handle_timeout(self.now);
        } else {
            panic!("{place}: {step}");
        }
    }

    fn request(&mut self) -> Value {
        let outgoing = self.client.poll_request(self.now).expect("a request");
        let headers: serde_json::Map<_, _> = outgoing
            .headers()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect();
        let frames = decode_frames(outgoing.body.clone()).unwrap();
        match outgoing.method() {
            Method::Get => json!({ "method": "GET", "headers": headers }),
            Method::Post => {
                json!({ "method": "POST", "headers": headers, "frames": frames_json(&frames) })
            }
        }
    }

    fn answer(&mut self, lane: Lane, step: &Value) {
        let status = u16::try_from(step["status"].as_u64().unwrap()).unwrap();
        let answer = Answer::read(status, |name| step["headers"].get(name)?.as_str());
        if !self.client.handle_answer(lane, &answer, self.now) {
            return;
        }
        if let Some(stream) = step.get("stream") {
            return self.client.handle_body(text(stream).as_bytes(), self.now);
        }
        let body = match step.get("hex") {
            Some(hex) => Bytes::from(bytes(text(hex))),
            None => encode_frames(&frames(&step["frames"])).into(),
        };
        self.client.handle_body(&body, self.now);
        self.client.handle_end(self.now);
    }

    /// What has come, without signs of life.
    fn arrived(&mut self) -> Value {
        let arrivals = std::iter::from_fn(|| self.client.poll_arrival());
        arrivals
            .filter_map(|arrival| match arrival {
                Arrival::Message(Message::Text(text)) => Some(json!(text.to_string())),
                Arrival::Message(Message::Binary(bytes)) => Some(json!({ "binary": hex(&bytes) })),
                Arrival::Alive => None,
                Arrival::Closed(close) => Some(json!({ "closed": close.as_ref().map(close_json) })),
                Arrival::Copied => Some(json!({ "copied": true })),
                Arrival::TooBig => Some(json!({ "too_big": true })),
                Arrival::Broken => Some(json!({ "broken": true })),
                Arrival::Refused { status } => Some(json!({ "refused": status })),
            })
            .collect()
    }
}

fn path(value: &Value) -> Path {
    Path::from_name(text(value)).unwrap()
}

fn memory_name(memory: Memory) -> &'static str {
    match memory {
        Memory::Leave => "leave",
        Memory::Forget => "forget",
        Memory::Remember(path, time) => {
            assert_eq!(time, numbers::CHOICE_REMEMBERED);
            path.name()
        }
    }
}

#[test]
fn choices_of_a_client() {
    each("choice", |script| {
        let allowed: Vec<_> = script["allowed"].as_array().unwrap().iter().map(path).collect();
        let remembered = script["remembered"].as_str().and_then(Path::from_name);
        let mut choice = Choice::new(&allowed, remembered);
        let mut now = Moment::from_millis(1000);
        for (n, step) in script["steps"].as_array().unwrap().iter().enumerate() {
            let place = format!("{}, step {n}", script["name"]);
            if let Some(after) = step.get("after") {
                now = now + Duration::from_millis(after.as_u64().unwrap());
            } else {
                assert_eq!(&chosen(&mut choice, step, now), step, "{place}");
            }
        }
    });
}

/// Does a step, and returns it as it came out.
fn chosen(choice: &mut Choice, step: &Value, now: Moment) -> Value {
    let member = |name: &str| step.get(name);
    let is = |name: &str| step[name].as_bool().unwrap();
    if member("way").is_some() {
        json!({ "way": choice.path().name() })
    } else if let Some(by) = member("fails") {
        let follow = choice.handle_no_hello(path(by));
        json!({ "fails": by, "at_once": follow == Follow::AtOnce })
    } else if let Some(by) = member("greeted") {
        json!({ "greeted": by, "remember": memory_name(choice.handle_hello(path(by), now)) })
    } else if member("heard").is_some() {
        json!({ "heard": memory_name(choice.handle_arrival()) })
    } else if member("gone").is_some() {
        choice.handle_gone(is("gone"), now);
        step.clone()
    } else if member("held_back").is_some() {
        json!({ "held_back": memory_name(choice.handle_buffered()) })
    } else if member("moves_network").is_some() {
        assert_eq!(choice.handle_network_change(now), Memory::Forget);
        step.clone()
    } else if member("looks").is_some() {
        json!({ "looks": choice.poll_probe(now) })
    } else if member("looked").is_some() {
        json!({ "looked": is("looked"), "moves": choice.handle_probe(is("looked"), now) })
    } else {
        let due = choice.poll_timeout().map(|at| u64::try_from(at.since(now).as_millis()).unwrap());
        json!({ "due": due })
    }
}
