//! The time series of the table: a year of made-up electricity, one value a day, and the live frequency.

use std::{f64::consts::TAU, sync::LazyLock};

/// The year that is shown, 2025, has no 29 February.
pub(crate) const DAYS: usize = 365;

const MONTHS: [(&str, usize); 12] = [
    ("Jan", 31),
    ("Feb", 28),
    ("Mar", 31),
    ("Apr", 30),
    ("May", 31),
    ("Jun", 30),
    ("Jul", 31),
    ("Aug", 31),
    ("Sep", 30),
    ("Oct", 31),
    ("Nov", 30),
    ("Dec", 31),
];

/// How each series comes about.
#[rustfmt::skip]
const RECIPES: [Recipe; 12] = [
    Recipe { id: "wind-land", name: "Wind on land",            level: 11_800.0, season:  4_200.0, peak:  15.0, weekend:   0.0, noise: 2_600.0 },
    Recipe { id: "wind-sea",  name: "Wind at sea",             level:  3_300.0, season:  1_100.0, peak:   5.0, weekend:   0.0, noise:   700.0 },
    Recipe { id: "solar",     name: "Solar",                   level:  6_900.0, season:  5_400.0, peak: 172.0, weekend:   0.0, noise:   650.0 },
    Recipe { id: "hydro",     name: "Rivers & dams",           level:  2_100.0, season:    450.0, peak: 140.0, weekend:   0.0, noise:    60.0 },
    Recipe { id: "biomass",   name: "Biomass",                 level:  4_400.0, season:    240.0, peak:  20.0, weekend:  60.0, noise:    45.0 },
    Recipe { id: "gas",       name: "Gas (heat & power)",      level:  7_600.0, season:  3_100.0, peak:  12.0, weekend: 900.0, noise:   520.0 },
    Recipe { id: "small",     name: "Plants < 10 MW",     level:  1_500.0, season:    300.0, peak:  40.0, weekend:  80.0, noise:    70.0 },
    Recipe { id: "homes",     name: "Homes",                   level: 14_300.0, season:  3_300.0, peak:  10.0, weekend: -700.0, noise:   330.0 },
    Recipe { id: "industry",  name: "Industry",                level: 22_500.0, season:    700.0, peak: 300.0, weekend: 4_600.0, noise:   410.0 },
    Recipe { id: "rail",      name: "Trains & trams",          level:  1_350.0, season:     90.0, peak: 350.0, weekend: 210.0, noise:    25.0 },
    Recipe { id: "imports",   name: "Imports",                 level:  5_200.0, season:  1_500.0, peak: 200.0, weekend: 500.0, noise:   780.0 },
    Recipe { id: "exports",   name: "Exports",                 level:  6_000.0, season:  1_900.0, peak:  25.0, weekend: -350.0, noise:   890.0 },
];

struct Recipe {
    id: &'static str,
    name: &'static str,
    /// Mean of the year; this and what follows in megawatts.
    level: f64,
    /// How much more it is at the peak of the year.
    season: f64,
    /// Which day that is.
    peak: f64,
    /// How much less it is on Saturdays and Sundays.
    weekend: f64,
    /// How much more or less it is at random.
    noise: f64,
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Series {
    id: &'static str,
    name: &'static str,
    /// In megawatts, one for each of [`DAYS`]; all above zero.
    values: Vec<f64>,
}

impl Series {
    fn cook(recipe: &Recipe) -> Self {
        let mut random = Random::seeded(recipe.id);
        // Weather lasts: each day's deviation keeps a part of the last one's.
        let mut weather = 0.0;
        let mut time = 0.0;
        let values = (0..DAYS)
            .map(|day| {
                weather = 0.72 * weather + 0.7 * (2.0 * random.unit() - 1.0);
                let season = recipe.season * (TAU * (time - recipe.peak) / 365.0).cos();
                let weekend = if is_weekend(day) { recipe.weekend } else { 0.0 };
                time += 1.0;
                let value = recipe.level + season - weekend + recipe.noise * weather;
                // An index needs a first value to divide by, and no plant generates less than nothing.
                value.max(recipe.level * 0.04).round()
            })
            .collect();
        Self { id: recipe.id, name: recipe.name, values }
    }

