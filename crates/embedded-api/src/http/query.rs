//! The query part of a URL.
//!
//! In: `a=b&c=d`, percent-encoded. Out: its pairs, and the lists and modes they mean.

use serde_json::Value;

use crate::{
    api::Target,
    ops::{
        Part, Unknown, WriteMode,
        delete::DeleteMode,
        read::{ListQuery, Page},
        watch::WatchQuery,
    },
    selector::{FieldSelector, LabelSelector, selectable_fields},
    status::{About, ApiError, FieldError},
};

/// Longest name of a field manager, the reference's number.
const MANAGER_MAX: usize = 128;

/// The pairs in order.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Parses; what cannot be decoded is refused.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let decode = |part: &str| decoded(part).ok_or_else(|| ApiError::bad_request(format!("invalid query: {text}")));
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key)?, decode(value)?))
        });
        Ok(Self { pairs: pairs.collect::<Result<_, ApiError>>()? })
    }

    /// The first value of a key; empty where there is none.
    pub fn text(&self, key: &str) -> &str {
        self.pairs.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    /// Whether a flag is set.
    pub fn flag(&self, key: &str) -> bool {
        self.option(key).unwrap_or(false)
    }

    /// A flag that may be absent.
    pub fn option(&self, key: &str) -> Option<bool> {
        let (_, value) = self.pairs.iter().find(|(name, _)| name == key)?;
        Some(matches!(value.as_str(), "true" | "1" | "" | "True" | "t"))
    }

    /// A number, where there is one.
    pub fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        match self.text(key) {
            "" => Ok(None),
            text => {
                text.parse().map(Some).map_err(|_| ApiError::bad_request(format!("invalid value for {key}: {text:?}")))
            }
        }
    }

    fn selectors(&self, target: &Target) -> Result<(LabelSelector, FieldSelector), ApiError> {
        let mut fields = self.text("fieldSelector").to_owned();
        if !target.name.is_empty() {
            fields = format!("{fields},metadata.name={}", target.name);
        }
        let allowed = selectable_fields(if target.resource.schemaless() { &target.resource.plural } else { "" });
        Ok((LabelSelector::parse(self.text("labelSelector"))?, FieldSelector::parse(&fields, allowed)?))
    }

    /// What to list.
    pub fn list(&self, target: &Target) -> Result<ListQuery, ApiError> {
        let (labels, fields) = self.selectors(target)?;
        let page = match self.text("continue") {
            "" => None,
            token => Some(Page::parse(token)?),
        };
        Ok(ListQuery {
            labels,
            fields,
            limit: self.number("limit")?.unwrap_or(0) as usize,
            page,
            version: self.text("resourceVersion").to_owned(),
            version_match: self.text("resourceVersionMatch").to_owned(),
        })
    }

    /// What to watch.
    pub fn watch(&self, target: &Target) -> Result<WatchQuery, ApiError> {
        let (labels, fields) = self.selectors(target)?;
        let send_initial = self.option("sendInitialEvents");
        let list_options = |error: FieldError| {
            ApiError::invalid(About { group: "meta.k8s.io", resource: "ListOptions", name: "" }, &[error])
        };
        if send_initial.is_some() && self.text("resourceVersionMatch") != "NotOlderThan" {
            let why = "resourceVersionMatch=NotOlderThan is required when sendInitialEvents is set";
            return Err(list_options(FieldError::forbidden("resourceVersionMatch", why)));
        }
        if send_initial.is_none() && !self.text("resourceVersionMatch").is_empty() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            return Err(list_options(FieldError::forbidden("resourceVersionMatch", why)));
        }
        Ok(WatchQuery {
            labels,
            fields,
            version: self.text("resourceVersion").to_owned(),
            bookmarks: self.flag("allowWatchBookmarks"),
            send_initial,
        })
    }

    /// How a write is meant; `agent` names the client where it names no manager.
    pub fn write(&self, agent: &str, part: Part) -> Result<WriteMode, ApiError> {
        let manager = match self.text("fieldManager") {
            "" => agent.split('/').next().unwrap_or("").chars().take(MANAGER_MAX).collect(),
            manager if manager.chars().count() > MANAGER_MAX => {
                return Err(ApiError::bad_request(format!(
                    "fieldManager: Too long: may not be more than {MANAGER_MAX} bytes"
                )));
            }
            manager => manager.to_owned(),
        };
        let unknown = match self.text("fieldValidation") {
            "Strict" => Unknown::Strict,
            "Ignore" => Unknown::Ignore,
            "" | "Warn" => Unknown::Warn,
            other => {
                return Err(ApiError::bad_request(format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                )));
            }
        };
        Ok(WriteMode { dry_run: self.dry_run()?, manager, unknown, part, ..WriteMode::default() })
    }

    fn dry_run(&self) -> Result<bool, ApiError> {
        match self.text("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => {
                Err(ApiError::bad_request(format!("dryRun: Unsupported value: {other:?}: supported values: \"All\"")))
            }
        }
    }

    /// How a deletion is meant: the body, with what the query says over it.
    pub fn delete(&self, body: &Value) -> Result<DeleteMode, ApiError> {
        let mut options = body.clone();
        if !self.text("propagationPolicy").is_empty() {
            crate::object::set(&mut options, &["propagationPolicy"], self.text("propagationPolicy"));
        }
        if let Some(grace) = self.number("gracePeriodSeconds")? {
            crate::object::set(&mut options, &["gracePeriodSeconds"], grace);
        }
        let mut mode = DeleteMode::parse(&options)?;
        mode.dry_run |= self.dry_run()?;
        Ok(mode)
    }
}

/// Percent-decoded text, with `+` for a space.
fn decoded(text: &str) -> Option<String> {
    percent_decoded(&text.replace('+', " "))
}

/// Percent-decoded text.
pub fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let hex = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_and_garbage_is_refused() {
        let query = Query::parse("labelSelector=a%3Db%2Cc+in+%28d%29&watch=true&x&n=5").expect("well-formed");
        assert_eq!(query.text("labelSelector"), "a=b,c in (d)");
        assert!(query.flag("watch") && !query.flag("y"));
        assert_eq!(query.number("n"), Ok(Some(5)));
        for bad in ["a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert_eq!(Query::parse(bad).expect_err(bad).code, 400);
        }
    }
}
