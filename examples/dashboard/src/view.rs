//! What the page is told: `{"view":…}`, `{"tick":…}` and `{"error":…}`.

use serde_json::json;
use session_resume::{Identity, LiveSession, Message, SessionId, SessionOrigin};

use crate::{plot, series, state::Dashboard};

/// The number of live values shown at one time.
const RECENT: u64 = 60;

/// Whose session it is, for the banner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    session: SessionId,
    identity: Identity,
    origin: SessionOrigin,
}

impl Who {
    pub(crate) fn of(session: &LiveSession<Dashboard>) -> Self {
        Self { session: session.id(), identity: session.identity(), origin: session.origin() }
    }
}

/// Everything that the page shows.
pub(crate) fn view(dashboard: &Dashboard, who: &Who) -> Message {
    let plot = dashboard
        .plotted
        .as_ref()
        .and_then(plot::draw)
        .map(|plot| json!({ "svg": plot.svg, "caption": plot.caption, "legend": plot.legend }));
    let recent = dashboard.ticks.saturating_sub(RECENT)..dashboard.ticks;
    let recent: Vec<f64> = recent.map(rounded).collect();
    text(&json!({ "view": {
        "session": who.session,
        "identity": who.identity,
        "origin": who.origin,
        "selected": dashboard.selected,
        "options": dashboard.options,
        "plot": plot,
        "live": { "next": dashboard.ticks, "recent": recent },
    }}))
}

/// One live value. `away`: no page was there to see it when it was sent.
pub(crate) fn tick(number: u64, away: bool) -> Message {
    text(&json!({ "tick": { "number": number, "value": rounded(number), "away": away } }))
}

/// What is wrong with a command; nothing has changed.
pub(crate) fn error(wrong: &str) -> Message {
    text(&json!({ "error": wrong }))
}

fn text(json: &serde_json::Value) -> Message {
    json.to_string().into()
}

fn rounded(number: u64) -> f64 {
    (series::frequency(number) * 1_000.0).round() / 1_000.0
}
