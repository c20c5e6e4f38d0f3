//! Draws a plot as SVG. Colours, widths and fonts are the page's: every part has a class.

use std::fmt::Write as _;

use crate::{
    series::{self, Series},
    state::{Plotted, Range, Scale},
    text::{escape, number},
};

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 346.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 32.0;

/// About this many lines are drawn across the plot.
const GRID: f64 = 5.0;

/// A plot as the page shows it.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) caption: String,
    /// One name for each line; the nth line and the nth name have the class `line-n`.
    pub(crate) legend: Vec<&'static str>,
    pub(crate) svg: String,
}

/// Draws what was plotted; `None` if there is no such row (any more).
pub(crate) fn draw(plotted: &Plotted) -> Option<Plot> {
    let rows: Vec<&Series> = plotted.rows.iter().filter_map(|id| series::find(id)).collect();
    if rows.is_empty() {
        return None;
    }
    let caption = caption(plotted.options.range, plotted.options.scale);
    let days = plotted.options.range.days();
    let lines: Vec<Vec<f64>> =
        rows.iter().map(|row| scaled(row.last(days), plotted.options.scale)).collect();
    let legend: Vec<_> = rows.iter().map(|row| row.name()).collect();
    let svg = svg(&caption, &legend, &lines, plotted.options.scale);
    Some(Plot { caption, legend, svg })
}

/// Draws a line without axes, as wide as `width`: what a table cell has room for.
pub(crate) fn sparkline(values: &[f64], width: f64, height: f64) -> String {
    let axis = Axis::around([values]);
    // Half a line's width stays free, or the peaks are cut.
    let points = points(values, |at| at * width, |v| 1.0 + axis.share(v) * (height - 2.0));
    format!(
        r#"<svg class="spark" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true"><polyline points="{points}"/></svg>"#
    )
}

fn caption(range: Range, scale: Scale) -> String {
    let what = match scale {
        Scale::Values => "Daily mean in MW",
        Scale::Index => "Daily mean, first day = 100",
    };
    match range {
        Range::Year => format!("{what}, all of 2025"),
        Range::Month | Range::Quarter => format!("{what}, last {} days of 2025", range.days()),
    }
}

fn scaled(values: &[f64], scale: Scale) -> Vec<f64> {
    let divisor = match scale {
        Scale::Values => 1.0,
        Scale::Index => values[0] / 100.0,
    };
    values.iter().map(|value| value / divisor).collect()
}

fn svg(caption: &str, names: &[&str], lines: &[Vec<f64>], scale: Scale) -> String {
    let axis = Axis::nice(lines.iter().map(Vec::as_slice));
    let days = lines[0].len();
    let x = |share: f64| LEFT + share * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + axis.share(value) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="plot-title plot-text"><title id="plot-title">{}</title><desc id="plot-text">{}</desc>"#,
        escape(caption),
        escape(&described(names, lines)),
    );
    let unit = match scale {
        Scale::Values => "MW",
        Scale::Index => "Index",
    };
    let (label, grid_end) = (LEFT - 8.0, WIDTH - RIGHT);
    let _ = write!(svg, r#"<text class="unit" x="{label}" y="14">{unit}</text><g class="grid">"#);
    for value in axis.marks() {
        let y = y(value);
        let _ = write!(
            svg,
            r#"<line x1="{LEFT}" y1="{y:.1}" x2="{grid_end}" y2="{y:.1}"/><text class="value" x="{label}" y="{y:.1}" dy="0.32em">{}</text>"#,
            number(value)
        );
    }
    let _ = write!(svg, r#"</g><g class="days">"#);
    let (mark, text) = (HEIGHT - BOTTOM, HEIGHT - BOTTOM + 20.0);
    for (share, date) in dates(days) {
        let x = x(share);
        let _ = write!(
            svg,
            r#"<line x1="{x:.1}" y1="{mark}" x2="{x:.1}" y2="{}"/><text x="{x:.1}" y="{text}">{date}</text>"#,
            mark + 5.0
        );
    }
    svg.push_str("</g>");
    for (n, line) in lines.iter().enumerate() {
        let points = points(line, x, y);
        let _ = write!(svg, r#"<polyline class="line line-{n}" points="{points}"/>"#);
    }
    svg.push_str("</svg>");
    svg
}

/// Says in words what the lines show.
fn described(names: &[&str], lines: &[Vec<f64>]) -> String {
    let mut text = String::new();
    for (name, line) in names.iter().zip(lines) {
        let (low, high) = extent([line.as_slice()]);
        let last = line[line.len() - 1];
        let _ = write!(
            text,
            "{name}: {} to {}, {} on the last day. ",
            number(low),
            number(high),
            number(last)
        );
    }
    text
}

/// Places `values` evenly from 0 to 1 and writes down their points.
fn points(values: &[f64], x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
    let mut points = String::with_capacity(values.len() * 12);
    for (share, value) in shares(values.len()).zip(values) {
        let separator = if points.is_empty() { "" } else { " " };
        let _ = write!(points, "{separator}{:.1},{:.1}", x(share), y(*value));
    }
    points
}

/// Numbers from 0 to 1 in `n` even steps.
fn shares(n: usize) -> impl Iterator<Item = f64> {
    let float = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let steps = float(n.saturating_sub(1).max(1));
    (0..n).map(move |at| float(at) / steps)
}

/// Which of the last `days` days of the year have a mark, where, and with which text.
fn dates(days: usize) -> impl Iterator<Item = (f64, String)> {
    shares(days).zip(series::DAYS - days..).filter_map(move |(share, day)| {
        let (of_month, month) = series::date(day);
        let text = match (days, of_month) {
            (..=31, 1 | 8 | 15 | 22 | 29) | (32..=100, 1 | 15) => format!("{of_month} {month}"),
            (101.., 1) => month.to_owned(),
            _ => return None,
        };
        Some((share, text))
    })
}

/// The vertical axis.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Axis {
    low: f64,
    /// Above `low`.
    high: f64,
    step: f64,
}

impl Axis {
    /// From the lowest value to the highest.
    fn around<'a>(lines: impl IntoIterator<Item = &'a [f64]>) -> Self {
        let (low, high) = extent(lines);
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, step: high - low }
    }

    /// With ends and marks at round numbers.
    fn nice<'a>(lines: impl IntoIterator<Item = &'a [f64]>) -> Self {
        let Self { low, high, .. } = Self::around(lines);
        // Zero belongs to it unless that squeezes the lines: a plot that starts elsewhere exaggerates.
        let low = if low > 0.0 && low < 0.6 * high { 0.0 } else { low };
        let rough = (high - low) / GRID;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0].map(|n| n * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, step }
    }

    /// Where a value is: 0 at the top, 1 at the bottom, as SVG counts.
    fn share(&self, value: f64) -> f64 {
        (self.high - value) / (self.high - self.low)
    }

    fn marks(self) -> impl Iterator<Item = f64> {
        // Counted, not added up: half a step of room for what floats lose.
        (0_u8..50)
            .map(move |n| self.low + f64::from(n) * self.step)
            .take_while(move |value| *value < self.high + self.step / 2.0)
    }
}

