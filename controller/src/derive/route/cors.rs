//! What pages of other origins may do.

use lateen_cluster::api::Cors;
use lateen_wire::proxy::{self as wire, string_match::Kind};

use super::matching;
use crate::derive::destination::on_wire;

pub(super) fn derive(written: &Cors) -> wire::Cors {
    let older = written.allow_origin.iter();
    let older = older.map(|origin| wire::StringMatch { kind: Some(Kind::Exact(origin.clone())), ignore_case: false });
    let origins: Vec<wire::StringMatch> = written.allow_origins.iter().map(matching::text).chain(older).collect();
    let is_any = |one: &wire::StringMatch| match &one.kind {
        Some(Kind::Exact(text)) => text == "*",
        Some(Kind::Regex(_) | Kind::Prefix(_) | Kind::Suffix(_) | Kind::Present(_)) | None => false,
    };
    wire::Cors {
        any_origin: origins.iter().any(is_any),
        allow_origins: origins.into_iter().filter(|one| !is_any(one)).collect(),
        allow_methods: written.allow_methods.clone(),
        allow_headers: written.allow_headers.clone(),
        expose_headers: written.expose_headers.clone(),
        max_age: written.max_age.map(|length| on_wire(length.0)),
        allow_credentials: written.allow_credentials.unwrap_or_default(),
        answer_unmatched_preflights: written.unmatched_preflights.as_deref() == Some("IGNORE"),
    }
}
