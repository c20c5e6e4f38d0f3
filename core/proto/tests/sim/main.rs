//! Both machines, over WebSockets and over pipes, a network that does its worst, a virtual clock, and one seed for all of it.
//!
//! What each application received is exactly what the other sent: a prefix at any time, all of it once
//! the network is calm; what is missing is told. A failing history prints its name; to see it again, set
//! `SIM_SEED` to that, and run `cargo test -p session-resume-proto --test sim replay -- --nocapture`.

mod direction;
mod ledger;
mod link;
mod program;
mod rng;
mod scenario;
mod server;
mod trouble;
mod tunnel;
mod world;

use std::panic::{self, AssertUnwindSafe};

use self::{scenario::Kind, world::World};

/// Returns the factor by which a long campaign lives more histories than a usual run: `SIM_TIMES`, else 1.
fn times() -> u64 {
    std::env::var("SIM_TIMES").map_or(1, |times| times.parse().expect("SIM_TIMES is a number"))
}

/// Returns the seed that a campaign begins with: `SIM_FROM`, else 0. Another one lives fresh histories.
fn first() -> u64 {
    std::env::var("SIM_FROM").map_or(0, |first| first.parse().expect("SIM_FROM is a number"))
}

/// Lives this number of histories of a kind, or in a long campaign a multiple of it.
fn live(kind: Kind, seeds: u64) {
    let seeds = seeds * times();
    let mut steps = 0;
    for seed in (first()..).take(usize::try_from(seeds).expect("in memory")) {
        let history = AssertUnwindSafe(|| World::new(kind, seed, false).live());
        match panic::catch_unwind(history) {
            Ok(more) => steps += more,
            Err(cause) => {
                eprintln!("SIM_SEED={kind:?}:{seed}");
                panic::resume_unwind(cause);
            }
        }
    }
    eprintln!("{kind:?}: {seeds} histories, {steps} steps");
}

#[test]
fn replay() {
    let Ok(name) = std::env::var("SIM_SEED") else {
        return;
    };
    let (kind, seed) = name.split_once(':').expect("SIM_SEED=Kind:number");
    let kind = Kind::ALL.into_iter().find(|known| format!("{known:?}") == kind);
    let seed = seed.parse().expect("SIM_SEED=Kind:number");
    World::new(kind.expect("SIM_SEED names a kind"), seed, true).live();
}

#[test]
fn alone_nothing_is_lost_doubled_or_in_doubt() {
    live(Kind::Alone, 4000);
}

#[test]
fn a_program_that_starts_again_disturbs_nothing() {
    live(Kind::ClientRestarts, 2000);
}

#[test]
fn all_that_share_get_everything() {
    live(Kind::Share, 2000);
}

#[test]
fn one_takes_over_from_another() {
    live(Kind::Takeover, 2000);
}

#[test]
fn a_holder_keeps_others_out_and_nobody_is_locked_out() {
    live(Kind::Refuse, 1500);
}

#[test]
fn what_a_full_outbox_drops_is_told() {
    live(Kind::DropOldest, 2000);
}

#[test]
fn an_overflow_that_ends_the_session_is_told() {
    live(Kind::OverflowEnds, 1500);
}

#[test]
fn strangers_disturb_nobody_without_a_word() {
    live(Kind::Strangers, 1500);
}

#[test]
fn a_process_without_a_store_tells_what_it_lost() {
    live(Kind::Forgetful, 1500);
}

#[test]
fn restarts_lose_nothing_that_was_sent_to_the_server() {
    live(Kind::State, 2000);
}

#[test]
fn exact_is_exact_through_crashes() {
    live(Kind::Exact, 3000);
}

#[test]
fn a_store_that_goes_back_in_time_never_gives_one_cursor_two_histories() {
    live(Kind::Backup, 3000);
}

#[test]
fn a_program_that_loses_its_cookie_is_handled_once_or_in_doubt() {
    live(Kind::Cookies, 3000);
}

#[test]
fn a_program_that_loses_its_cookie_is_handled_once_or_in_doubt_through_restarts() {
    live(Kind::StoredCookies, 3000);
}

#[test]
fn a_client_that_was_pushed_out_stays_so_through_restarts() {
    live(Kind::Crowd, 3000);
}
