//! Random scripts of operations against the machine.

use proptest::{
    collection::vec,
    prelude::{Strategy, any},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use session_resume_proto::session::Attach;

use crate::{script::Script, world::World};

/// The scripts for each way to attach, of 200 operations each. `SCRIPT_TIMES` multiplies it in a long campaign.
const SCRIPTS: u32 = 6_000;
const OPERATIONS: usize = 200;

fn run(attach: Attach) {
    let times = std::env::var("SCRIPT_TIMES")
        .map_or(1, |times| times.parse::<u32>().expect("SCRIPT_TIMES is a number"));
    // The same scripts every time; a failing one shrinks and is printed.
    let config = Config {
        cases: SCRIPTS * times,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let scripts = (any::<u8>(), vec(any::<u32>(), OPERATIONS))
        .prop_map(move |(setting, numbers)| Script { attach, setting, numbers });
    let result = TestRunner::new_with_rng(config, rng).run(&scripts, |script| {
        let mut world = World::new(script.setting());
        script.ops().for_each(|op| world.step(op));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn scripts_under_takeover() {
    run(Attach::Takeover);
}

#[test]
fn scripts_under_share() {
    run(Attach::Share);
}

#[test]
fn scripts_under_refuse() {
    run(Attach::Refuse);
}
