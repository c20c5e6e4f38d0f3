//! Recorded histories: users of one session add and read while nodes, the engine and the network break. Each history has to
//! be that of one counter (`session_resume_tests::linearizable`).
//!
//! The sessions are `Exact`: what a user is told has been committed. (Under `State` an answer may be told and then be taken
//! back by the death of its node, which the user is told as a gap.) They share nothing, so each has a history of its own, and
//! one run of faults makes several histories.
//!
//! `HISTORIES=2000 CLUSTERS=4 cargo test -p session-resume-tests --test cluster histories -- --nocapture` makes as
//! many, on as many clusters side by side.

mod faults;
mod users;

use std::{fmt::Write as _, sync::Arc, time::Instant};

use futures_util::future::join_all;
use session_resume_engine::without_redis;
use session_resume_tests::{Framework, Rng, linearizable, scenarios};
use tokio::sync::watch;

use self::{
    faults::{Broken, Cluster, Plan},
    users::{Record, User},
};

/// Sessions of one run.
const SESSIONS: usize = 6;
/// Users of one session.
const USERS: usize = 3;

/// How much is done.
#[derive(Clone, Copy)]
struct Amount {
    histories: usize,
    clusters: usize,
}

impl Amount {
    /// What the environment says, or as much as every change is tested with.
    fn of_environment() -> Self {
        let number = |name: &str| Some(std::env::var(name).ok()?.parse().expect("a number"));
        Self {
            histories: number("HISTORIES").unwrap_or(SESSIONS),
            clusters: number("CLUSTERS").unwrap_or(1),
        }
    }
}

/// What came of some histories.
#[derive(Default, Debug)]
struct Summary {
    histories: usize,
    answered: usize,
    never_answered: usize,
    faults: usize,
}

async fn histories_are_those_of_one_counter(framework: Framework, plan: Plan) {
    if without_redis() {
        return;
    }
    let Amount { histories, clusters } = Amount::of_environment();
    let began = Instant::now();
    let each = histories.div_ceil(clusters * SESSIONS);
    let seed: u64 = std::env::var("SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let all = (0..clusters as u64).map(|number| async move {
        let mut summary = Summary::default();
        let mut cluster = Cluster::start(framework, plan).await;
        for turn in 0..each as u64 {
            run(&mut cluster, seed + (number << 32) + turn, &mut summary).await;
        }
        summary
    });
    let mut sum = Summary::default();
    // Tasks: clusters do not wait for each other.
    for summary in join_all(all.map(|cluster| tokio::spawn(cluster))).await {
        let summary = summary.expect("its histories are right");
        sum.histories += summary.histories;
        sum.answered += summary.answered;
        sum.never_answered += summary.never_answered;
        sum.faults += summary.faults;
    }
    eprintln!("{framework:?} {plan:?}: {sum:?} in {:.0?}", began.elapsed());
    assert!(sum.answered > sum.histories * 20, "next to nothing happened: {sum:?}");
}

/// Some faults, and the histories that they meet.
async fn run(cluster: &mut Cluster, seed: u64, summary: &mut Summary) {
    let mut rng = Rng(seed);
    let (stop, go_on) = watch::channel(());
    let mut records = Vec::new();
    let mut users = Vec::new();
    for session in 0..SESSIONS {
        let record = Arc::new(Record::default());
        for _ in 0..USERS {
            let path = format!("/live/{seed}-{session}");
            let way = cluster.way_in(&mut rng).await;
            let user = User::new(&way, &path, Arc::clone(&record), rng.below(u64::MAX));
            users.push(tokio::spawn(user.run(go_on.clone())));
        }
        records.push(record);
    }
    let Broken { told, count } = cluster.breaks(&mut rng).await;
    drop(stop);
    let mut wrong = String::new();
    for (number, user) in users.into_iter().enumerate() {
        if let Err(error) = user.await.expect("a user does not panic") {
            let session = records[number / USERS].id();
            writeln!(wrong, "session {session}: {error}").unwrap();
        }
    }
    for record in &records {
        let history = record.history();
        if let Err(violation) = linearizable::order(&history) {
            writeln!(wrong, "session {}: {violation}", record.id()).unwrap();
            for (number, operation) in history.iter().enumerate() {
                writeln!(wrong, "  {number}: {operation:?}").unwrap();
            }
        }
        let answered = history.iter().filter(|it| it.answered.is_some()).count();
        summary.answered += answered;
        summary.never_answered += history.len() - answered;
    }
    assert!(wrong.is_empty(), "seed {seed}, faults:\n{told}\n{wrong}");
    eprintln!("seed {seed}: right, with\n{told}");
    summary.histories += SESSIONS;
    summary.faults += count;
    cluster.forget_ways();
}

/// 3 nodes on one engine: they are killed, stopped and drained, cut off from each other and from the engine, and the engine
/// is killed and stopped.
async fn with_kills_stops_and_partitions(framework: Framework) {
    histories_are_those_of_one_counter(framework, Plan::Nodes).await;
}

/// A primary with a replica: it dies, and the replica takes its place. Owners live: that a failover *and* the death of an
/// owner may cost something is said in the guide.
async fn with_failovers(framework: Framework) {
    histories_are_those_of_one_counter(framework, Plan::Failovers).await;
}

scenarios!(with_kills_stops_and_partitions, with_failovers);
