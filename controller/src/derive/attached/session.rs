//! How the clients of a rule stay with their endpoints.
//!
//! In: `sessionPersistence`, of the API's releases before and after 1.7. Out: what proxies do, or why the rule cannot be
//! had: a name that no cookie or header can have, a lifetime that nobody can keep.

use aws_lc_rs::digest;
use http::HeaderName;
use lateen_cluster::api::{SessionCookie, SessionPersistence};
use lateen_wire::proxy::{self as wire, session_persistence::By};

use super::{Context, Problem};
use crate::derive::destination::on_wire;

const FIELD: &str = ".sessionPersistence";
/// Where nobody says which paths of the host a cookie is for.
const PATH: &str = "/";

/// `key` names what seals tokens; `rule` tells this rule from all others.
pub(super) fn derive(
    context: &Context<'_>,
    written: &SessionPersistence,
    (key, rule): (String, &str),
) -> Result<wire::SessionPersistence, Problem> {
    let refused = |what: &str| context.problem("UnsupportedValue", &format!("{FIELD}{what}"));
    if written.idle_timeout.is_some() {
        return Err(refused(".idleTimeout is not supported: a session would outlast it; write absoluteTimeout"));
    }
    let lifetime = written.absolute_timeout.map(|length| length.0).filter(|length| !length.is_zero());
    let mut made = wire::SessionPersistence { key, lifetime: lifetime.map(on_wire), ..Default::default() };
    let cookie = SessionCookie::default();
    let cookie = written.cookie.as_ref().or(written.cookie_config.as_ref()).unwrap_or(&cookie);
    let named = |own: Option<&String>| own.or(written.session_name.as_ref()).filter(|name| !name.is_empty()).cloned();
    match written.kind.as_deref() {
        None | Some("Cookie") => {
            let name = named(cookie.name.as_ref()).unwrap_or_else(|| format!("lateen-session-{}", short(rule)));
            if !is_token(&name) {
                return Err(refused(&format!(": {name:?} is no name of a cookie; use letters, digits, '-' and '_'")));
            }
            made.path = cookie.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| PATH.to_owned());
            if !is_path(&made.path) {
                return Err(refused(&format!(".cookie.path: {:?} cannot stand in a cookie", made.path)));
            }
            made.session_cookie = match (cookie.lifetime_type.as_deref(), lifetime) {
                (None | Some("Session"), _) => true,
                (Some("Permanent"), Some(_)) => false,
                (Some("Permanent"), None) => {
                    return Err(refused(": a Permanent cookie lasts for as long as absoluteTimeout says; write it"));
                }
                (Some(other), _) => {
                    return Err(refused(&format!(": lifetimeType {other:?} is unknown; use Session or Permanent")));
                }
            };
            made.by = Some(By::Cookie(name));
        }
        Some("Header") => {
            let own = written.header.as_ref().map(|header| &header.name);
            let name = named(own).unwrap_or_else(|| format!("x-lateen-session-{}", short(rule)));
            let Ok(name) = name.parse::<HeaderName>() else {
                return Err(refused(&format!(": {name:?} is no name of a header")));
            };
            made.by = Some(By::Header(name.as_str().to_owned()));
        }
        Some(other) => return Err(refused(&format!(".type: {other:?} is unknown; use Cookie or Header"))),
    }
    Ok(made)
}

/// What the name of a session may end in, so that two rules never share one.
fn short(rule: &str) -> String {
    let hash = digest::digest(&digest::SHA256, rule.as_bytes());
    hash.as_ref().iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 6265, section 4.1.1: the name of a cookie is a token, as the name of a header is.
fn is_token(name: &str) -> bool {
    name.parse::<HeaderName>().is_ok()
}

/// The same: any character but controls and the semicolon, after which something else would begin.
fn is_path(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';')
}
