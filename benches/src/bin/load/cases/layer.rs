//! What the layer adds to a request, in process: CPU time of the thread, interleaved, and allocations.

use std::{
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use axum::body::Body;
use http::{HeaderValue, Request};
use session_resume_benches::{
    by_hand, counting,
    measure::{self, Samples},
    services::{self, Pair, Subject},
};
use tokio::runtime::Runtime;

use super::micros;
use crate::report::{Baseline, Bound, Report};

/// Many short rounds: other users of the machine change its speed every few seconds, and subjects are compared only
/// within a round.
const ROUNDS: usize = 50;
const REQUESTS: usize = 5_000;
/// This many requests are made before they are measured. A real request comes from a socket, so its bytes are
/// already in memory.
const AT_ONCE: usize = 50;
/// This many requests come before each measurement and are not counted. They fill the caches again, which the turns
/// of the other subjects have emptied.
const UNCOUNTED: usize = 1_000;
/// A prime: each session is visited, and none is still in a near cache.
const STRIDE: usize = 7_919;

pub(super) fn run(report: &mut Report) {
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    known_cookie(report, &runtime);
    first_visit(report, &runtime);
    many_sessions(report);
    two_threads(report);
}

/// Warms a subject up, says that it is warm, makes `count` requests when its input ends, and exits at once.
pub(crate) fn requests(subject: &str, count: usize) {
    const WARM: usize = 300;
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let (layer, ours) = services::ours();
    let known = || ours.write.visits(100);
    let (subject, cookies) = match subject {
        "bare" => (services::bare(), known()),
        "layer" => (layer, known()),
        "read" => (ours.read.clone(), known()),
        "write" => (ours.write.clone(), known()),
        "visit" => (ours.read.clone(), Vec::new()),
        "minimal" => {
            let minimal = services::minimal();
            (minimal.read, minimal.write.visits(100))
        }
        "least" => {
            let least = by_hand::least();
            (least.read, least.write.visits(100))
        }
        _ => panic!("no such subject: {subject}"),
    };
    let mut visitor = Visitor::new("", subject, cookies);
    visitor.visit(WARM);
    println!("warm");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("its input ends");
    visitor.visit(count);
    std::process::exit(0);
}

/// A subject, its cookies, and the place of the next cookie. Without cookies each visit is a first visit.
struct Visitor {
    name: String,
    call: services::Call,
    cookies: Vec<HeaderValue>,
    at: usize,
}

impl Visitor {
    fn new(name: impl Into<String>, subject: Subject, cookies: Vec<HeaderValue>) -> Self {
        Self { name: name.into(), call: subject.caller(), cookies, at: 0 }
    }

    fn next(&mut self) -> Request<Body> {
        if self.cookies.is_empty() {
            return services::request(None);
        }
        self.at = (self.at + STRIDE) % self.cookies.len();
        services::request(Some(&self.cookies[self.at]))
    }

    /// Makes `count` visits. Returns the CPU time of the thread for them, without the time that making the requests
    /// took.
    fn visit(&mut self, count: usize) -> Duration {
        let mut requests = Vec::with_capacity(AT_ONCE);
        let mut took = Duration::ZERO;
        let mut left = count;
        while left > 0 {
            requests.extend((0..left.min(AT_ONCE)).map(|_| self.next()));
            left -= requests.len();
            let before = measure::thread_cpu();
            for request in requests.drain(..) {
                black_box((self.call)(request));
            }
            took += measure::thread_cpu().saturating_sub(before);
        }
        took
    }

    fn measure(&mut self, count: usize) -> f64 {
        self.visit(UNCOUNTED);
        micros(self.visit(count)) / count as f64
    }

    fn allocations(&mut self) -> f64 {
        const COUNTED: usize = 1_000;
        let requests = (0..COUNTED).map(|_| self.next()).collect::<Vec<_>>();
        let counter = counting::start();
        for request in requests {
            black_box((self.call)(request));
        }
        counter.stop().allocations as f64 / COUNTED as f64
    }
}

/// Interleaved rounds; the first subject is what the others are compared with.
fn compare(visitors: &mut [Visitor], requests: usize) -> Vec<(String, Samples)> {
    let mut samples = vec![Samples::default(); visitors.len()];
    for round in 0..=ROUNDS {
        for (visitor, samples) in visitors.iter_mut().zip(&mut samples) {
            let measured = visitor.measure(requests);
            // The first round only fills the caches.
            if round > 0 {
                samples.push(measured);
            }
        }
    }
    visitors.iter().map(|visitor| visitor.name.clone()).zip(samples).collect()
}

fn others(runtime: &Runtime) -> [(&'static str, Pair); 4] {
    [
        ("minimal by hand", services::minimal()),
        ("the contract's least by hand", by_hand::least()),
        ("tower-sessions", services::tower_sessions()),
        ("axum_session", runtime.block_on(services::axum_session())),
    ]
}

fn known_cookie(report: &mut Report, runtime: &Runtime) {
    let (layer, ours) = services::ours();
    let cookies = ours.read.visits(1_000);
    let mut visitors = vec![
        Visitor::new("axum", services::bare(), cookies.clone()),
        Visitor::new("session-resume, read", ours.read, cookies.clone()),
        Visitor::new("session-resume, write", ours.write, cookies.clone()),
        Visitor::new("session-resume, not extracted", layer, cookies.clone()),
        Visitor::new("do-nothing layer", services::noop(), cookies),
    ];
    for (name, pair) in others(runtime) {
        let cookies = pair.write.visits(1_000);
        visitors.push(Visitor::new(format!("{name}, read"), pair.read, cookies.clone()));
        visitors.push(Visitor::new(format!("{name}, write"), pair.write, cookies));
    }
    let measured = compare(&mut visitors, REQUESTS);
    let added = |at: usize| measured[at].1.above(&measured[0].1).median();
    // Our layer, and beside each target the minimal layer by hand.
    for (what, ours, bound, minimal, design) in [
        ("known cookie, session read, over axum", added(1), 0.6, added(5), 0.455),
        ("known cookie, state written, over axum", added(2), 0.7, added(6), 0.53),
    ] {
        let baseline = Baseline { design, here: minimal };
        report.target_beside(what, "µs", ours, Bound::AtMost(bound), baseline);
    }
    report.compare("request, known cookie, 1 k sessions", "µs CPU", measured);

    let counted = visitors.iter_mut().map(|visitor| {
        let allocations = visitor.allocations();
        (visitor.name.clone(), Samples::from(allocations))
    });
    let counted = counted.collect::<Vec<_>>();
    let added = counted[1].1.median() - counted[0].1.median();
    report.target("allocations, session read, over axum", "", added, Bound::AtMost(5.0));
    report.compare("request, known cookie", "allocations", counted);
}

fn first_visit(report: &mut Report, runtime: &Runtime) {
    let (layer, ours) = services::ours();
    let mut visitors = vec![
        Visitor::new("axum", services::bare(), Vec::new()),
        Visitor::new("session-resume, session created", ours.read, Vec::new()),
        Visitor::new("session-resume, not extracted", layer, Vec::new()),
    ];
    for (name, pair) in others(runtime) {
        visitors.push(Visitor::new(name, pair.write, Vec::new()));
    }
    let measured = compare(&mut visitors, REQUESTS / 5);
    let added = |at: usize| measured[at].1.above(&measured[0].1).median();
    let baseline = Baseline { design: 0.735, here: added(3) };
    report.target_beside("first visit, over axum", "µs", added(1), Bound::AtMost(1.2), baseline);
    report.compare("request, first visit", "µs CPU", measured);
    let counted = visitors.iter_mut().map(|visitor| {
        let allocations = visitor.allocations();
        (visitor.name.clone(), Samples::from(allocations))
    });
    report.compare("request, first visit", "allocations", counted.collect());
}

/// What more sessions cost: few and many of them in the same rounds.
fn many_sessions(report: &mut Report) {
    const SIZES: [(usize, &str); 2] = [(1_000, "1 k"), (1_000_000, "1 M")];
    /// About the bytes of one of our sessions that a request does not touch.
    const REST: usize = 512;
    let make = |name: &str, pair: &dyn Fn() -> Pair| {
        SIZES.map(|(sessions, how_many)| {
            let pair = pair();
            let cookies = pair.read.visits(sessions);
            Visitor::new(format!("{name}, {how_many} sessions"), pair.read, cookies)
        })
    };
    let ours = make("session-resume", &|| services::ours().1);
    let bare = [0, 1].map(|at| {
        let name = format!("axum, {} sessions", SIZES[at].1);
        Visitor::new(name, services::bare(), ours[at].cookies.clone())
    });
    let groups = [
        bare,
        ours,
        make("minimal by hand", &services::minimal),
        make("the contract's least by hand", &by_hand::least),
        make("the least by hand, as large as ours", &|| by_hand::least_among(REST)),
    ];
    let mut visitors = groups.into_iter().flatten().collect::<Vec<_>>();
    let measured = compare(&mut visitors, REQUESTS);
    // `growth` takes the index of the case with few sessions. The case with many sessions comes next.
    let growth = |of: usize| measured[of + 1].1.above(&measured[of].1).median();
    let baseline = Baseline { design: 0.6, here: growth(4) };
    let (ours, bound) = (growth(2), Bound::AtMost(0.8));
    report.target_beside("added by 1 k → 1 M sessions", "µs", ours, bound, baseline);
    report.compare("request, session read, few and many", "µs CPU", measured);
}

/// Throughput of two threads on the same sessions against one. Wall time: the machine must be quiet.
fn two_threads(report: &mut Report) {
    let (_, ours) = services::ours();
    let cookies = ours.write.visits(1_000);
    let tower = services::tower_sessions();
    let tower_cookies = tower.write.visits(1_000);
    let cases = [
        ("axum", services::bare(), &cookies),
        ("session-resume, read", ours.read, &cookies),
        ("session-resume, write", ours.write, &cookies),
        ("tower-sessions, write", tower.write, &tower_cookies),
    ];
    let mut samples = vec![Samples::default(); cases.len()];
    for _ in 0..ROUNDS {
        for ((_, subject, cookies), samples) in cases.iter().zip(&mut samples) {
            let [one, two] = [1, 2].map(|threads| share(subject, cookies, threads).as_secs_f64());
            samples.push(2.0 * one / two);
        }
    }
    let named = cases.iter().map(|(name, ..)| (*name).to_owned()).zip(samples);
    let measured = named.collect::<Vec<_>>();
    report.target(
        "2 threads against 1, session read",
        "×",
        measured[1].1.median(),
        Bound::AtLeast(1.5),
    );
    report.target(
        "2 threads against 1, state written",
        "×",
        measured[2].1.median(),
        Bound::AtLeast(1.5),
    );
    report.compare("throughput of 2 threads against 1", "×", measured);
}

/// Each thread makes the same number of requests.
fn share(subject: &Subject, cookies: &[HeaderValue], threads: usize) -> Duration {
    let barrier = Barrier::new(threads + 1);
    thread::scope(|scope| {
        for thread in 0..threads {
            let barrier = &barrier;
            let mut visitor = Visitor::new("", subject.clone(), cookies.to_vec());
            visitor.at = thread * cookies.len() / threads;
            scope.spawn(move || {
                barrier.wait();
                visitor.visit(2 * REQUESTS);
                barrier.wait();
            });
        }
        barrier.wait();
        let start = Instant::now();
        barrier.wait();
        start.elapsed()
    })
}
