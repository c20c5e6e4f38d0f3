//! What a session remembers, and the commands that change it.

use serde::{Deserialize, Serialize};

use crate::series::{self, Series};

/// The most lines that can still be told apart in one plot. The style sheet has as many colours.
pub(crate) const MAX_LINES: usize = 8;

/// How much of a wrong command comes back in the text that says so, in characters.
const MAX_ERROR: usize = 200;

/// The state of one session.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Dashboard {
    /// Ids of the rows that are ticked, in the table's order.
    pub(crate) selected: Vec<String>,
    /// What the controls beside the Plot button say.
    pub(crate) options: Options,
    /// What Plot was pressed for the last time.
    pub(crate) plotted: Option<Plotted>,
    /// How many live values there have been. Never set back, so that a page can see whether it has them all.
    pub(crate) ticks: u64,
}

/// A plot that was asked for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Plotted {
    /// The rows as they were then, at least one and at most [`MAX_LINES`].
    pub(crate) rows: Vec<String>,
    pub(crate) options: Options,
}

/// How a plot is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    pub(crate) range: Range,
    pub(crate) scale: Scale,
}

/// The last days of the year that are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Range {
    Month,
    Quarter,
    #[default]
    Year,
}

/// What the vertical axis counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scale {
    /// Megawatts.
    #[default]
    Values,
    /// Per cent of the first day shown.
    Index,
}

/// What a page may ask for: `{"select":["solar"]}`, `{"options":{"range":"month","scale":"index"}}`,
/// `{"plot":true}`; `{"plot":false}` takes the plot away, and `"view"` changes nothing and asks for what there is.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Command {
    Select(Vec<String>),
    Options(Options),
    Plot(bool),
    View,
}

impl Command {
    /// Reads a command; the error is a text for the visitor.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json)
            .map_err(|error| bounded(&format!("This is not a command: {error}.")))
    }
}

impl Dashboard {
    /// Does what a page asks for; the error is a text for the visitor, and then nothing has changed.
    pub(crate) fn obey(&mut self, command: Command) -> Result<(), String> {
        match command {
            Command::Select(ids) => self.selected = in_table_order(&ids)?,
            Command::Options(options) => self.options = options,
            Command::Plot(false) => self.plotted = None,
            Command::Plot(true) => self.plotted = Some(self.new_plot()?),
            Command::View => {}
        }
        Ok(())
    }

    /// Counts one more live value and returns its number.
    pub(crate) fn next_tick(&mut self) -> u64 {
        let number = self.ticks;
        self.ticks += 1;
        number
    }

    fn new_plot(&self) -> Result<Plotted, String> {
        match self.selected.len() {
            0 => Err("Select at least one row, then press Plot.".into()),
            1..=MAX_LINES => Ok(Plotted { rows: self.selected.clone(), options: self.options }),
            n => Err(format!("{n} rows are too many for one plot: select at most {MAX_LINES}.")),
        }
    }
}

impl Range {
    /// Returns how many days these are.
    pub(crate) const fn days(self) -> usize {
        match self {
            Self::Month => 30,
            Self::Quarter => 90,
            Self::Year => series::DAYS,
        }
    }
}

/// Each row once, however often and in whichever order it was named.
fn in_table_order(ids: &[String]) -> Result<Vec<String>, String> {
    if let Some(unknown) = ids.iter().find(|id| series::find(id).is_none()) {
        return Err(bounded(&format!("There is no row \u{201c}{unknown}\u{201d}.")));
    }
    let selected = series::all().iter().map(Series::id).filter(|id| ids.iter().any(|i| i == id));
    Ok(selected.map(str::to_owned).collect())
}

