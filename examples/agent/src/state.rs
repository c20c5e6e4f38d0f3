//! What a session remembers, and the commands that change it.

use serde::{Deserialize, Serialize};

use crate::script::{FILES, Mishap, Report, UNLUCKY};

/// The longest task, in characters.
pub const MAX_TASK: usize = 200;

/// Where the agent is in its script.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Waits for a task.
    #[default]
    Idle,
    /// Thinks aloud.
    Think,
    /// Says what it is going to do.
    Plan,
    /// Has asked, and waits for the answer.
    Ask,
    /// Reads the files.
    Work,
    /// Says what came of it.
    Report,
    /// Has nothing more to do.
    Done,
}

/// The state of one session: everything that the agent needs in order to go on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Agent {
    /// Where it is.
    pub step: Step,
    /// What it was told to do.
    pub task: Option<Task>,
    /// What was said, and the speaker of each line.
    pub lines: Vec<Line>,
    /// How many words of this step's text are said already.
    pub said: usize,
    /// How many words it has said in its life: the number of the next one.
    pub words: u64,
    /// What it was answered.
    pub approved: Option<bool>,
    /// How many files it has read.
    pub files: usize,
    /// How many words were in them.
    pub counted: u64,
    /// Whether it was stopped.
    #[serde(default)]
    pub stopped: bool,
}

/// Something to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// What the user wants, in at most [`MAX_TASK`] characters.
    pub text: String,
    /// What goes wrong.
    #[serde(default)]
    pub mishap: Mishap,
}

/// One contribution to the conversation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The speaker.
    pub who: Who,
    /// What was said.
    pub text: String,
}

/// A speaker in the conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// The user.
    You,
    /// The agent, to itself.
    Thought,
    /// The agent.
    Agent,
    /// A tool of the agent's.
    Tool,
}

/// What a client may ask for: `{"task":{"text":"…","mishap":"none"}}`, `{"answer":{"question":57,"approve":true}}` or
/// `"stop"`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Start.
    Task(Task),
    /// Go on, or do not.
    Answer(Answer),
    /// Leave the rest, whatever the agent is at. It is urgent: the agent takes it while it works.
    Stop,
}

/// The answer to a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The number of the question. An answer that was sent before the question was asked approves of
    /// nothing.
    pub question: u64,
    /// Yes or no.
    pub approve: bool,
}

/// What one beat of the agent has brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Beat {
    /// The next word, and its number. The first word of a step begins a line.
    Word {
        /// Counts the words of the session.
        n: u64,
        /// With the space before it, if there is one.
        text: String,
        /// Who says it, if a line begins.
        begins: Option<Who>,
    },
    /// A file was read.
    File(Line),
}

impl Command {
    /// Reads a command.
    ///
    /// # Errors
    ///
    /// Returns a text for the user.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json)
            .map_err(|error| bounded(&format!("This is not a command: {error}.")))
    }
}

impl Agent {
    /// Does what a user asks for.
    ///
    /// # Errors
    ///
    /// Returns a text for the user, and then nothing has changed.
    pub fn obey(&mut self, command: Command) -> Result<(), String> {
        match (command, self.step) {
            (Command::Task(task), Step::Idle) => self.start(task),
            (Command::Task(_), _) => Err("The agent is busy with another task.".into()),
            (Command::Answer(answer), Step::Ask) if answer.question == self.words => {
                self.hear(answer.approve);
                Ok(())
            }
            (Command::Answer(_), _) => Err("This question is not open.".into()),
            (Command::Stop, Step::Think | Step::Plan | Step::Ask | Step::Work) => {
                self.stop();
                Ok(())
            }
            (Command::Stop, Step::Idle | Step::Report | Step::Done) => {
                Err("The agent does nothing that could be stopped.".into())
            }
        }
    }

    /// Does the next little thing, and says what that was.
    pub fn beat(&mut self) -> Beat {
        if self.step == Step::Work { self.read_file() } else { self.say_word() }
    }

    /// Returns what came of it all.
    pub fn report(&self) -> Report {
        Report {
            task: self.task.as_ref().map_or_else(String::new, |task| task.text.clone()),
            approved: self.approved == Some(true),
            stopped: self.stopped,
            files: self.files,
            words: self.counted,
            summary: self.lines.last().map_or_else(String::new, |line| line.text.clone()),
        }
    }

    /// Returns what goes wrong with the next file.
    pub(crate) fn due_mishap(&self) -> Mishap {
        match &self.task {
            Some(task) if self.step == Step::Work && self.files == UNLUCKY => task.mishap,
            _ => Mishap::None,
        }
    }

