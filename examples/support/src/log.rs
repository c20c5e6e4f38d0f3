use session_resume::console::Console;
use tracing_subscriber::EnvFilter;

/// Logs to standard error: warnings, and what `RUST_LOG` asks for.
///
/// `RUST_LOG=session_resume=debug` shows each client that comes, goes and catches up.
pub fn log_to_stderr() {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .event_format(Console)
        .init();
}
