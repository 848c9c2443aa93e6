//! Path templates: `/v/{*}` and `/store/{**}/cart`.
//!
//! In: the text of a policy's path. Out: whether a path is meant. `{*}` is one segment that is not empty, `{**}` is
//! anything at all; each stands alone between slashes, and nothing but plain segments may follow `{**}`.

use std::sync::Arc;

/// A path with operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    /// What every path meant begins with.
    beginning: Arc<str>,
    /// What follows, in order.
    parts: Vec<Part>,
    /// What the path must end with after `{**}`; `None` where there is no `{**}` and nothing may be left over.
    rest: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// This text.
    Text(Arc<str>),
    /// One segment.
    Segment,
}

impl Template {
    /// Whether a policy's path is a template at all.
    pub(super) fn is_one(text: &str) -> bool {
        text.contains("{*}") || text.contains("{**}")
    }

    /// Reads a template, or says what is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, &'static str> {
        if !text.starts_with('/') {
            return Err("a path template begins with /");
        }
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), None);
        for segment in text[1..].split('/') {
            plain.push('/');
            match segment {
                "{*}" | "{**}" if rest.is_some() => return Err("nothing but plain segments may follow {**}"),
                "{*}" => parts.extend([Part::Text(std::mem::take(&mut plain).into()), Part::Segment]),
                "{**}" => {
                    parts.push(Part::Text(std::mem::take(&mut plain).into()));
                    rest = Some(());
                }
                _ if segment.contains(['{', '}', '*']) => {
                    return Err(
                        "{*} and {**} stand alone between slashes, and no other *, { or } may be in a template",
                    );
                }
                _ => plain.push_str(segment),
            }
        }
        if rest.is_none() && !plain.is_empty() {
            parts.push(Part::Text(plain.as_str().into()));
        }
        let mut parts = parts.into_iter();
        let Some(Part::Text(beginning)) = parts.next() else { return Err("a path template begins with /") };
        Ok(Self { beginning, parts: parts.collect(), rest: rest.map(|()| plain.into()) })
    }

    /// What every path meant begins with.
    pub(super) fn beginning(&self) -> &Arc<str> {
        &self.beginning
    }

    /// Whether `path` is meant.
    pub(super) fn hits(&self, path: &str) -> bool {
        let Some(mut left) = path.strip_prefix(&*self.beginning) else { return false };
        for part in &self.parts {
            let taken = match part {
                Part::Text(text) => left.strip_prefix(&**text),
                Part::Segment => {
                    let end = left.find('/').unwrap_or(left.len());
                    (end > 0).then(|| &left[end..])
                }
            };
            match taken {
                Some(after) => left = after,
                None => return false,
            }
        }
        match &self.rest {
            None => left.is_empty(),
            Some(end) => left.ends_with(&**end),
        }
    }
}
