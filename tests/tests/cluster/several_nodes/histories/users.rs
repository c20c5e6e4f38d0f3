//! Users of a session, and what they record.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use session_resume_client::{Backoff, Client, Event, Transport};
use session_resume_testkit::{soon, tcp::Proxy};
use session_resume_tests::{Rng, linearizable::Operation};
use tokio::sync::watch;

const HASTE: Backoff = Backoff { first: Duration::from_millis(5), max: Duration::from_millis(200) };

/// An attempt that meets a process that stands still is given up: the next one may land elsewhere.
const ATTACH: Duration = Duration::from_secs(3);

/// The history of one session. An operation's tag is its index.
#[derive(Default)]
pub(super) struct Record(Mutex<Recorded>);

#[derive(Default)]
struct Recorded {
    time: u64,
    session: Option<String>,
    operations: Vec<Operation>,
    /// What was told of each, first to anybody.
    told: HashMap<usize, u64>,
}

impl Record {
    /// The session's public id; empty if no user has come to it.
    pub(super) fn id(&self) -> String {
        self.0.lock().unwrap().session.clone().unwrap_or_default()
    }

    pub(super) fn history(&self) -> Vec<Operation> {
        self.0.lock().unwrap().operations.clone()
    }

    /// A user is in this session.
    fn session(&self, id: &str) -> Result<(), String> {
        let mut this = self.0.lock().unwrap();
        let first = this.session.get_or_insert_with(|| id.to_owned());
        if *first == id { Ok(()) } else { Err(format!("in session {id}, others are in {first}")) }
    }

    fn call(&self, amount: u64) -> usize {
        let mut this = self.0.lock().unwrap();
        this.time += 1;
        let called = this.time;
        this.operations.push(Operation { amount, called, answered: None });
        this.operations.len() - 1
    }

    /// A user sees the answer to one, perhaps its own.
    fn told(&self, tag: usize, sum: u64, own: bool) -> Result<(), String> {
        let mut this = self.0.lock().unwrap();
        this.time += 1;
        let time = this.time;
        let first = *this.told.entry(tag).or_insert(sum);
        if first != sum {
            return Err(format!("{tag} was answered with {first} and with {sum}"));
        }
        let operation = this.operations.get_mut(tag).ok_or("an answer to nothing")?;
        if own {
            operation.answered = Some((time, sum));
        }
        Ok(())
    }
}

/// Adds and reads until told to stop.
pub(super) struct User {
    url: String,
    record: Arc<Record>,
    rng: Rng,
    client: Client,
    /// Its own calls without an answer.
    open: HashSet<usize>,
    /// All that this client was told of.
    seen: HashSet<usize>,
    /// What no user of an exact session may be told.
    wrong: Vec<String>,
}

impl User {
    pub(super) fn new(way: &Proxy, path: &str, record: Arc<Record>, seed: u64) -> Self {
        let url = format!("ws://{}{path}", way.address());
        let mut rng = Rng(seed);
        let client = connects(&url, &mut rng);
        Self {
            url,
            record,
            rng,
            client,
            open: HashSet::new(),
            seen: HashSet::new(),
            wrong: Vec::new(),
        }
    }

    pub(super) async fn run(mut self, go_on: watch::Receiver<()>) -> Result<(), String> {
        while go_on.has_changed().is_ok() {
            let together = self.rng.one_of(&[1, 1, 1, 1, 2, 3]);
            for _ in 0..together {
                // Hardly two sums of some of them are alike: a wrong sum is not taken for another one.
                let amount = self.rng.below(3).min(1) * self.rng.below(1 << 40);
                self.call(amount).await?;
            }
            if self.rng.below(30) == 0 {
                // The program dies. What it has called is never answered.
                self.open.clear();
                self.seen.clear();
                self.client = connects(&self.url, &mut self.rng);
            }
            self.all_are_answered().await?;
            let thinks = self.rng.one_of(&[0, 0, 5, 20, 60]);
            tokio::time::sleep(Duration::from_millis(thinks)).await;
        }
        // After all faults: what is there now.
        self.call(0).await?;
        self.all_are_answered().await?;
        if self.wrong.is_empty() { Ok(()) } else { Err(self.wrong.join("; ")) }
    }

    async fn call(&mut self, amount: u64) -> Result<(), String> {
        let tag = self.record.call(amount);
        self.open.insert(tag);
        let sent =
            soon("room for a message", self.client.send(format!("sum {tag} {amount}"))).await;
        sent.map_err(|error| format!("{tag} does not leave: {error}"))
    }

    async fn all_are_answered(&mut self) -> Result<(), String> {
        let what = format!("answers to {:?}", self.open);
        soon(&what, async {
            while !self.open.is_empty() {
                self.next().await?;
            }
            Ok(())
        })
        .await
    }

    async fn next(&mut self) -> Result<(), String> {
        match self.client.recv_event().await {
            Some(Event::Message(message)) => self.told(message.as_text().unwrap_or_default()),
            Some(Event::Open { session, .. }) => self.record.session(&session.to_string()),
            Some(Event::Connecting | Event::Waiting { .. }) => Ok(()),
            // Its node has died three times with this message in hand: it is given up, and never answered.
            Some(Event::Dropped(message)) => {
                let text = message.as_text().unwrap_or_default();
                let tag = text.split(' ').nth(1).and_then(|tag| tag.parse().ok());
                self.open.remove(&tag.ok_or("a message of nobody is dropped")?);
                Ok(())
            }
            // Goes on: the history tells what has become of the others.
            Some(wrong @ (Event::TakenBack { .. } | Event::Gap(_) | Event::InDoubt(_))) => {
                self.wrong.push(format!("{wrong:?} while {:?} is open", self.open));
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    }

    fn told(&mut self, text: &str) -> Result<(), String> {
        let words: Vec<_> = text.split(':').collect();
        let ["sum", tag, sum] = words[..] else {
            return Err(format!("an answer to nothing: {text}"));
        };
        let (Ok(tag), Ok(sum)) = (tag.parse(), sum.parse()) else {
            return Err(format!("no numbers: {text}"));
        };
        if !self.seen.insert(tag) {
            self.wrong.push(format!("told twice: {text}"));
        }
        self.record.told(tag, sum, self.open.remove(&tag))
    }
}

fn connects(url: &str, rng: &mut Rng) -> Client {
    use Transport::{Poll, Sse, WebSocket};
    let transports = rng.one_of::<&[Transport]>(&[&[WebSocket], &[WebSocket], &[Sse], &[Poll]]);
    Client::builder(url)
        .with_backoff(HASTE)
        .with_attach_timeout(ATTACH)
        .transports(transports.iter().copied())
        .start()
        .expect("its settings are right")
}
