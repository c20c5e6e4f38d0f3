//! What was printed already, so that each word is printed once, however it comes.

use agent_app::state::{Line, Step as Stage, Who};
use serde::Deserialize;

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Step {
    /// The user's: there is no task.
    Idle,
    /// The user's: there is a question.
    Ask,
    /// The agent's.
    #[default]
    Busy,
}

/// What the server says; see `agent_app::view`.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    View(View),
    Word { text: String, begins: Option<Who> },
    File { line: Line },
    Error(String),
}

#[derive(Deserialize)]
struct View {
    step: Stage,
    lines: Vec<Line>,
    words: u64,
    question: Option<Question>,
}

#[derive(Default, Deserialize)]
struct Question {
    text: String,
}

/// The conversation as far as it is on the screen.
#[derive(Default)]
pub(crate) struct Transcript {
    lines: Vec<Line>,
    step: Step,
    words: u64,
    question: Question,
    /// The turn that the user has had, until the agent says that it was no good: a view may come twice.
    had: Option<(Step, u64)>,
}

impl Transcript {
    /// Takes a message; returns what is to be printed.
    pub(crate) fn take(&mut self, json: &[u8]) -> serde_json::Result<String> {
        let mut print = String::new();
        match serde_json::from_slice(json)? {
            Said::View(view) => self.view(view, &mut print),
            Said::Word { text, begins } => {
                if let Some(who) = begins {
                    self.begin(who, &mut print);
                }
                self.say(&text, &mut print);
            }
            Said::File { line } => {
                self.begin(line.who, &mut print);
                self.say(&line.text, &mut print);
            }
            Said::Error(wrong) => {
                print.push_str("\n! ");
                print.push_str(&wrong);
                if let Some((step, _)) = self.had.take() {
                    self.step = step;
                }
            }
        }
        Ok(print)
    }

    /// The user has had their turn.
    pub(crate) fn wait(&mut self) {
        self.had = Some((self.step, self.words));
        self.step = Step::Busy;
    }

    pub(crate) fn step(&self) -> Step {
        self.step
    }

    /// How many words the agent had said at the last view: the number of its question.
    pub(crate) fn words(&self) -> u64 {
        self.words
    }

    pub(crate) fn question(&self) -> &str {
        &self.question.text
    }

    fn view(&mut self, view: View, print: &mut String) {
        for (n, line) in view.lines.iter().enumerate() {
            let known = self.lines.get(n).map(|known| known.text.len());
            if known.is_none() {
                self.begin(line.who, print);
            }
            // A view never says less than was said before it.
            if let Some(rest) = line.text.get(known.unwrap_or(0)..)
                && !rest.is_empty()
            {
                print.push_str(rest);
            }
        }
        self.lines = view.lines;
        self.words = view.words;
        self.question = view.question.unwrap_or_default();
        self.step = match view.step {
            Stage::Idle => Step::Idle,
            Stage::Ask => Step::Ask,
            Stage::Think | Stage::Plan | Stage::Work | Stage::Report | Stage::Done => Step::Busy,
        };
        if self.had == Some((self.step, self.words)) {
            self.step = Step::Busy;
        }
        if view.step == Stage::Done {
            print.push('\n');
        }
    }

    fn begin(&mut self, who: Who, print: &mut String) {
        print.push_str(match who {
            Who::You => "\n> ",
            Who::Thought => "\n~ ",
            Who::Agent => "\n",
            Who::Tool => "\n  ",
        });
        self.lines.push(Line { who, text: String::new() });
    }

    fn say(&mut self, text: &str, print: &mut String) {
        print.push_str(text);
        if let Some(line) = self.lines.last_mut() {
            line.text.push_str(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(messages: &[&str], printed: &str) -> Transcript {
        let mut transcript = Transcript::default();
        let all: String =
            messages.iter().map(|json| transcript.take(json.as_bytes()).unwrap()).collect();
        assert_eq!(all, printed);
        transcript
    }

    #[test]
    fn each_word_is_printed_once_by_whichever_message_it_comes() {
        let view = r#"{"view":{"step":"think","words":2,"question":null,"lines":
            [{"who":"you","text":"count"},{"who":"thought","text":"I am"}]}}"#;
        let word = r#"{"word":{"n":2,"text":" here","begins":null}}"#;
        let next = r#"{"word":{"n":3,"text":"Now","begins":"agent"}}"#;
        let ask = r#"{"view":{"step":"ask","words":5,"question":{"number":5,"text":"May I?"},"lines":
            [{"who":"you","text":"count"},{"who":"thought","text":"I am here"},
             {"who":"agent","text":"Now what"}]}}"#;
        assert_eq!(check(&[view], "\n> count\n~ I am").step(), Step::Busy);
        let transcript = check(&[view, word, next, ask, ask], "\n> count\n~ I am here\nNow what");
        assert_eq!((transcript.step(), transcript.words()), (Step::Ask, 5));
        assert_eq!(transcript.question(), "May I?");
    }

    #[test]
    fn a_turn_that_was_had_comes_again_only_after_an_error() {
        let idle = r#"{"view":{"step":"idle","words":0,"question":null,"lines":[]}}"#;
        let mut transcript = check(&[idle], "");
        assert_eq!(transcript.step(), Step::Idle);
        transcript.wait();
        transcript.take(idle.as_bytes()).unwrap();
        assert_eq!(transcript.step(), Step::Busy);
        transcript.take(br#"{"error":"too long"}"#).unwrap();
        assert_eq!(transcript.step(), Step::Idle);
    }

    #[test]
    fn files_and_errors_have_lines_of_their_own() {
        let file = r#"{"file":{"read":1,"line":{"who":"tool","text":"read a"}}}"#;
        check(&[file, r#"{"error":"no"}"#], "\n  read a\n! no");
        assert!(Transcript::default().take(b"{}").is_err());
    }
}
