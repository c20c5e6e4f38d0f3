//! The handler of `/live`: obeys text messages, one command each.

use std::time::Duration;

use session_resume::{
    Client, Event, LiveSession, Message, Outgoing, Result, SendErrorKind, Session,
};

use crate::tally::Tally;

/// The handler's name, on whichever path.
pub(crate) const NAME: &str = "live";
/// How long a client of `/brief` may stay.
pub(crate) const BRIEF: Duration = Duration::from_secs(2);
/// Guards are named after what they do.
const BLOCK: &str = "block";
/// The code that `kick` closes with.
const KICKED: u16 = 4000;

/// What a command leads to.
enum Next {
    Go,
    Finish(String),
}

/// What the handler has been told in addition to messages.
#[derive(Default)]
struct Told {
    /// Who has sent the message in hand.
    client: Option<Client>,
    dropped: Vec<u64>,
    undeliverable: Vec<u64>,
}

pub(crate) async fn live(mut session: LiveSession<Tally>) -> Result<Option<String>> {
    let mut told = Told::default();
    while let Some(message) = told.receive(&mut session).await {
        let Some(text) = message.as_text() else {
            session.send(message).await?;
            continue;
        };
        if let Next::Finish(result) = obey(&mut session, &mut told, text).await? {
            return Ok(Some(result));
        }
    }
    Ok(None)
}

/// Whether a message is to be taken while the handler is busy.
pub(crate) fn is_urgent(message: &Message) -> bool {
    stops(message).is_some()
}

/// Reads a `stop`.
fn stops(message: &Message) -> Option<&str> {
    let text = message.as_text()?;
    let (command, rest) = text.split_once(' ').unwrap_or((text, ""));
    (command == "stop").then_some(rest)
}

/// Another handler: attaching it to a session of `/live` is the 409 case.
pub(crate) async fn other(mut session: LiveSession<Tally>) -> Result {
    while let Some(message) = session.recv().await {
        session.send(message).await?;
    }
    Ok(())
}

impl Told {
    /// The next message; notes what comes before it.
    async fn receive(&mut self, session: &mut LiveSession<Tally>) -> Option<Message> {
        loop {
            match session.recv_event().await? {
                Event::Message { message, client, .. } => {
                    self.client = Some(client);
                    return Some(message);
                }
                Event::Dropped { number, .. } => self.dropped.push(number),
                Event::Undeliverable { position, .. } => self.undeliverable.push(position),
                _ => {}
            }
        }
    }
}

async fn obey(session: &mut LiveSession<Tally>, told: &mut Told, text: &str) -> Result<Next> {
    let (command, rest) = text.split_once(' ').unwrap_or((text, ""));
    match (command, rest) {
        ("whoami", "") => {
            let origin = session.origin();
            let text =
                format!("session:{} origin:{origin} identity:{}", session.id(), session.identity());
            session.send(text).await?;
        }
        ("echo", text) => session.send(format!("echo:{text}")).await?,
        ("say", text) => session.send(text).await?,
        ("add", k) if k.parse::<i64>().is_ok() => {
            let k = k.parse()?;
            let total = session.update(|tally| tally.add(k));
            session.send(format!("total:{total}")).await?;
        }
        ("sum", rest) if sum(rest).is_some() => {
            let (tag, k) = sum(rest).unwrap_or_default();
            session.send(format!("sum:{tag}:{}", added(session, k))).await?;
        }
        ("where", "") => {
            let node = session.node_name();
            let (node, generation) = (node.as_deref().unwrap_or("-"), session.generation());
            session.send(format!("node:{node} generation:{generation}")).await?;
        }
        ("get", "") => {
            let (total, n) = session.read(|tally| (tally.total, tally.log.len()));
            session.send(format!("total:{total} n:{n}")).await?;
        }
        ("emit", numbers) if pair(numbers).is_some() => {
            let (n, size) = pair(numbers).unwrap_or_default();
            emit(session, n, size).await?;
        }
        ("every", numbers) if pair(numbers).is_some() => {
            let (ms, n) = pair(numbers).unwrap_or_default();
            session.spawn("every", every(session.handle(), ms, n));
        }
        ("block", ms) if ms.parse::<u64>().is_ok() => {
            let guard = session.block_expiration(BLOCK);
            let ms = Duration::from_millis(ms.parse()?);
            session.send("blocked").await?;
            tokio::spawn(async move {
                tokio::time::sleep(ms).await;
                drop(guard);
            });
        }
        ("busy", ms) if ms.parse::<u64>().is_ok() => {
            busy(session, Duration::from_millis(ms.parse()?)).await?;
        }
        // Nothing is under way: it has come in its turn.
        ("stop", text) => session.send(format!("stopped:{text}")).await?,
        ("ask", id) => ask(session, told, id).await?,
        ("checkpoint", text) => session.send_checkpoint(format!("cp:{text}")).await?,
        ("turn", "") => session.send_checkpoint("turn").await?,
        ("endturn", "") => session.clear_checkpoint(),
        ("tell", text) => tell(session, told.client, text).await?,
        ("latest", rest) if latest(rest).is_some() => {
            let (slot, n) = latest(rest).unwrap_or_default();
            for k in 0..n {
                session.send_latest(slot, format!("l:{slot}:{k}")).await?;
            }
        }
        ("brief", rest) if brief(rest).is_some() => {
            let (ms, text) = brief(rest).unwrap_or_default();
            let time = Duration::from_millis(ms);
            session.send(Outgoing::new(text).with_time_to_live(time)).await?;
        }
        ("commit", "") => {
            session.commit().await?;
            session.send("committed").await?;
        }
        ("undeliverable", "") => {
            session.send(format!("undeliverable:{}", list(&told.undeliverable))).await?;
        }
        ("state", bytes) if bytes.parse::<usize>().is_ok() => {
            let bytes = bytes.parse()?;
            session.update(|tally| tally.pad = pad(bytes));
            session.send(format!("state:{bytes}")).await?;
        }
        ("delivered", "") => delivered(session).await?,
        ("who", "") => who(session).await?,
        ("kick", id) => kick(session, id).await?,
        ("dropped", "") => session.send(format!("dropped:{}", list(&told.dropped))).await?,
        ("close", "") => session.close("closed by its handler"),
        ("close", with) => {
            let (code, reason) = with.split_once(' ').unwrap_or((with, ""));
            let closed = code.parse().map(|code| session.close_with(code, reason.to_owned()));
            if !matches!(closed, Ok(Ok(()))) {
                session.send(format!("unknown:{text}")).await?;
            }
        }
        ("finish", text) => return Ok(Next::Finish(text.to_owned())),
        ("fail", text) => return Err(text.into()),
        ("panic", "") => panic!("told to panic"),
        _ => session.send(format!("unknown:{text}")).await?,
    }
    Ok(Next::Go)
}

