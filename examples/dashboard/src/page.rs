//! The page as it is before its script runs: banner, table, and selection are there already.

use std::fmt::Write as _;

use session_resume::Session;

use crate::{
    plot,
    series::{self, Series},
    state::Dashboard,
    text::{escape, number},
};

const PAGE: &str = include_str!("../page/index.html");

/// Fills the page in for a session.
pub(crate) fn html(session: &Session<Dashboard>) -> String {
    let selected = session.read(|dashboard| dashboard.selected.clone());
    PAGE.replace("{{identity}}", &escape(&session.identity().to_string()))
        .replace("{{session}}", &escape(&session.id().to_string()))
        .replace("{{origin}}", &escape(&session.origin().to_string()))
        .replace("{{rows}}", &rows(&selected))
}

fn rows(selected: &[String]) -> String {
    let mut rows = String::new();
    for series in series::all() {
        row(&mut rows, series, selected.iter().any(|id| id == series.id()));
    }
    rows
}

fn row(rows: &mut String, series: &Series, selected: bool) {
    let year = series.last(series::DAYS);
    let (newest, before) = (year[series::DAYS - 1], year[series::DAYS - 31]);
    let change = (newest / before - 1.0) * 100.0;
    let (id, name) = (escape(series.id()), escape(series.name()));
    let checked = if selected { " checked" } else { "" };
    let _ = write!(
        rows,
        r#"<tr><td><input type="checkbox" id="row-{id}" value="{id}"{checked}></td><th scope="row"><label for="row-{id}">{name}</label></th><td class="number">{}</td><td class="number">{}</td><td class="line">{}</td></tr>"#,
        number(newest),
        signed(change),
        plot::sparkline(&weekly(year), 120.0, 24.0),
    );
}

/// With a sign, and no minus before zero.
fn signed(percent: f64) -> String {
    let percent = number(percent);
    if percent == "0" || percent.starts_with('\u{2212}') {
        format!("{percent} %")
    } else {
        format!("+{percent} %")
    }
}

/// Means of seven days: a cell is too small for more.
fn weekly(values: &[f64]) -> Vec<f64> {
    values.chunks_exact(7).map(|week| week.iter().sum::<f64>() / 7.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_series_and_ticks_the_selected() {
        let rows = rows(&["solar".into(), "gas".into()]);
        assert_eq!(rows.matches("<tr>").count(), series::all().len());
        assert_eq!(rows.matches(" checked>").count(), 2);
        assert!(rows.contains(r#"value="solar" checked>"#));
        assert!(rows.contains("Plants &lt; 10 MW") && rows.contains("Rivers &amp; dams"));
    }

    #[test]
    fn changes_have_a_sign() {
        assert_eq!([12.3, -0.4, -7.6].map(signed), ["+12 %", "0 %", "\u{2212}8 %"]);
    }

    #[test]
    fn the_page_has_every_gap_once_and_no_inline_script_or_style() {
        for gap in ["{{identity}}", "{{session}}", "{{origin}}", "{{rows}}"] {
            assert_eq!(PAGE.matches(gap).count(), 1, "{gap}");
        }
        assert!(!PAGE.contains("<style") && !PAGE.contains("style="));
        assert_eq!(PAGE.matches("<script").count(), PAGE.matches("<script src=").count());
        assert!(!PAGE.contains("http"), "the page stands on its own");
    }

    #[test]
    fn every_line_has_a_colour() {
        let style = include_str!("../page/style.css");
        for n in 0..crate::state::MAX_LINES {
            assert_eq!(
                style.matches(&format!(".line-{n} {{ --line: var(--line-{n}); }}")).count(),
                1
            );
            assert_eq!(style.matches(&format!("--line-{n}: #")).count(), 2, "light and dark");
        }
    }
}
