//! Edits of headers, and of the host, which authors write as one.

use http::HeaderValue;
use lateen_wire::proxy as wire;

use super::{
    error::{DecodeError, bad_text, each},
    matches::header_name,
};
use crate::filter::{
    format::Format,
    headers::{Edit, HeaderEdits, Value},
};

/// The edits of one message.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// `None`: there are none.
    pub(super) headers: Option<Box<HeaderEdits>>,
    /// What they set the host to.
    pub(super) authority: Option<HeaderValue>,
}

/// Edits; of pseudo-headers only the host can be edited, the others are left out as the reference leaves them out.
pub(super) fn edits(from: Option<wire::HeaderEdits>) -> Result<Edits, DecodeError> {
    let Some(from) = from else { return Ok(Edits::default()) };
    let mut authority = None;
    let set = written("set", from.set, &mut authority)?;
    let add = written("add", from.add, &mut authority)?;
    let named = from.remove.into_iter().filter(|name| !is_of_the_request_line(name)).collect();
    let remove = each("remove", named, |name| header_name("", &name))?;
    let all = HeaderEdits { remove: remove.into(), set: set.into(), add: add.into() };
    Ok(Edits { headers: (!all.is_empty()).then(|| Box::new(all)), authority })
}

fn written(
    field: &str,
    from: Vec<wire::Header>,
    authority: &mut Option<HeaderValue>,
) -> Result<Vec<Edit>, DecodeError> {
    let mut edits = Vec::with_capacity(from.len());
    for edit in each(field, from, |header| edit(header, authority))? {
        edits.extend(edit);
    }
    Ok(edits)
}

fn edit(from: wire::Header, authority: &mut Option<HeaderValue>) -> Result<Option<Edit>, DecodeError> {
    if is_of_the_request_line(&from.name) {
        if !from.name.starts_with(':') || from.name.eq_ignore_ascii_case(":authority") {
            // The first one counts: `set` comes before `add`.
            authority.get_or_insert(header_value("value", &from.value)?);
        }
        return Ok(None);
    }
    let name = header_name("name", &from.name)?;
    let value = match from.literal {
        true => Value::Fixed(header_value("value", &from.value)?),
        false => made("value", &from.value)?,
    };
    Ok(Some(Edit { name, value }))
}

fn is_of_the_request_line(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

/// A value that may hold operators.
fn made(field: &str, text: &str) -> Result<Value, DecodeError> {
    let format = Format::compile(text).map_err(|error| DecodeError::new(field, error))?;
    match format.literal() {
        Some(literal) => header_value(field, literal).map(Value::Fixed),
        None => Ok(Value::Made(format)),
    }
}

/// The value of a header.
pub(super) fn header_value(field: &str, text: &str) -> Result<HeaderValue, DecodeError> {
    HeaderValue::from_str(text).map_err(|_| bad_text(field, text, "the value of a header"))
}
