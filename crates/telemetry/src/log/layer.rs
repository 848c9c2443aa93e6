//! The tracing layer: keeps what spans carry and turns each event into a line.
//!
//! In: spans and events. Out: lines to the writer.

use std::{fmt, io::Write as _};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, fmt::MakeWriter, layer::Context, registry::LookupSpan};

use super::format::{Fields, Format, Line, Span, Value};

/// Writes lines to `W`.
pub(super) struct Lines<W> {
    format: Format,
    writer: W,
}

impl<W> Lines<W> {
    pub(super) fn new(format: Format, writer: W) -> Self {
        Self { format, writer }
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Gather::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields.fields);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut late = Gather::default();
        values.record(&mut late);
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            fields.0.extend(late.fields.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut gathered = Gather::default();
        event.record(&mut gathered);
        let spans = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()).map(|span| Span {
            name: span.name(),
            fields: span.extensions().get::<Fields>().cloned().unwrap_or_default(),
        });
        let line = Line {
            time: now(),
            level: level_word(*event.metadata().level()),
            target: event.metadata().target(),
            spans: spans.collect(),
            message: gathered.message,
            fields: gathered.fields,
        };
        let text = match self.format {
            Format::Plain => line.plain(),
            Format::Json => line.json(),
        };
        // If the log itself cannot be written there is no place left to say so.
        let _unreportable = self.writer.make_writer().write_all(text.as_bytes());
    }
}

fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Collects fields, the message apart.
#[derive(Default)]
struct Gather {
    message: String,
    fields: Fields,
}

impl Gather {
    fn put(&mut self, field: &Field, value: Value) {
        self.fields.0.push((field.name(), value));
    }
}

impl Visit for Gather {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.put(field, Value::Shown(format!("{value:?}")));
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.put(field, Value::Text(value.to_owned()));
        }
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Json(value.into()));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Json(value.into()));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Json(value.into()));
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::Json(value.into()));
    }
}
