//! The one table, and the targets.

use session_resume_benches::measure::Samples;

/// What has been measured so far, as lines of the two tables.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<String>,
    targets: Vec<String>,
}

const ROWS: &str = "| case | subject | unit | min | median | max | to raw axum |";
const TARGETS: &str = "| target | bound | measured | | the baseline here, and in the design | bound at this speed | |";

struct Row {
    case: String,
    subject: String,
    unit: &'static str,
    samples: Samples,
    /// The median of raw axum in the same run.
    raw: Option<f64>,
}

struct Target<'a> {
    what: &'a str,
    unit: &'static str,
    measured: f64,
    bound: Bound,
    baseline: Option<Baseline>,
}

/// The peer beside a target. A target in microseconds depends on the machine, too: on a slower machine the peer
/// tells by how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Baseline {
    /// What the design measured.
    pub(crate) design: f64,
    /// What this run has measured.
    pub(crate) here: f64,
}

/// On which side of a number the target lies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Report {
    /// Adds the subjects of a case; ratios are to the first one's median.
    pub(crate) fn compare(
        &mut self,
        case: &str,
        unit: &'static str,
        subjects: Vec<(String, Samples)>,
    ) {
        let raw = subjects.first().map(|(_, samples)| samples.median());
        for (subject, samples) in subjects {
            self.push(&Row { case: case.to_owned(), subject, unit, samples, raw });
        }
    }

    /// Adds a measurement that has nothing to be compared with.
    pub(crate) fn add(&mut self, case: &str, subject: &str, unit: &'static str, samples: Samples) {
        self.push(&Row {
            case: case.to_owned(),
            subject: subject.to_owned(),
            unit,
            samples,
            raw: None,
        });
    }

    /// Notes whether a target is met.
    pub(crate) fn target(&mut self, what: &str, unit: &'static str, measured: f64, bound: Bound) {
        self.targets.push(Target { what, unit, measured, bound, baseline: None }.line());
    }

    /// Notes whether a target is met, and whether it is at the speed of this machine.
    pub(crate) fn target_beside(
        &mut self,
        what: &str,
        unit: &'static str,
        measured: f64,
        bound: Bound,
        baseline: Baseline,
    ) {
        self.targets.push(Target { what, unit, measured, bound, baseline: Some(baseline) }.line());
    }

    /// Adds what another run has [printed](Self::print).
    pub(crate) fn absorb(&mut self, printed: &str) {
        let mut lines = printed.lines();
        while let Some(line) = lines.next() {
            let table = match line {
                ROWS => &mut self.rows,
                TARGETS => &mut self.targets,
                _ => continue,
            };
            // Below the head is a line of dashes.
            let rows = lines.by_ref().skip(1).take_while(|line| line.starts_with('|'));
            table.extend(rows.map(str::to_owned));
        }
    }

    /// Prints the table and the targets.
    pub(crate) fn print(&self) {
        println!("\n{ROWS}");
        println!("| --- | --- | --- | ---: | ---: | ---: | ---: |");
        self.rows.iter().for_each(|row| println!("{row}"));
        println!("\n{TARGETS}");
        println!("| --- | ---: | ---: | --- | ---: | ---: | --- |");
        self.targets.iter().for_each(|target| println!("{target}"));
    }

    fn push(&mut self, row: &Row) {
        let line = row.line();
        // Progress, since the table comes last.
        eprintln!("{line}");
        self.rows.push(line);
    }
}

impl Row {
    fn line(&self) -> String {
        let Self { case, subject, unit, samples, raw } = self;
        let ratio = raw.map_or_else(String::new, |raw| format!("{:.2}", samples.median() / raw));
        let [min, median, max] = [samples.min(), samples.median(), samples.max()].map(number);
        format!("| {case} | {subject} | {unit} | {min} | {median} | {max} | {ratio} |")
    }
}

impl Target<'_> {
    fn line(&self) -> String {
        let Self { what, measured, bound, unit, baseline } = self;
        let beside = baseline.map_or_else(
            || "| |".to_owned(),
            |Baseline { design, here }| {
                let bound = bound.scaled(here / design);
                let (here, design) = (number(here), number(design));
                format!("{here} and {design} | {} | {}", bound.text(unit), bound.verdict(*measured))
            },
        );
        let verdict = bound.verdict(*measured);
        format!("| {what} | {} | {} | {verdict} | {beside} |", bound.text(unit), number(*measured))
    }
}

impl Bound {
    fn scaled(self, factor: f64) -> Self {
        match self {
            Self::AtMost(limit) => Self::AtMost(limit * factor),
            Self::AtLeast(limit) => Self::AtLeast(limit * factor),
        }
    }

    fn text(self, unit: &str) -> String {
        let (sign, limit) = match self {
            Self::AtMost(limit) => ("≤", limit),
            Self::AtLeast(limit) => ("≥", limit),
        };
        format!("{sign} {} {unit}", number(limit))
    }

    fn verdict(self, measured: f64) -> &'static str {
        let met = match self {
            Self::AtMost(limit) => measured <= limit,
            Self::AtLeast(limit) => measured >= limit,
        };
        if met { "met" } else { "NOT met" }
    }
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
