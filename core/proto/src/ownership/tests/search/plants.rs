//! Faults that a search must find.

use super::{
    B,
    begin::{ACKED, ATTACHED, joined},
    budget,
    case::{Case, Clocks, Plant, Replicated},
    world::Deed::{
        self, Acknowledge, Apply, Boundary, Break, Connect, CutDone, CutLate, Failover, GoOn,
        Hello, Kill, LeaseEnds, Put, Read, Receive, Restart, Say, Send, Stop, Take,
    },
};
use crate::ownership::Fault;

/// Returns what is planted, where a search begins that finds it soon, and which promise is broken.
#[expect(clippy::too_many_lines, reason = "one table")]
pub(super) fn plants() -> Vec<(Case, &'static str)> {
    const SENT: [Deed; 6] = joined(&[&ATTACHED, &[Send]]);
    const TAKEN: [Deed; 7] = joined(&[&SENT, &[Receive(0)]]);
    const STOPPED: [Deed; 6] = joined(&[&ATTACHED, &[Stop(0)]]);
    /// The first owner has died, and node 1 has claimed.
    const CLAIMED: [Deed; 12] = [
        Connect(1),
        Kill(0),
        LeaseEnds(0),
        Apply(1, 0),
        Take(1, 0),
        Apply(1, 0),
        Take(1, 0),
        Apply(1, 0),
        Take(1, 0),
        Hello(1),
        Read,
        Send,
    ];
    /// And has spoken; the engine has lost that claim, and the first node has started again.
    const CLAIM_LOST: [Deed; 19] =
        joined(&[&CLAIMED, &[Receive(1), Say(1), Read, Failover, Restart(0), Break, Connect(0)]]);
    /// The client is attached without a confirmation, and then the node is stopped.
    const UNCONFIRMED: [Deed; 4] = [Connect(0), Hello(0), Read, Stop(0)];
    /// The first owner is stopped, and node 1 has claimed and acknowledged.
    const OVERTAKEN: [Deed; 24] = joined(&[
        &ATTACHED,
        &[
            Stop(0),
            LeaseEnds(0),
            Deed::LetGo,
            Connect(1),
            Apply(1, 0),
            Take(1, 0),
            Apply(1, 0),
            Take(1, 0),
            Apply(1, 0),
            Take(1, 0),
        ],
        &[Hello(1), Read, Send, Receive(1), Put(1), Apply(1, 0), Take(1, 0), Acknowledge(1), Read],
    ]);
    /// A clean put has got through, and its answer has not.
    const CLEAN: [Deed; 10] =
        joined(&[&SENT, &[Deed::Leave(0), Boundary(0), Put(0), CutDone(0, 0)]]);
    /// A clean put is late.
    const CLEAN_LATE: [Deed; 10] =
        joined(&[&SENT, &[Deed::Leave(0), Boundary(0), Put(0), CutLate(0, 0)]]);
    const PUT_LATE: [Deed; 10] = joined(&[&SENT, &[Send, Receive(0), Put(0)], &[CutLate(0, 0)]]);
    /// A put is on its way, and the lease has ended.
    const PUT_AND_GONE: [Deed; 11] = joined(&[&TAKEN, &[Put(0), Stop(0), LeaseEnds(0), GoOn(0)]]);
    /// The lease has ended, and its owner has acknowledged a message since.
    const UNNOTICED: [Deed; 15] = joined(&[
        &SENT,
        &[
            Stop(0),
            LeaseEnds(0),
            GoOn(0),
            Receive(0),
            Put(0),
            Apply(0, 0),
            Take(0, 0),
            Acknowledge(0),
            Read,
        ],
    ]);
    const TWO_TAKEN: [Deed; 14] = joined(&[
        &ATTACHED,
        &[
            Send,
            Send,
            Receive(0),
            Put(0),
            Apply(0, 0),
            Take(0, 0),
            Acknowledge(0),
            Read,
            Receive(0),
        ],
    ]);
    const ENDS_SOON: [Deed; 9] = joined(&[&[Connect(1), Break], &SENT, &[Receive(0)]]);

    let one = Case::BASE;
    let wrong = Case { clocks: Clocks::Wrong, ..one };
    let fail = Case { deep: true, replicated: Replicated::Turns, ..one };
    let plant = |name, of, case: Case, begin: &'static [Deed], plant| Case {
        name,
        budget: budget(of),
        plant: Some(plant),
        begin,
        ..case
    };
    let fault = |name, of, case: Case, begin: &'static [Deed], fault| {
        plant(name, of, case, begin, Plant::Machine(fault))
    };
    let limit = |name, of, case: Case, begin: &'static [Deed]| Case {
        name,
        budget: budget(of),
        begin,
        ..case
    };
    vec![
        (plant("b-nofence", [1, 0, 1, 0, 0, 0, 0], one, &TAKEN, Plant::NoFence), "P1"),
        (
            plant(
                "b-eqgen",
                [2, 0, 0, 0, 0, 0, 0],
                Case { nodes: 3, ..one },
                &[Connect(1)],
                Plant::EqualGeneration,
            ),
            "P",
        ),
        (plant("b-cleanstays", [1, 1, 0, 0, 0, 1, 0], one, &SENT, Plant::CleanStays), "P3"),
        (
            plant(
                "b-epochnext",
                [1, 2, 0, 0, 0, 0, 1],
                Case { nodes: 3, ..one },
                &CLAIMED,
                Plant::EpochNext,
            ),
            "P3",
        ),
        (
            plant("b-epochgen", [1, 1, 0, 0, 1, 0, 1], one, &CLAIM_LOST, Plant::EpochGeneration),
            "P3",
        ),
        (plant("b-renewafter", [1, 0, 1, 0, 0, 0, 0], B, &[], Plant::RenewAfter), "P6"),
        (fault("b-noconfirm", [1, 0, 1, 0, 0, 0, 0], wrong, &UNCONFIRMED, Fault::NoConfirm), "P1"),
        (
            fault(
                "b-noconfirm-x",
                [1, 0, 1, 0, 0, 0, 0],
                Case { exact: true, ..wrong },
                &UNCONFIRMED,
                Fault::NoConfirm,
            ),
            "P3",
        ),
        (
            plant(
                "b-helloclaim",
                [2, 1, 0, 0, 0, 0, 0],
                Case { nodes: 3, ..B },
                &[],
                Plant::HelloClaim,
            ),
            "P6",
        ),
        (fault("b-thaw", [1, 1, 0, 1, 0, 1, 0], one, &CLEAN, Fault::ThawAtOnce), "P3"),
        (
            plant(
                "b-retarget",
                [0, 1, 0, 0, 0, 0, 0],
                Case { nodes: 3, ..one },
                &[],
                Plant::Retarget,
            ),
            "P",
        ),
        (
            fault(
                "b-rehello",
                [0, 1, 0, 0, 0, 0, 0],
                Case { nodes: 3, ..one },
                &[],
                Fault::Rehello,
            ),
            "P2",
        ),
        (fault("b-latehello", [1, 0, 1, 0, 0, 0, 0], B, &[], Fault::LateHello), "P6"),
        (
            fault(
                "b-noreput",
                [0, 1, 0, 0, 1, 0, 0],
                Case { quiet: true, ..fail },
                &[],
                Fault::NoReput,
            ),
            "P1",
        ),
        (
            limit(
                "b-nowait",
                [1, 0, 1, 0, 1, 0, 0],
                Case { quiet: true, replicated: Replicated::Nothing, ..fail },
                &OVERTAKEN,
            ),
            "P1",
        ),
        (plant("b-ackearly", [1, 1, 0, 0, 0, 0, 0], one, &[], Plant::AckEarly), "P4"),
        (
            plant(
                "b-exactearly",
                [1, 1, 0, 0, 0, 0, 0],
                Case { exact: true, ..one },
                &[],
                Plant::SendEarly,
            ),
            "P3",
        ),
        (fault("b-claimalive", [1, 0, 0, 0, 0, 0, 0], B, &[], Fault::ClaimAlive), "P6"),
        (
            plant(
                "b-idoutcome",
                [1, 0, 1, 0, 0, 0, 0],
                Case { ends: true, ..wrong },
                &[],
                Plant::OutcomeUnderId,
            ),
            "P4",
        ),
        (
            plant(
                "b-refuse",
                [0, 1, 0, 0, 1, 0, 0],
                Case { quiet: true, replicated: Replicated::Nothing, ..fail },
                &[],
                Plant::RefuseBehind,
            ),
            "P1",
        ),
        (
            limit(
                "b-norelwait",
                [0, 0, 0, 0, 1, 1, 0],
                Case { replicated: Replicated::Claims, ..fail },
                &ACKED,
            ),
            "P1",
        ),
        (
            limit(
                "b-norelwait-end",
                [1, 0, 0, 0, 1, 0, 0],
                Case { messages: 2, ends: true, replicated: Replicated::Claims, ..fail },
                &TWO_TAKEN,
            ),
            "P1",
        ),
        (
            plant(
                "b-blindrel",
                [0, 0, 0, 0, 1, 1, 0],
                Case { overdue: true, ..fail },
                &ACKED,
                Plant::BlindRelease,
            ),
            "P1",
        ),
        (
            plant(
                "b-nover",
                [0, 1, 0, 1, 0, 0, 0],
                Case { messages: 2, late_calls: true, ..one },
                &PUT_LATE,
                Plant::NoVersion,
            ),
            "P1",
        ),
        (
            plant(
                "b-nover-stay",
                [1, 1, 0, 1, 0, 1, 0],
                Case { late_calls: true, stays: true, ..one },
                &CLEAN_LATE,
                Plant::NoVersion,
            ),
            "P1",
        ),
        (
            plant(
                "b-refusefirst",
                [1, 0, 1, 0, 0, 0, 0],
                Case { exact: true, ..wrong },
                &STOPPED,
                Plant::RefuseFirst,
            ),
            "P3",
        ),
        (
            fault(
                "b-stalereclaim",
                [0, 0, 1, 0, 0, 0, 0],
                one,
                &PUT_AND_GONE,
                Fault::StaleDuringReclaim,
            ),
            "P7",
        ),
        (
            plant(
                "b-claimended",
                [1, 0, 1, 0, 0, 0, 0],
                Case { ends: true, ..one },
                &ENDS_SOON,
                Plant::ClaimEnded,
            ),
            "P4",
        ),
        (limit("limit-fail-kill", [0, 1, 0, 0, 1, 0, 0], Case { deep: false, ..fail }, &[]), "P1"),
        (
            limit(
                "limit-fail-wrong",
                [1, 0, 1, 0, 1, 0, 0],
                Case { clocks: Clocks::Wrong, quiet: true, ..fail },
                &UNNOTICED,
            ),
            "P1",
        ),
    ]
}
