//! What a request costs in process, behind nothing, behind our layer, and behind others.
//!
//! The cost of a layer is the difference to `bare` of the same group.

use std::{
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use criterion::{
    BatchSize, BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use http::HeaderValue;
use session_resume_benches::services::{self, Pair, Subject};
use tokio::runtime::Runtime;

criterion_group!(benches, known_cookie, first_visit, growth, threads);
criterion_main!(benches);

/// The benchmark visits sessions in this stride. It is a prime, so each session is visited, and none is still in
/// a near cache.
const STRIDE: usize = 7_919;
/// This many requests are made before they are measured. A real request comes from a socket, so its bytes are
/// already in memory.
const AT_ONCE: BatchSize = BatchSize::NumIterations(50);

fn known_cookie(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let mut group = criterion.benchmark_group("known cookie, 1k sessions");
    let (layer, ours) = services::ours();
    let cookies = ours.read.visits(1_000);
    visit(&mut group, "bare", &services::bare(), &cookies);
    visit(&mut group, "do-nothing layer", &services::noop(), &cookies);
    visit(&mut group, "session-resume, not extracted", &layer, &cookies);
    read_and_write(&mut group, "session-resume", &ours, &cookies);
    for (name, pair) in others(&runtime) {
        let cookies = pair.write.visits(1_000);
        read_and_write(&mut group, name, &pair, &cookies);
    }
    group.finish();
}

fn others(runtime: &Runtime) -> [(&'static str, Pair); 3] {
    [
        ("minimal", services::minimal()),
        ("tower-sessions", services::tower_sessions()),
        ("axum_session", runtime.block_on(services::axum_session())),
    ]
}

fn read_and_write(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    pair: &Pair,
    cookies: &[HeaderValue],
) {
    visit(group, &format!("{name}, read"), &pair.read, cookies);
    visit(group, &format!("{name}, write"), &pair.write, cookies);
}

fn visit(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    subject: &Subject,
    cookies: &[HeaderValue],
) {
    let (mut call, mut at) = (subject.caller(), 0);
    group.bench_function(name, |bencher| {
        let next = || {
            at = (at + STRIDE) % cookies.len();
            services::request(Some(&cookies[at]))
        };
        bencher.iter_batched(next, |request| drop(call(request)), AT_ONCE);
    });
}

fn first_visit(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let mut group = criterion.benchmark_group("first visit");
    // Every visit leaves a session behind: short runs, so that memory stays small.
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let mut visit = |name: &str, subject: &Subject| {
        let mut call = subject.caller();
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || services::request(None),
                |request| drop(call(request)),
                AT_ONCE,
            );
        });
    };
    visit("bare", &services::bare());
    let (layer, ours) = services::ours();
    visit("session-resume, not extracted", &layer);
    visit("session-resume, session created", &ours.read);
    for (name, pair) in others(&runtime) {
        visit(name, &pair.write);
    }
    group.finish();
}

/// What more sessions cost: only the cache misses of the map and of the sessions.
fn growth(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let mut group = criterion.benchmark_group("growth");
    for sessions in [1_000, 100_000, 1_000_000] {
        let (_, ours) = services::ours();
        let cookies = ours.read.visits(sessions);
        visit(&mut group, &format!("bare, {sessions}"), &services::bare(), &cookies);
        visit(&mut group, &format!("session-resume, read, {sessions}"), &ours.read, &cookies);
        let minimal = services::minimal();
        let cookies = minimal.write.visits(sessions);
        visit(&mut group, &format!("minimal, read, {sessions}"), &minimal.read, &cookies);
    }
    group.finish();
}

/// Each thread makes its share of the requests on one set of sessions. Two threads should need little more than
/// half the time.
fn threads(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let mut group = criterion.benchmark_group("threads");
    let (_, ours) = services::ours();
    let cookies = ours.write.visits(1_000);
    let tower = services::tower_sessions();
    let tower_cookies = tower.write.visits(1_000);
    let cases = [
        ("bare", services::bare(), &cookies),
        ("session-resume, read", ours.read, &cookies),
        ("session-resume, write", ours.write, &cookies),
        ("tower-sessions, write", tower.write, &tower_cookies),
    ];
    for (name, subject, cookies) in &cases {
        for threads in [1, 2] {
            group.bench_function(format!("{name}, {threads}"), |bencher| {
                bencher.iter_custom(|requests| share(subject, cookies, threads, requests));
            });
        }
    }
    group.finish();
}

fn share(subject: &Subject, cookies: &[HeaderValue], threads: usize, requests: u64) -> Duration {
    let barrier = Barrier::new(threads + 1);
    let share = requests / threads as u64 + 1;
    thread::scope(|scope| {
        for thread in 0..threads {
            let (mut call, barrier) = (subject.caller(), &barrier);
            scope.spawn(move || {
                let mut at = thread * cookies.len() / threads;
                barrier.wait();
                for _ in 0..share {
                    at = (at + STRIDE) % cookies.len();
                    black_box(call(services::request(Some(&cookies[at]))));
                }
                barrier.wait();
            });
        }
        barrier.wait();
        let start = Instant::now();
        barrier.wait();
        start.elapsed()
    })
}