fn extent<'a>(lines: impl IntoIterator<Item = &'a [f64]>) -> (f64, f64) {
    let values = lines.into_iter().flatten();
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Options;

    fn plotted(rows: &[&str], range: Range, scale: Scale) -> Plotted {
        let rows = rows.iter().map(|row| (*row).to_owned()).collect();
        Plotted { rows, options: Options { range, scale } }
    }

    fn check(lines: &[&[f64]], low: f64, high: f64, step: f64) {
        assert_eq!(Axis::nice(lines.iter().copied()), Axis { low, high, step }, "{lines:?}");
    }

    #[test]
    fn axes_have_round_numbers() {
        check(&[&[120.0, 4_890.0]], 0.0, 5_000.0, 1_000.0);
        check(&[&[950.0, 980.0], &[1_030.0]], 940.0, 1_040.0, 20.0);
        check(&[&[-3.0, 7.0]], -4.0, 8.0, 2.0);
        check(&[&[5.0, 5.0]], 5.0, 6.0, 0.2);
        check(&[&[0.0, 1_000.0]], 0.0, 1_000.0, 200.0);
        let marks: Vec<_> = Axis { low: 0.0, high: 5_000.0, step: 1_000.0 }.marks().collect();
        assert_eq!(marks, [0.0, 1_000.0, 2_000.0, 3_000.0, 4_000.0, 5_000.0]);
    }

    #[test]
    fn every_row_is_a_line_inside_the_frame() {
        for range in [Range::Month, Range::Quarter, Range::Year] {
            for scale in [Scale::Values, Scale::Index] {
                let rows = ["wind-land", "solar", "industry"];
                let plot = draw(&plotted(&rows, range, scale)).unwrap();
                assert_eq!(plot.legend, ["Wind on land", "Solar", "Industry"]);
                let lines: Vec<_> = plot.svg.split("<polyline ").skip(1).collect();
                assert_eq!(lines.len(), 3);
                for (n, line) in lines.iter().enumerate() {
                    assert!(line.starts_with(&format!(r#"class="line line-{n}""#)), "{line}");
                    let points = line.split('"').nth(3).unwrap();
                    let points: Vec<(f64, f64)> = points
                        .split(' ')
                        .map(|point| point.split_once(',').unwrap())
                        .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
                        .collect();
                    assert_eq!(points.len(), range.days());
                    assert!(points.iter().all(|(x, y)| {
                        (LEFT..=WIDTH - RIGHT).contains(x) && (TOP..=HEIGHT - BOTTOM).contains(y)
                    }));
                    assert!(points.is_sorted_by(|a, b| a.0 < b.0));
                }
            }
        }
    }

    #[test]
    fn a_higher_value_is_drawn_higher() {
        let axis = Axis { low: 0.0, high: 10.0, step: 2.0 };
        assert_eq!(
            points(&[0.0, 10.0, 5.0], |x| x * 2.0, |v| axis.share(v)),
            "0.0,1.0 1.0,0.0 2.0,0.5"
        );
    }

    #[test]
    fn an_index_starts_at_a_hundred() {
        assert_eq!(scaled(&[40.0, 50.0, 20.0], Scale::Index), [100.0, 125.0, 50.0]);
        assert_eq!(scaled(&[40.0, 50.0], Scale::Values), [40.0, 50.0]);
    }

    #[test]
    fn days_are_marked_as_densely_as_there_is_room() {
        let texts = |days| dates(days).map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(30), ["8 Dec", "15 Dec", "22 Dec", "29 Dec"]);
        assert_eq!(texts(90), ["15 Oct", "1 Nov", "15 Nov", "1 Dec", "15 Dec"]);
        let year = texts(series::DAYS);
        assert_eq!((year.len(), year[0].as_str(), year[11].as_str()), (12, "Jan", "Dec"));
    }

    #[test]
    fn names_are_escaped_and_rows_that_are_gone_are_left_out() {
        let plot = draw(&plotted(&["gone", "small"], Range::Month, Scale::Values)).unwrap();
        assert_eq!(plot.legend, ["Plants < 10 MW"]);
        assert!(plot.svg.contains("Plants &lt; 10 MW"), "{}", plot.svg);
        assert!(draw(&plotted(&["gone"], Range::Month, Scale::Values)).is_none());
    }
}