    /// Returns the name of the file that is read next.
    pub(crate) fn next_file(&self) -> &'static str {
        FILES.get(self.files).map_or("", |(name, _)| name)
    }

    fn start(&mut self, Task { text, mishap }: Task) -> Result<(), String> {
        let text = text.trim();
        match text.chars().count() {
            0 => return Err("Say what the agent shall do.".into()),
            1..=MAX_TASK => {}
            n => return Err(format!("{n} characters are too many: at most {MAX_TASK}.")),
        }
        self.lines.push(Line { who: Who::You, text: text.to_owned() });
        self.task = Some(Task { text: text.to_owned(), mishap });
        self.enter(Step::Think);
        Ok(())
    }

    fn hear(&mut self, approve: bool) {
        self.approved = Some(approve);
        let text = if approve { "Approved." } else { "Denied." };
        self.lines.push(Line { who: Who::You, text: text.into() });
        self.enter(if approve { Step::Work } else { Step::Report });
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.lines.push(Line { who: Who::You, text: "Stop.".into() });
        self.enter(Step::Report);
    }

    fn enter(&mut self, step: Step) {
        self.step = step;
        self.said = 0;
    }

    fn say_word(&mut self) -> Beat {
        let text = text(self);
        let mut rest = text.split_whitespace().skip(self.said);
        let word = rest.next().unwrap_or_default();
        let begins = (self.said == 0).then(|| self.step.speaker());
        let said = match begins {
            Some(who) => {
                self.lines.push(Line { who, text: String::new() });
                word.to_owned()
            }
            None => format!(" {word}"),
        };
        if let Some(line) = self.lines.last_mut() {
            line.text.push_str(&said);
        }
        let n = self.words;
        self.words += 1;
        self.said += 1;
        if rest.next().is_none() {
            self.enter(self.step.next());
        }
        Beat::Word { n, text: said, begins }
    }

    fn read_file(&mut self) -> Beat {
        let (name, words) = FILES[self.files];
        self.files += 1;
        self.counted += words;
        let line = Line { who: Who::Tool, text: format!("read {name}: {words} words") };
        self.lines.push(line.clone());
        if self.files == FILES.len() {
            self.enter(self.step.next());
        }
        Beat::File(line)
    }
}

impl Step {
    /// Returns why a session in this step must not expire.
    pub fn why(self) -> &'static str {
        match self {
            Self::Idle | Self::Ask | Self::Done => "waiting",
            Self::Think => "thinking",
            Self::Plan => "planning",
            Self::Work => "reading files",
            Self::Report => "reporting",
        }
    }

    /// The speaker in this step.
    fn speaker(self) -> Who {
        if self == Self::Think { Who::Thought } else { Who::Agent }
    }

    /// Which step follows when this one is through.
    fn next(self) -> Self {
        match self {
            Self::Idle => Self::Think,
            Self::Think => Self::Plan,
            Self::Plan => Self::Ask,
            Self::Ask => Self::Work,
            Self::Work => Self::Report,
            Self::Report | Self::Done => Self::Done,
        }
    }
}

