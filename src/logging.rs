//! Where log lines go: to standard error, for people or for collectors.

use std::io::{self, IsTerminal};
use std::panic;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

/// Starts logging for the whole process. A second call changes nothing.
pub fn start(log: &Log) {
    let started = tracing::subscriber::set_global_default(subscriber(log, io::stderr().is_terminal(), io::stderr)).is_ok();
    if started && log.format == LogFormat::Json {
        // A collector takes every line for an object.
        panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            let (words, place) = (panic.payload_as_str().unwrap_or_default(), panic.location().map(ToString::to_string));
            tracing::error!(thread, place, "panicked: {words}");
        }));
    }
}

/// What writes the lines. One in JSON has `timestamp`, `level`, `target`, `fields` with the `message`, and `span` and `spans` if it was said within some.
fn subscriber<W>(log: &Log, ansi: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Checked with the configuration, so the fallback is for callers who made theirs by hand.
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_default();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match log.format {
        LogFormat::Text => Box::new(lines.with_ansi(ansi).finish()),
        LogFormat::Json => Box::new(lines.json().with_ansi(false).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value as Json, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, say: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = Log { format, filter: "info".to_owned() };
        tracing::subscriber::with_default(subscriber(&log, false, move || writer.clone()), say);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_in_json_is_one_object_with_its_fields_and_its_spans() {
        let text = logged(LogFormat::Json, || {
            let session = tracing::info_span!("session", device = "e00fce68", shard = 3);
            session.in_scope(|| tracing::warn!(reason = "a \"quote\"\nand a line", bytes = 7, "something is odd"));
            tracing::debug!("not asked for");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Json = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["target"]), (&json!("WARN"), &json!("holdfast::logging::tests")));
        assert_eq!(line["fields"], json!({ "message": "something is odd", "reason": "a \"quote\"\nand a line", "bytes": 7 }));
        assert_eq!(line["span"], json!({ "name": "session", "device": "e00fce68", "shard": 3 }));
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{text}");
    }

    #[test]
    fn a_line_of_text_is_for_people() {
        let text = logged(LogFormat::Text, || tracing::info!(http = "127.0.0.1:1", "serving"));
        assert!(text.contains(" INFO holdfast::logging::tests: serving http=\"127.0.0.1:1\"\n"), "{text}");
    }
}