    pub(crate) fn id(&self) -> &'static str {
        self.id
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the values of the last `days` days of the year, the newest last.
    pub(crate) fn last(&self, days: usize) -> &[f64] {
        &self.values[DAYS.saturating_sub(days)..]
    }
}

/// Returns all series, in the table's order.
pub(crate) fn all() -> &'static [Series] {
    static ALL: LazyLock<Vec<Series>> =
        LazyLock::new(|| RECIPES.iter().map(Series::cook).collect());
    &ALL
}

/// Returns the series with this id, if there is one.
pub(crate) fn find(id: &str) -> Option<&'static Series> {
    all().iter().find(|series| series.id == id)
}

/// Returns the day of the month (from 1) and the month's name of a day of the year (from 0).
pub(crate) fn date(day: usize) -> (usize, &'static str) {
    let mut left = day % DAYS;
    for (name, days) in MONTHS {
        if left < days {
            return (left + 1, name);
        }
        left -= days;
    }
    unreachable!("the months have as many days as the year")
}

/// Returns the live value with this number: the grid's frequency in hertz.
pub(crate) fn frequency(number: u64) -> f64 {
    let noise = Random::new(number).unit() - 0.5;
    // The remainder keeps the angle small; it is a common multiple of both periods.
    let time = f64::from(u32::try_from(number % 1_386).unwrap_or_default());
    50.0 + 0.022 * (TAU * time / 63.0).sin() + 0.011 * (TAU * time / 22.0).sin() + 0.012 * noise
}

/// 1 January 2025 was a Wednesday.
fn is_weekend(day: usize) -> bool {
    matches!(day % 7, 3 | 4)
}

/// SplitMix64: all visitors see the same year, without a dependency that could change it.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn seeded(name: &str) -> Self {
        Self(
            name.bytes()
                .fold(2_025_u64, |seed, byte| seed.wrapping_mul(131).wrapping_add(u64::from(byte))),
        )
    }

    /// From 0 up to 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let upper = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or_default();
        f64::from(upper) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_a_year_of_its_own() {
        for (at, series) in all().iter().enumerate() {
            assert_eq!(series.values.len(), DAYS);
            assert!(series.values.iter().all(|v| v.is_finite() && *v > 0.0), "{}", series.name);
            let twins = all().iter().skip(at + 1).filter(|other| {
                other.id == series.id || other.name == series.name || other.values == series.values
            });
            assert_eq!(twins.count(), 0, "{}", series.name);
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_year() {
        let again = Series::cook(&RECIPES[2]);
        assert_eq!(again.values, find("solar").unwrap().values);
        // The first values of the published algorithm for seed 0, upper halves.
        let mut random = Random::new(0);
        let upper = [0xe220_a839_u32, 0x6e78_9e6a];
        for expected in upper {
            let got = random.unit() * (f64::from(u32::MAX) + 1.0);
            assert!((got - f64::from(expected)).abs() < 0.5, "{got}");
        }
    }

    #[test]
    fn solar_is_a_summer_thing_and_industry_rests_on_sunday() {
        let mean = |values: &[f64]| {
            values.iter().sum::<f64>() / f64::from(u32::try_from(values.len()).unwrap())
        };
        let solar = &find("solar").unwrap().values;
        assert!(mean(&solar[150..210]) > 3.0 * mean(&solar[..60]));
        let industry = &find("industry").unwrap().values;
        let (weekend, week): (Vec<_>, Vec<_>) = (0..DAYS).partition(|day| is_weekend(*day));
        let of = |days: &[usize]| mean(&days.iter().map(|day| industry[*day]).collect::<Vec<_>>());
        assert!(of(&week) > of(&weekend) + 4_000.0);
    }

    #[test]
    fn the_last_days_end_with_the_year() {
        let solar = find("solar").unwrap();
        assert_eq!(solar.last(30), &solar.values[335..]);
        assert_eq!(solar.last(DAYS), solar.values);
    }

    #[test]
    fn days_have_dates() {
        assert_eq!([date(0), date(30), date(31)], [(1, "Jan"), (31, "Jan"), (1, "Feb")]);
        assert_eq!([date(59), date(364), date(365)], [(1, "Mar"), (31, "Dec"), (1, "Jan")]);
        assert_eq!(MONTHS.iter().map(|(_, days)| days).sum::<usize>(), DAYS);
    }

    #[test]
    fn the_frequency_stays_near_fifty_hertz_and_never_stands_still() {
        for number in (0..3_000).chain([u64::MAX - 1]) {
            assert!((frequency(number) - 50.0).abs() < 0.05, "{number}");
            assert!(frequency(number).to_bits() != frequency(number.wrapping_add(1)).to_bits());
        }
    }
}
