use std::convert::Infallible;

use http::{Request, Response, header};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;
use crate::{Session, SessionOrigin, SessionResume, door::adapter, words::store::MemoryStore};

/// How often the layer sweeps.
const INTERVAL: Duration = Duration::from_secs(5);
/// For how long a clock must not have jumped.
const GRACE: Duration = Duration::from_secs(120);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Looks once per interval for as long as the grace lasts; the wall clock's interval may be another.
fn watch(
    trust: &mut Trust,
    mut at: (SystemTime, Instant),
    wall: Duration,
) -> (SystemTime, Instant) {
    for _ in 0..24 {
        at = (at.0 + wall, at.1 + INTERVAL);
        trust.look(at.0, at.1);
    }
    at
}

fn start() -> (Trust, SystemTime, Instant) {
    let (wall, now) = (SystemTime::UNIX_EPOCH + 100 * DAY, Instant::now());
    (Trust::new(wall, now), wall, now)
}

#[test]
fn a_clock_is_trusted_after_a_while() {
    let (mut trust, wall, now) = start();
    assert!(!trust.has_lasted(GRACE, now + GRACE - Duration::from_nanos(1)));
    let (_, now) = watch(&mut trust, (wall, now), INTERVAL);
    assert!(trust.has_lasted(GRACE, now) && !trust.take_jump());
}

#[test]
fn a_jump_in_either_direction_starts_trust_anew() {
    for jump in [Duration::from_secs(61), DAY, 60 * DAY] {
        for forward in [true, false] {
            let (mut trust, wall, now) = start();
            let (wall, now) = watch(&mut trust, (wall, now), INTERVAL);
            let jumped = if forward { wall + jump } else { wall - jump };
            trust.look(jumped, now);
            assert!(!trust.has_lasted(Duration::from_nanos(1), now), "{jump:?} {forward}");
            assert!(trust.take_jump(), "told");
            assert!(!trust.take_jump(), "once");
            // What follows goes by the new time, which is as good as any other.
            let (wall, now) = watch(&mut trust, (jumped, now), INTERVAL);
            assert!(trust.has_lasted(GRACE, now) && !trust.take_jump());
            // And back again.
            trust.look(if forward { wall - jump } else { wall + jump }, now);
            assert!(trust.take_jump() && !trust.has_lasted(GRACE, now));
        }
    }
}

#[test]
fn small_steps_and_a_clock_that_goes_wrong_slowly_are_no_jumps() {
    let (mut trust, wall, now) = start();
    let at = watch(&mut trust, (wall, now), INTERVAL + INTERVAL / 5);
    let (wall, now) = watch(&mut trust, at, INTERVAL / 5 * 4);
    trust.look(wall + Trust::TOLERATED, now);
    trust.look(wall, now);
    assert!(!trust.take_jump() && trust.has_lasted(2 * GRACE, now));
}

type Layered = SessionResume<u64>;

fn process(disk: &MemoryStore) -> Layered {
    SessionResume::new().with_state::<u64>().with_store(disk.clone())
}

/// What a browser asks for, with its cookie.
async fn open(process: &Layered, cookie: &mut Option<String>) -> Session<u64> {
    let mut req = Request::get("http://a.example/");
    if let Some(cookie) = cookie {
        req = req.header(header::COOKIE, &*cookie);
    }
    let opens = service_fn(|req: Request<()>| async move {
        let session = adapter::open::<u64>(&req.into_parts().0).await.unwrap();
        Ok::<_, Infallible>(Response::new(session))
    });
    let response = process.layer(opens).oneshot(req.body(()).unwrap()).await.unwrap();
    if let Some(set) = response.headers().get(header::SET_COOKIE) {
        *cookie = set.to_str().unwrap().split(';').next().map(str::to_owned);
    }
    response.into_body()
}

/// A session in the store, with a state of 7, and its browser's cookie.
async fn stored(process: &Layered) -> Option<String> {
    let mut cookie = None;
    let session = open(process, &mut cookie).await;
    session.update(|state| *state = 7);
    session.saved().await.unwrap();
    drop(session);
    tokio::time::sleep(2 * GRACE).await;
    assert_eq!(process.sessions().len(), 0, "it has left memory");
    cookie
}

async fn restored(process: &Layered, cookie: Option<String>) {
    let session = open(process, &mut { cookie }).await;
    assert_eq!((session.origin(), session.read(|state| *state)), (SessionOrigin::Restored, 7));
}

/// The sweeper has come by a few times; the clock is not trusted again yet.
async fn sweeps() {
    tokio::time::sleep(GRACE / 2).await;
}

/// Longer than the stored lifetime of 30 days and the outcome's after that.
const FAR: Duration = Duration::from_secs(60 * 24 * 3600);

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_any_lifetime_leaves_time_to_come_back() {
    let disk = MemoryStore::new();
    let before = process(&disk);
    let (in_time, too_late) = (stored(&before).await, stored(&before).await);
    drop(before);
    shift::set(FAR);
    let after = process(&disk);
    restored(&after, in_time).await;
    tokio::time::sleep(2 * GRACE).await;
    let session = open(&after, &mut { too_late }).await;
    assert_eq!((session.origin(), session.read(|state| *state)), (SessionOrigin::New, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_ahead_ends_no_stored_session() {
    let disk = MemoryStore::new();
    let process = process(&disk);
    let cookie = stored(&process).await;
    let other = stored(&process).await;
    shift::set(FAR);
    // At once: no sweep has noticed the jump yet.
    restored(&process, cookie).await;
    sweeps().await;
    restored(&process, other).await;
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_put_right_again_has_ended_nobody() {
    let disk = MemoryStore::new();
    let process = process(&disk);
    let cookie = stored(&process).await;
    shift::set(FAR);
    sweeps().await;
    shift::set(Duration::ZERO);
    tokio::time::sleep(2 * GRACE).await;
    restored(&process, cookie).await;
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_back_ends_nobody() {
    shift::set(FAR);
    let disk = MemoryStore::new();
    let process = process(&disk);
    let cookie = stored(&process).await;
    let mut busy = None;
    let session = open(&process, &mut busy).await;
    session.update(|state| *state = 7);
    session.saved().await.unwrap();
    let guard = session.block_expiration("in use all the time");
    shift::set(Duration::ZERO);
    sweeps().await;
    restored(&process, cookie).await;
    // Saved by the wrong time: by the right one, that record has expired long ago.
    session.update(|state| *state += 1);
    session.update(|state| *state -= 1);
    session.saved().await.unwrap();
    shift::set(FAR);
    // The clock is trusted again; each session in use has been given a new expiry before.
    tokio::time::sleep(2 * GRACE).await;
    drop((guard, session));
    drop(process);
    let process = self::process(&disk);
    tokio::time::sleep(2 * GRACE).await;
    restored(&process, busy).await;
}
