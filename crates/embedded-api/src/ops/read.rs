//! Reading: one object, or a list in pages.
//!
//! The store keeps no old states: later pages show the present, but carry the first page's revision, so a watch from there
//! repeats whatever changed in between and the client ends up with the truth.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    api::{Api, Target, empty_list},
    object,
    selector::{FieldSelector, LabelSelector},
    status::ApiError,
    store::ObjectKey,
};

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Labels.
    pub labels: LabelSelector,
    /// Fields.
    pub fields: FieldSelector,
    /// Page size; 0 for all.
    pub limit: usize,
    /// Where the page before ended.
    pub page: Option<Page>,
    /// `resourceVersion`, empty where absent.
    pub version: String,
    /// `resourceVersionMatch`, empty where absent.
    pub version_match: String,
}

/// Where a page ended: the first page's revision, and the last key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    revision: u64,
    after: ObjectKey,
}

impl Page {
    /// From a continue token.
    pub fn parse(token: &str) -> Result<Self, ApiError> {
        let refuse = || ApiError::bad_request("continue key is not valid");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| refuse())?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| refuse())?;
        let revision = value["rv"].as_u64().ok_or_else(refuse)?;
        Ok(Self { revision, after: ObjectKey::new(object::text(&value, "/ns"), object::text(&value, "/name")) })
    }

    fn token(&self) -> String {
        let value = json!({ "rv": self.revision, "ns": self.after.namespace, "name": self.after.name });
        URL_SAFE_NO_PAD.encode(value.to_string())
    }
}

/// One object as the client sees it.
pub fn get(api: &Api, target: &Target) -> Result<Value, ApiError> {
    Ok(target.shown(&*crate::ops::replace::current(api, target)?))
}

/// A list as the client sees it.
pub fn list(api: &Api, target: &Target, query: &ListQuery) -> Result<Value, ApiError> {
    let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
    let snapshot = api.store.list(&target.resource.stored_as, namespace);
    check_version(query, snapshot.revision)?;
    let revision = match &query.page {
        Some(page) => {
            // The past since the first page must still be there for a watch to repeat.
            api.store.since(&target.resource.stored_as, page.revision).map_err(|_| {
                ApiError::expired("The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.")
            })?;
            page.revision
        }
        None => snapshot.revision,
    };
    let mut list = empty_list(target, revision);
    let chosen = snapshot.objects.iter().filter(|object| query.labels.matches(object) && query.fields.matches(object));
    let after = |object: &Value| query.page.as_ref().is_none_or(|page| ObjectKey::of(object) > page.after);
    let mut rest: Vec<_> = chosen.filter(|object| after(object)).collect();
    if query.limit > 0 && rest.len() > query.limit {
        let remaining = rest.len() - query.limit;
        rest.truncate(query.limit);
        if let Some(last) = rest.last() {
            let page = Page { revision, after: ObjectKey::of(last) };
            list["metadata"]["continue"] = page.token().into();
            if query.labels.is_empty() && query.fields.is_empty() {
                list["metadata"]["remainingItemCount"] = remaining.into();
            }
        }
    }
    list["items"] = rest.into_iter().map(|object| target.shown(object)).collect();
    Ok(list)
}

fn check_version(query: &ListQuery, current: u64) -> Result<(), ApiError> {
    if query.version.is_empty() {
        return Ok(());
    }
    let asked = parse_version(&query.version)?;
    if asked > current {
        return Err(ApiError::version_too_large(asked, current));
    }
    if query.version_match == "Exact" && asked != current && query.page.is_none() {
        return Err(ApiError::expired(format!(
            "The resourceVersion for the provided list is too old: {asked} ({current})"
        )));
    }
    Ok(())
}

/// A resource version of ours.
pub fn parse_version(text: &str) -> Result<u64, ApiError> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
        ))
    })
}
