//! What the agent finds and asks: the same for the same task, every time.

use serde::{Deserialize, Serialize};

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
    /// Whether it was stopped before it had finished.
    #[serde(default)]
    pub stopped: bool,
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
