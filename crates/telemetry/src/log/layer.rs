//! The tracing layer: keeps what spans carry and takes each event with everything a line shows.
//!
//! In: spans and events. Out: [`Line`]s, not yet text. Absent on purpose: formatting, which is the writer's.

use std::{error::Error, fmt};

use jiff::Timestamp;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::format::{Fields, Line, Span, Value};
use crate::access::{Carried, Entry};

/// Gives lines to `W`.
pub(super) struct Lines<W>(pub(super) W);

/// Takes lines.
pub(super) trait TakeLine {
    /// Takes one; may wait.
    fn take(&self, line: Line);
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    W: TakeLine + 'static,
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
        self.0.take(Line {
            time: Timestamp::now(),
            level: *event.metadata().level(),
            target: event.metadata().target(),
            spans: spans.collect(),
            message: gathered.message,
            fields: gathered.fields,
            entry: gathered.entry,
        });
    }
}

/// Collects fields, the message and the access record apart.
#[derive(Default)]
struct Gather {
    message: String,
    fields: Fields,
    entry: Option<Box<Entry>>,
}

impl Gather {
    fn put(&mut self, field: &Field, value: Value) {
        self.fields.0.push((field.name(), value));
    }
}

impl Visit for Gather {
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        match value.downcast_ref::<Carried>() {
            Some(carried) => self.entry = carried.take(),
            None => self.put(field, Value::Shown(value.to_string())),
        }
    }
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