/// An answer must not grow with what a stranger sends: a message over the limit would end the session.
fn bounded(text: &str) -> String {
    match text.char_indices().nth(MAX_ERROR) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obey(dashboard: &mut Dashboard, json: &str) -> Result<(), String> {
        Command::parse(json.as_bytes()).and_then(|command| dashboard.obey(command))
    }

    fn check(commands: &[&str]) -> Dashboard {
        let mut dashboard = Dashboard::default();
        for command in commands {
            obey(&mut dashboard, command).unwrap();
        }
        dashboard
    }

    #[test]
    fn a_selection_is_in_table_order_each_row_once() {
        let dashboard = check(&[r#"{"select":["solar","wind-sea","solar"]}"#]);
        assert_eq!(dashboard.selected, ["wind-sea", "solar"]);
        let dashboard = check(&[r#"{"select":["solar"]}"#, r#"{"select":[]}"#]);
        assert!(dashboard.selected.is_empty());
    }

    #[test]
    fn a_plot_keeps_the_rows_and_options_it_was_made_with() {
        let dashboard = check(&[
            r#"{"select":["solar"]}"#,
            r#"{"options":{"range":"month","scale":"index"}}"#,
            r#"{"plot":true}"#,
            r#"{"select":["hydro"]}"#,
            r#"{"options":{"range":"year","scale":"values"}}"#,
        ]);
        let plotted = dashboard.plotted.unwrap();
        assert_eq!(plotted.rows, ["solar"]);
        assert_eq!(plotted.options, Options { range: Range::Month, scale: Scale::Index });
        assert_eq!(dashboard.selected, ["hydro"]);
    }

    #[test]
    fn a_plot_can_be_taken_away() {
        let dashboard =
            check(&[r#"{"select":["solar"]}"#, r#"{"plot":true}"#, r#"{"plot":false}"#]);
        assert_eq!(dashboard.plotted, None);
    }

    #[test]
    fn to_look_changes_nothing() {
        let before = check(&[r#"{"select":["solar"]}"#, r#"{"plot":true}"#]);
        let mut after = before.clone();
        obey(&mut after, r#""view""#).unwrap();
        assert_eq!(after, before);
    }

    #[test]
    fn wrong_commands_say_what_is_wrong_and_change_nothing() {
        let all: Vec<_> = series::all().iter().map(Series::id).collect();
        let too_many = serde_json::json!({ "select": all }).to_string();
        let before = check(&[too_many.as_str()]);
        for (command, says) in [
            ("", "not a command"),
            ("[1", "not a command"),
            ("null", "not a command"),
            ("\u{1}{}", "not a command"),
            (r#"{"select":"solar"}"#, "expected a sequence"),
            (r#"{"select":["<b>"]}"#, "no row \u{201c}<b>\u{201d}"),
            (r#"{"select":[],"plot":true}"#, "not a command"),
            (r#"{"explode":true}"#, "unknown variant `explode`"),
            (r#"{"options":{"range":"decade","scale":"index"}}"#, "unknown variant `decade`"),
            (r#"{"options":{"range":"year","scale":"index","x":1}}"#, "unknown field `x`"),
            (r#"{"plot":1}"#, "expected a boolean"),
            (r#"{"plot":true}"#, "at most 8"),
        ] {
            let mut dashboard = before.clone();
            let error = obey(&mut dashboard, command).unwrap_err();
            assert!(error.contains(says), "{command}: {error}");
            assert_eq!(dashboard, before, "{command}");
        }
        let error = obey(&mut Dashboard::default(), r#"{"plot":true}"#).unwrap_err();
        assert!(error.contains("at least one row"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_told_in_few_words() {
        let long = "ü".repeat(100_000);
        for command in [format!(r#"{{"select":["{long}"]}}"#), format!(r#"{{"{long}":true}}"#)] {
            let error = obey(&mut Dashboard::default(), &command).unwrap_err();
            assert_eq!(error.chars().count(), MAX_ERROR + 1, "{error}");
        }
    }

    #[test]
    fn a_state_comes_back_from_its_snapshot_as_it_was() {
        let mut dashboard = check(&[r#"{"select":["solar","gas"]}"#, r#"{"plot":true}"#]);
        assert_eq!((dashboard.next_tick(), dashboard.next_tick()), (0, 1));
        let json = serde_json::to_string(&dashboard).unwrap();
        assert_eq!(serde_json::from_str::<Dashboard>(&json).unwrap(), dashboard);
    }
}
