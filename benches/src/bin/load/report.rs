//! The one table, and the targets.

use session_resume_benches::measure::Samples;

/// What has been measured so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    targets: Vec<Target>,
}

#[derive(Debug)]
struct Row {
    case: String,
    subject: String,
    unit: &'static str,
    samples: Samples,
    /// The median of raw axum in the same run.
    raw: Option<f64>,
}

#[derive(Debug)]
struct Target {
    what: String,
    measured: f64,
    bound: Bound,
    unit: &'static str,
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
            self.push(Row { case: case.to_owned(), subject, unit, samples, raw });
        }
    }

    /// Adds a measurement that has nothing to be compared with.
    pub(crate) fn add(&mut self, case: &str, subject: &str, unit: &'static str, samples: Samples) {
        self.push(Row {
            case: case.to_owned(),
            subject: subject.to_owned(),
            unit,
            samples,
            raw: None,
        });
    }

    /// Notes whether a target is met.
    pub(crate) fn target(&mut self, what: &str, unit: &'static str, measured: f64, bound: Bound) {
        self.targets.push(Target { what: what.to_owned(), measured, bound, unit });
    }

    /// Prints the table and the targets.
    pub(crate) fn print(&self) {
        println!("\n| case | subject | unit | min | median | max | to raw axum |");
        println!("| --- | --- | --- | ---: | ---: | ---: | ---: |");
        for row in &self.rows {
            println!("{}", row.line());
        }
        println!("\n| target | bound | measured | |");
        println!("| --- | ---: | ---: | --- |");
        for target in &self.targets {
            println!("{}", target.line());
        }
    }

    fn push(&mut self, row: Row) {
        // Progress, since the table comes last.
        eprintln!("{}", row.line());
        self.rows.push(row);
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

impl Target {
    fn line(&self) -> String {
        let Self { what, measured, bound, unit } = self;
        let (sign, limit, met) = match *bound {
            Bound::AtMost(limit) => ("≤", limit, *measured <= limit),
            Bound::AtLeast(limit) => ("≥", limit, *measured >= limit),
        };
        let met = if met { "met" } else { "NOT met" };
        format!("| {what} | {sign} {limit} {unit} | {} | {met} |", number(*measured))
    }
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
