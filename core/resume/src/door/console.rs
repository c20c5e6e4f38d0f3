//! Log lines for a person at a console: which clients come, what they are told, which clients go.
//!
//! ```
//! tracing_subscriber::fmt().event_format(session_resume::console::Console).init();
//! ```
//!
//! With the filter `session_resume=debug` that prints
//!
//! ```text
//! ⚡ ws+ 127.0.0.1 (1 active)
//! ✓ CONNECT identity=0x2f3d… session=aad5… status=resumed
//!   ↻ replaying 12 messages
//!   ↕ merged sessions (server newer)
//! ⚡ ws- (0 active)
//! ```
//!
//! The address is there if the server has put [`PeerAddr`](crate::words::peer_addr::PeerAddr) into the request's
//! extensions. All other events are one line each: level, spans, message, fields. Control characters are escaped
//! everywhere, so that a client that sends them cannot write to the console.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::{LookupSpan, Scope},
};

/// The format, for `tracing_subscriber::fmt().event_format(Console)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Console;

impl<S, N> FormatEvent<S, N> for Console
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut told = Told::default();
        event.record(&mut told);
        let ours = event.metadata().target().starts_with("session_resume");
        match &*told.message {
            "attached" if ours => attached(&mut writer, &told),
            "detached" if ours => {
                writeln!(writer, "⚡ ws- ({} active)", told.field("active"))
            }
            "merged" if ours => {
                let newer = if told.field("client_newer") == "true" { "client" } else { "server" };
                writeln!(writer, "  ↕ merged sessions ({newer} newer)")
            }
            _ => {
                write!(writer, "{} ", event.metadata().level())?;
                for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
                    let extensions = span.extensions();
                    let fields = extensions.get::<FormattedFields<N>>();
                    let fields = fields.map_or("", |fields| fields.as_str());
                    let fields = without_styles(fields);
                    write!(writer, "{}{{{}}} ", span.name(), Escaped(&fields))?;
                }
                writeln!(writer, "{}{}", told.message, told.fields)
            }
        }
    }
}

fn attached(writer: &mut Writer<'_>, told: &Told) -> fmt::Result {
    let peer = match told.field("peer") {
        "" => String::new(),
        peer => format!("{peer} "),
    };
    writeln!(writer, "⚡ ws+ {peer}({} active)", told.field("active"))?;
    let [identity, session] =
        ["identity", "session"].map(|name| told.field(name).chars().take(4).collect::<String>());
    let status = told.field("status");
    writeln!(writer, "✓ CONNECT identity=0x{identity}… session={session}… status={status}")?;
    match told.field("replaying") {
        "0" => {}
        "1" => writeln!(writer, "  ↻ replaying 1 message")?,
        replaying => writeln!(writer, "  ↻ replaying {replaying} messages")?,
    }
    if told.field("gap") == "true" {
        writeln!(writer, "  ✗ some messages are gone")?;
    }
    Ok(())
}

/// What an event says, escaped.
#[derive(Default)]
struct Told {
    message: String,
    /// Each with a space in front.
    fields: String,
}

impl Told {
    /// The value of a field of ours; they hold no spaces. Empty if it is not there.
    fn field(&self, name: &str) -> &str {
        let named =
            |field: &'_ str| field.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
        let field = self.fields.split(' ').find(|field| named(field));
        field.map_or("", |field| &field[name.len() + 1..])
    }
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{}", Escaped(&text)),
            name => write!(self.fields, " {name}={}", Escaped(&text)),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// Takes the styles out of a span's fields, which `tracing-subscriber` with its feature `ansi` puts there.
fn without_styles(fields: &str) -> Cow<'_, str> {
    const SEQUENCE: &str = "\u{1b}[";
    let mut parts = fields.split(SEQUENCE);
    let first = parts.next().unwrap_or_default();
    if first.len() == fields.len() {
        return Cow::Borrowed(fields);
    }
    let mut plain = first.to_owned();
    for part in parts {
        // A style is numbers and an `m`. Any other sequence was in a field's value, and stays to be escaped.
        let after = part.trim_start_matches(|char: char| char.is_ascii_digit() || char == ';');
        match after.strip_prefix('m') {
            Some(text) => plain.push_str(text),
            None => plain.extend([SEQUENCE, part]),
        }
    }
    Cow::Owned(plain)
}

/// A text without its control characters.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| {
            if char.is_control() {
                write!(f, "{}", char.escape_default())
            } else {
                f.write_char(char)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn printed(log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .event_format(Console)
            .with_writer(lines.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn who_comes_and_goes_is_a_line_each() {
        let lines = printed(|| {
            tracing::debug!(
                session = "aad5f00d",
                identity = "2f3d1234",
                status = "resumed",
                replaying = 12_u64,
                gap = true,
                peer = "127.0.0.1",
                active = 1_usize,
                "attached"
            );
            tracing::debug!(session = "aad5f00d", client_newer = false, "merged");
            tracing::debug!(session = "aad5f00d", active = 0_usize, "detached");
        });
        assert_eq!(
            lines,
            "⚡ ws+ 127.0.0.1 (1 active)\n\
             ✓ CONNECT identity=0x2f3d… session=aad5… status=resumed\n\
             \x20 ↻ replaying 12 messages\n\
             \x20 ✗ some messages are gone\n\
             \x20 ↕ merged sessions (server newer)\n\
             ⚡ ws- (0 active)\n"
        );
    }

    #[test]
    fn without_an_address_there_is_none() {
        let lines = printed(|| {
            tracing::debug!(
                session = "aad5",
                identity = "2f3d",
                status = "new",
                replaying = 0,
                active = 7,
                "attached"
            );
        });
        let expected = "⚡ ws+ (7 active)\n✓ CONNECT identity=0x2f3d… session=aad5… status=new\n";
        assert_eq!(lines, expected);
    }

    #[test]
    fn other_events_are_a_line_each_and_cannot_move_the_cursor() {
        let lines = printed(|| {
            let span = tracing::info_span!("session", id = %"aad5\u{1b}[2J");
            let _inside = span.enter();
            tracing::warn!(error = %"no\nstore\u{1b}[2J", tries = 3, "not \r saved");
            tracing::info!(target: "somebody", "attached");
        });
        assert_eq!(
            lines,
            "WARN session{id=aad5\\u{1b}[2J} not \\r saved error=no\\nstore\\u{1b}[2J tries=3\n\
             INFO session{id=aad5\\u{1b}[2J} attached\n"
        );
    }
}
