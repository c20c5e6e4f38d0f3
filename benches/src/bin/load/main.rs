//! Load over real sockets, memory, sweeping and storing, and every target of the design with what was measured.
//!
//! `load all`, or one of the cases that `load` alone lists. The server of a socket case is a process of its own:
//! this program, started again, or node for the peer.

mod cases;
mod client;
mod peer;
mod report;
mod server;

use std::process::ExitCode;

use session_resume_benches::counting::Counting;

use crate::report::Report;

#[global_allocator]
static HEAP: Counting = Counting;

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let words = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    match words[..] {
        ["serve", kind, threads] => {
            server::run(kind, threads.parse().expect("a number of threads"));
            ExitCode::SUCCESS
        }
        // One subject alone, for the case that counts its instructions.
        ["requests", subject, count] => {
            cases::requests(subject, count.parse().expect("a number of requests"));
            ExitCode::SUCCESS
        }
        [case] => {
            let mut report = Report::default();
            let known = cases::run(case, &mut report);
            if known {
                report.print();
                ExitCode::SUCCESS
            } else {
                usage()
            }
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: load all|{}", cases::NAMES.join("|"));
    ExitCode::from(2)
}