/// A text of this length, no part of which is like another.
fn pad(bytes: usize) -> String {
    (0_u64..).flat_map(|n| format!("{n} ").into_bytes()).map(char::from).take(bytes).collect()
}

/// The total with `k`; 0 only reads.
fn added(session: &LiveSession<Tally>, k: i64) -> i64 {
    match k {
        0 => session.read(|tally| tally.total),
        k => session.update(|tally| tally.add(k)),
    }
}

/// A reply to the asking client alone.
async fn tell(session: &LiveSession<Tally>, client: Option<Client>, text: &str) -> Result {
    let Some(client) = client else {
        return Ok(());
    };
    match session.send_to(client, format!("told:{text}")).await {
        // It has gone for good meanwhile.
        Err(error) if error.kind() == SendErrorKind::NotThere => Ok(()),
        told => Ok(told?),
    }
}

/// Works, and then says so; a `stop` ends the work, and is answered instead.
async fn busy(session: &mut LiveSession<Tally>, time: Duration) -> Result {
    let stop = tokio::select! {
        () = tokio::time::sleep(time) => None,
        Some(stop) = session.urgent() => Some(stop),
    };
    match stop.as_ref().and_then(stops) {
        Some(text) => session.send(format!("stopped:{text}")).await?,
        None => session.send("done-busy").await?,
    }
    Ok(())
}

/// As fast as `send` takes them.
async fn emit(session: &mut LiveSession<Tally>, n: u64, size: u64) -> Result {
    for _ in 0..n {
        let i = session.update(Tally::number);
        let message = Message::from(numbered(i, size));
        loop {
            match session.send(message.clone()).await {
                Err(error) if error.kind() == SendErrorKind::Uncommitted => {
                    session.commit().await?;
                }
                sent => break sent?,
            }
        }
    }
    Ok(())
}

/// From a spawned task, so each number and its message are one step.
async fn every(session: Session<Tally>, ms: u64, n: u64) {
    for _ in 0..n {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        if session.send_with(|tally| numbered(tally.number(), 0)).await.is_err() {
            return;
        }
    }
}

/// At least `size` bytes.
fn numbered(i: u64, size: u64) -> String {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut text = format!("e:{i}:");
    text.extend(std::iter::repeat_n('.', size.saturating_sub(text.len())));
    text
}

/// Waits until all clients have everything.
async fn delivered(session: &LiveSession<Tally>) -> Result {
    match session.delivered().await {
        Ok(()) => session.send("delivered").await?,
        Err(why) => session.send(format!("not delivered: {why}")).await?,
    }
    Ok(())
}

/// Tells who is attached.
async fn who(session: &LiveSession<Tally>) -> Result {
    let clients: Vec<_> = session.clients().iter().map(|it| it.client.to_string()).collect();
    session.send(format!("who:{}:{}", clients.len(), clients.join(","))).await?;
    Ok(())
}

/// Closes the client that has this id, if it is attached.
async fn kick(session: &LiveSession<Tally>, id: &str) -> Result {
    let clients = session.clients();
    if let Some(it) = clients.iter().find(|it| it.client.to_string() == id) {
        session.close_client(it.client, KICKED, "kicked")?;
    }
    session.send("kicked").await?;
    Ok(())
}

async fn ask(session: &mut LiveSession<Tally>, told: &mut Told, id: &str) -> Result {
    session.send(format!("ask:{id}")).await?;
    while let Some(message) = told.receive(session).await {
        let answer =
            message.as_text().and_then(|text| text.strip_prefix("answer ")).and_then(|rest| {
                let (of, text) = rest.split_once(' ').unwrap_or((rest, ""));
                (of == id).then_some(text)
            });
        match answer {
            Some(text) => return Ok(session.send(format!("answered:{id}:{text}")).await?),
            None => session.send(format!("waiting:{id}")).await?,
        }
    }
    Ok(())
}

/// Numbers with commas between.
fn list(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

/// Reads a slot and a number.
fn latest(text: &str) -> Option<(&str, u64)> {
    let (slot, n) = text.split_once(' ')?;
    Some((slot, n.parse().ok()?))
}

/// Reads a time and a text.
fn brief(text: &str) -> Option<(u64, &str)> {
    let (ms, text) = text.split_once(' ')?;
    Some((ms.parse().ok()?, text))
}

/// Reads a word and a number.
fn sum(text: &str) -> Option<(&str, i64)> {
    let (tag, k) = text.split_once(' ')?;
    Some((tag, k.parse().ok()?))
}

/// Reads two numbers.
fn pair(text: &str) -> Option<(u64, u64)> {
    let (a, b) = text.split_once(' ')?;
    Some((a.parse().ok()?, b.parse().ok()?))
}
