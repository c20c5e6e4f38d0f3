//! What the agent says and does: the same for the same task, every time.

use serde::{Deserialize, Serialize};

use crate::state::{Agent, Step};

/// The files that the agent reads, and how many words are in each.
pub const FILES: [(&str, u64); 6] = [
    ("harbour.txt", 1_204),
    ("ferries.txt", 873),
    ("tides.txt", 2_310),
    ("weather.txt", 655),
    ("crew.txt", 1_498),
    ("cargo.txt", 3_120),
];

/// The file at which a mishap happens.
pub(crate) const UNLUCKY: usize = 3;

/// What goes wrong, to see how that ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mishap {
    /// Nothing.
    #[default]
    None,
    /// The agent's tool fails, and the agent with it.
    Error,
    /// The agent panics.
    Panic,
}

/// What comes of it: the handler's result, and so the outcome that can be polled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// What was asked for.
    pub task: String,
    /// Whether it was approved.
    pub approved: bool,
    /// How many files were read.
    pub files: usize,
    /// How many words were in them.
    pub words: u64,
    /// What the agent said in the end.
    pub summary: String,
}

/// Returns what the agent asks before it works.
pub fn question() -> String {
    format!("May I read {} files and write what I find to notes.md?", FILES.len())
}

/// Returns all that the agent says in its present step.
pub(crate) fn text(agent: &Agent) -> String {
    let task = agent.task.as_ref().map_or("", |task| &task.text);
    match agent.step {
        Step::Think => format!(
            "I am asked to \u{201c}{task}\u{201d}. There are {} files that may tell me about it, and none of \
             them is long. Reading harms nobody. Writing does change something, so I should not do that \
             without asking first.",
            FILES.len()
        ),
        Step::Plan => {
            "Here is my plan. First I read every file and count its words. Then I write what I \
                       found to notes.md. At the end I tell you."
                .into()
        }
        Step::Report if agent.approved == Some(true) => format!(
            "Done: {} files read, {} words in them, and the notes are written. You may close this page or \
             turn the server off; the result stays.",
            agent.files, agent.counted
        ),
        Step::Report => "You said no, so I have read nothing and written nothing.".into(),
        Step::Idle | Step::Ask | Step::Work | Step::Done => String::new(),
    }
}