/// An answer must not grow with what a stranger sends: a message over the limit would end the session.
fn bounded(text: &str) -> String {
    match text.char_indices().nth(MAX_TASK) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// Returns all that the agent says in its present step.
fn text(agent: &Agent) -> String {
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
        Step::Report if agent.stopped => format!(
            "Stopped. I have read {} of {} files, and written nothing.",
            agent.files,
            FILES.len()
        ),
        Step::Report if agent.approved == Some(true) => format!(
            "Done: {} files read, {} words in them, and the notes are written. You may close this page or \
             turn the server off; the result stays.",
            agent.files, agent.counted
        ),
        Step::Report => "You said no, so I have read nothing and written nothing.".into(),
        Step::Idle | Step::Ask | Step::Work | Step::Done => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obey(agent: &mut Agent, json: &str) -> Result<(), String> {
        Command::parse(json.as_bytes()).and_then(|command| agent.obey(command))
    }

    fn answer(agent: &Agent, approve: bool) -> String {
        format!(r#"{{"answer":{{"question":{},"approve":{approve}}}}}"#, agent.words)
    }

    fn run_to(agent: &mut Agent, step: Step) -> Vec<Beat> {
        let mut beats = Vec::new();
        while agent.step != step {
            assert!(beats.len() < 1_000, "{step:?} never comes");
            beats.push(agent.beat());
        }
        beats
    }

    #[test]
    fn the_script_goes_from_task_to_report() {
        let mut agent = Agent::default();
        obey(&mut agent, r#"{"task":{"text":" look "}}"#).unwrap();
        assert_eq!(agent.step, Step::Think);
        let words = run_to(&mut agent, Step::Ask);
        for (at, beat) in words.iter().enumerate() {
            assert!(matches!(beat, Beat::Word { n, .. } if *n == at as u64), "{beat:?}");
        }
        let yes = answer(&agent, true);
        obey(&mut agent, &yes).unwrap();
        assert_eq!(run_to(&mut agent, Step::Report).len(), FILES.len());
        run_to(&mut agent, Step::Done);
        let report = agent.report();
        assert_eq!((report.task.as_str(), report.approved), ("look", true));
        assert_eq!(report.words, FILES.iter().map(|(_, words)| words).sum::<u64>());
        assert!(report.summary.starts_with("Done: 6 files") && report.summary.ends_with("stays."));
    }

    #[test]
    fn it_can_be_stopped_at_each_step_and_once() {
        for step in [Step::Think, Step::Plan, Step::Ask, Step::Work] {
            let mut agent = Agent::default();
            obey(&mut agent, "\"stop\"").unwrap_err();
            obey(&mut agent, r#"{"task":{"text":"look"}}"#).unwrap();
            if step == Step::Work {
                run_to(&mut agent, Step::Ask);
                let yes = answer(&agent, true);
                obey(&mut agent, &yes).unwrap();
            }
            run_to(&mut agent, step);
            agent.beat();
            let read = agent.files;
            obey(&mut agent, "\"stop\"").unwrap();
            assert_eq!(agent.step, Step::Report);
            obey(&mut agent, "\"stop\"").unwrap_err();
            run_to(&mut agent, Step::Done);
            let report = agent.report();
            assert!(report.stopped && report.files == read, "{report:?}");
            assert!(report.summary.starts_with("Stopped."), "{}", report.summary);
        }
    }

    #[test]
    fn a_snapshot_at_any_beat_goes_on_as_if_nothing_had_happened() {
        let mut straight = Agent::default();
        obey(&mut straight, r#"{"task":{"text":"look"}}"#).unwrap();
        let mut restored = straight.clone();
        for _ in 0..1_000 {
            let json = serde_json::to_string(&restored).unwrap();
            restored = serde_json::from_str(&json).unwrap();
            if straight.step == Step::Done {
                break;
            }
            if straight.step == Step::Ask {
                let yes = answer(&straight, true);
                obey(&mut straight, &yes).unwrap();
                obey(&mut restored, &yes).unwrap();
            } else {
                assert_eq!(straight.beat(), restored.beat());
            }
        }
        assert_eq!((straight.step, &straight), (Step::Done, &restored));
    }

    #[test]
    fn wrong_commands_say_what_is_wrong_and_change_nothing() {
        let long = "ü".repeat(MAX_TASK + 1);
        let too_long = format!(r#"{{"task":{{"text":"{long}"}}}}"#);
        let unknown = format!(r#"{{"{long}":1}}"#);
        for (command, says) in [
            ("", "not a command"),
            ("[]", "not a command"),
            (r#"{"task":"look"}"#, "not a command"),
            (r#"{"task":{"text":"  "}}"#, "Say what"),
            (r#"{"task":{"text":"look","mishap":"fire"}}"#, "unknown variant `fire`"),
            (r#"{"task":{"text":"look","x":1}}"#, "unknown field `x`"),
            (r#"{"answer":{"question":0,"approve":true}}"#, "not open"),
            (r#"{"answer":{"question":-1,"approve":true}}"#, "not a command"),
            (&too_long, "201 characters are too many"),
            (&unknown, "…"),
        ] {
            let mut agent = Agent::default();
            let error = obey(&mut agent, command).unwrap_err();
            assert!(
                error.contains(says) && error.chars().count() <= MAX_TASK + 1,
                "{command}: {error}"
            );
            assert_eq!(agent, Agent::default(), "{command}");
        }
    }

    #[test]
    fn a_question_takes_one_answer_and_only_its_own() {
        let mut agent = Agent::default();
        obey(&mut agent, r#"{"task":{"text":"look"}}"#).unwrap();
        run_to(&mut agent, Step::Ask);
        let asked = agent.clone();
        let number = agent.words;
        for other in [0, number - 1, number + 1, u64::MAX] {
            let early = format!(r#"{{"answer":{{"question":{other},"approve":true}}}}"#);
            obey(&mut agent, &early).unwrap_err();
            assert_eq!(agent, asked);
        }
        let no = answer(&agent, false);
        obey(&mut agent, &no).unwrap();
        assert_eq!((agent.step, agent.approved), (Step::Report, Some(false)));
        obey(&mut agent, &no).unwrap_err();
    }
}
