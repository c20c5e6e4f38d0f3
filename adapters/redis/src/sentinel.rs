//! Where the primary is, as the Sentinels say.
//!
//! Each dial asks anew, all Sentinels at once, and takes the latest of what they say: one that is cut off from the
//! others, or has just started again, may still name the primary of before. So may most of them for two seconds after a
//! failover: only the Sentinel that led it knows the new primary at once. So the dial waits for the rest, too, but not long.

use std::time::Duration;

use redis::{Client, Value};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::{
    address::{Address, Login},
    connection::{Live, bytes, strange, text_fields},
    error::{Failure, FailureKind},
};

/// How long a dial waits for the other Sentinels once most have answered.
const GRACE: Duration = Duration::from_millis(250);

/// The Sentinels of one primary.
pub(crate) struct Sentinels {
    primary: String,
    /// The clients, and what each is called in errors.
    clients: Vec<(String, Client)>,
    /// How one logs in at the primary.
    login: Login,
}

/// What one Sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    /// Grows with each failover.
    epoch: u64,
    primary: Address,
}

impl Sentinels {
    pub(crate) fn new(
        sentinels: &[Address],
        primary: String,
        as_sentinels: &Login,
        login: Login,
    ) -> Result<Self, String> {
        let clients = sentinels
            .iter()
            .map(|address| Ok((address.to_string(), as_sentinels.client_of(address)?)))
            .collect::<Result<_, String>>()?;
        Ok(Self { primary, clients, login })
    }

    /// What connects to the present primary, and where that is.
    ///
    /// Those that have not answered `within` this time are not waited for; once most have, the others have [`GRACE`] left.
    pub(crate) async fn find(&self, within: Duration) -> Result<(Client, Address), Failure> {
        let mut asked = JoinSet::new();
        for (name, client) in &self.clients {
            let (name, client, primary) = (name.clone(), client.clone(), self.primary.clone());
            asked.spawn(async move { (name, ask(&client, &primary).await) });
        }
        let (said, troubles) = answers(asked, within).await;
        let Some(Said { primary, .. }) = latest(said) else {
            return Err(unknown(troubles, within));
        };
        let client = self.login.client_of(&primary);
        let client = client.map_err(|error| Failure::new(FailureKind::Strange, error))?;
        Ok((client, primary))
    }
}

/// What they answer within the time.
async fn answers(
    mut asked: JoinSet<(String, Result<Said, Failure>)>,
    within: Duration,
) -> (Vec<Said>, Vec<(String, Failure)>) {
    let all = asked.len();
    let mut until = Instant::now() + within;
    let mut said = Vec::new();
    let mut troubles = Vec::new();
    while let Ok(Some(answer)) = timeout_at(until, asked.join_next()).await {
        match answer {
            Ok((_, Ok(answer))) => {
                said.push(answer);
                if is_most(said.len(), all) {
                    until = until.min(Instant::now() + GRACE);
                }
            }
            Ok((name, Err(failure))) => troubles.push((name, failure)),
            Err(error) => troubles
                .push((String::new(), Failure::new(FailureKind::Strange, error.to_string()))),
        }
    }
    (said, troubles)
}

/// Why no Sentinel has named the primary.
fn unknown(mut troubles: Vec<(String, Failure)>, within: Duration) -> Failure {
    // One that answers says more than one that is not reached.
    troubles.sort_by_key(|(_, failure)| failure.kind == FailureKind::Connection);
    match troubles.into_iter().next() {
        Some((name, Failure { kind, text })) => {
            Failure { kind, text: format!("Sentinel {name}: {text}") }
        }
        None => Failure::new(
            FailureKind::Silence,
            format!("no Sentinel has answered within {within:?}"),
        ),
    }
}

fn is_most(said: usize, all: usize) -> bool {
    said > all / 2
}

fn latest(said: Vec<Said>) -> Option<Said> {
    said.into_iter().max_by_key(|said| said.epoch)
}

async fn ask(client: &Client, primary: &str) -> Result<Said, Failure> {
    let mut live = Live::open(client).await?;
    let mut pipe = redis::pipe();
    // While a failover is under way, only this names the new primary.
    pipe.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(primary);
    pipe.cmd("SENTINEL").arg("MASTER").arg(primary);
    let answers = live.send(&pipe).await?;
    let [address, fields] = <[_; 2]>::try_from(answers).map_err(|_| strange())?;
    let address = match address? {
        Value::Nil => {
            let text = format!("it does not know {primary}");
            return Err(Failure::new(FailureKind::Strange, text));
        }
        Value::Array(pair) => <[Value; 2]>::try_from(pair).map_err(|_| strange())?,
        _ => return Err(strange()),
    };
    let [host, port] = address;
    let host = String::from_utf8(bytes(host)?).map_err(|_| strange())?;
    let port = String::from_utf8(bytes(port)?).ok().and_then(|port| port.parse().ok());
    let fields = text_fields(fields?)?;
    let epoch = fields.get("config-epoch").and_then(|epoch| epoch.parse().ok());
    Ok(Said {
        // A discovery service that is like a Sentinel may have none.
        epoch: epoch.unwrap_or(0),
        primary: Address { host, port: port.ok_or_else(strange)? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(epoch: u64, port: u16) -> Said {
        Said { epoch, primary: Address { host: "h".to_owned(), port } }
    }

    #[test]
    fn the_latest_of_what_most_say_counts() {
        assert_eq!(latest(vec![said(3, 1), said(4, 2), said(3, 1)]), Some(said(4, 2)));
        assert_eq!(latest(Vec::new()), None);
        for (all, enough) in [(1, 1), (2, 2), (3, 2), (5, 3)] {
            assert!(is_most(enough, all) && !is_most(enough - 1, all), "{enough} of {all}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn once_most_have_answered_the_others_have_little_time_left() {
        for (late, latest_of_all, takes) in [(100, said(4, 2), 100), (400, said(3, 1), 250)] {
            let mut asked = JoinSet::new();
            for (after, answer) in [(0, said(3, 1)), (0, said(3, 1)), (late, said(4, 2))] {
                asked.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(after)).await;
                    (String::new(), Ok(answer))
                });
            }
            let began = Instant::now();
            let (said, troubles) = answers(asked, Duration::from_secs(2)).await;
            assert_eq!(latest(said), Some(latest_of_all));
            assert!(troubles.is_empty());
            assert_eq!(began.elapsed(), Duration::from_millis(takes));
        }
    }
}
