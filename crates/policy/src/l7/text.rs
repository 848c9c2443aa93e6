//! Lists of texts that know more than [`Strings`]: namespaces with a `*` anywhere, paths with templates, header values.
//!
//! In: the values of a field, in the notation of AuthorizationPolicy. Out: lists that answer `hits`.

use std::sync::Arc;

use super::template::Template;
use crate::{
    compile::{List, Strings},
    model::StringMatch,
};

/// Namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Namespaces {
    pub(super) plain: Strings,
    /// Texts with a `*` that is not at one end only, cut at their stars.
    globs: Vec<Glob>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob(Vec<Arc<str>>);

impl Glob {
    /// Whether the pieces stand in `text` in order, the first at its beginning and the last at its end.
    fn hits(&self, text: &str) -> bool {
        let [first, middle @ .., last] = &self.0[..] else { return false };
        let Some(mut left) = text.strip_prefix(&**first) else { return false };
        for piece in middle {
            match left.find(&**piece) {
                Some(at) => left = &left[at + piece.len()..],
                None => return false,
            }
        }
        left.ends_with(&**last)
    }
}

impl Namespaces {
    pub(super) fn hits(&self, namespace: &str) -> bool {
        self.plain.hits(namespace) || self.globs.iter().any(|glob| glob.hits(namespace))
    }

    pub(super) fn is_plain(&self) -> bool {
        self.globs.is_empty()
    }
}

impl List for Namespaces {
    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.globs.is_empty()
    }
}

impl<'t> FromIterator<&'t str> for Namespaces {
    fn from_iter<I: IntoIterator<Item = &'t str>>(texts: I) -> Self {
        let (mut plain, mut globs) = (Vec::new(), Vec::new());
        for text in texts {
            let stars = text.matches('*').count();
            match stars == 0 || (stars == 1 && (text.starts_with('*') || text.ends_with('*'))) {
                true => plain.push(StringMatch::from_notation(text)),
                false => globs.push(Glob(text.split('*').map(Into::into).collect())),
            }
        }
        Self { plain: plain.into_iter().collect(), globs }
    }
}

/// Paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Paths {
    pub(super) plain: Strings,
    pub(super) templates: Vec<Template>,
}

impl Paths {
    pub(super) fn hits(&self, path: &str) -> bool {
        self.plain.hits(path) || self.templates.iter().any(|template| template.hits(path))
    }
}

impl List for Paths {
    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.templates.is_empty()
    }
}

/// Values of a header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Values {
    pub(super) plain: Strings,
    /// `*`: the header is there, whatever it says; of other attributes it says something.
    any: bool,
}

impl Values {
    pub(super) fn hits(&self, value: &str) -> bool {
        self.any || self.plain.hits(value)
    }

    pub(super) fn is_any(&self) -> bool {
        self.any
    }
}

impl List for Values {
    fn is_empty(&self) -> bool {
        !self.any && self.plain.is_empty()
    }
}

impl<'t> FromIterator<&'t str> for Values {
    fn from_iter<I: IntoIterator<Item = &'t str>>(texts: I) -> Self {
        let all: Vec<StringMatch> = texts.into_iter().map(StringMatch::from_notation).collect();
        Self { any: all.contains(&StringMatch::Presence), plain: all.into_iter().collect() }
    }
}
