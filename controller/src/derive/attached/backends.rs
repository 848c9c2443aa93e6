//! Where a rule sends to.

use lateen_cluster::{
    api::{BackendRef, RequestRedirect, UrlRewrite},
    store::Key,
};
use lateen_wire::proxy::{self as wire, weighted};

use super::{Context, Problem, filters};

/// What is answered where there is nothing to send to, or what is named cannot be used.
pub(super) const INVALID: u32 = 500;

/// A share with what is changed for it.
pub(super) struct Share<'a> {
    plain: wire::Weighted,
    redirect: Option<&'a RequestRedirect>,
    rewrite: Option<&'a UrlRewrite>,
}

impl Share<'_> {
    /// For a match of this prefix.
    pub(super) fn weighted(&self, prefix: &str) -> wire::Weighted {
        let mut made = self.plain.clone();
        if let Some(redirect) = self.redirect {
            made.to = Some(weighted::To::Redirect(filters::redirect(redirect, prefix)));
        }
        made.rewrite = self.rewrite.map(|rewrite| filters::rewrite(rewrite, prefix));
        made
    }
}

/// Those with a share.
pub(super) fn derive<'a>(
    context: &Context<'_>,
    written: &'a [BackendRef],
    unresolved: &mut Vec<Problem>,
) -> Result<Vec<Share<'a>>, Problem> {
    let mut shares = Vec::new();
    for backend in written {
        let filters = filters::derive(context, &backend.filters, unresolved)?;
        if !filters.mirrors.is_empty() || filters.cors.is_some() {
            let what = ".backendRefs: mirrors and CORS of a single backend are not supported; write them on the rule";
            return Err(context.problem("UnsupportedValue", what));
        }
        let plain = plain(context, backend, unresolved);
        if plain.weight > 0 {
            shares.push(Share {
                plain: wire::Weighted { request_headers: filters.request, response_headers: filters.response, ..plain },
                redirect: filters.redirect,
                rewrite: filters.rewrite,
            });
        }
    }
    Ok(shares)
}

/// A share without changes.
pub(super) fn plain(context: &Context<'_>, backend: &BackendRef, unresolved: &mut Vec<Problem>) -> wire::Weighted {
    let to = match upstream(context, backend) {
        Ok(upstream) => weighted::To::Upstream(upstream),
        Err(problem) => {
            unresolved.push(problem);
            weighted::To::InvalidStatus(INVALID)
        }
    };
    wire::Weighted { weight: backend.weight.unwrap_or(1), to: Some(to), ..wire::Weighted::default() }
}

pub(super) fn upstream(context: &Context<'_>, backend: &BackendRef) -> Result<wire::Upstream, Problem> {
    let problem = |reason, what: String| context.problem(reason, &format!(".backendRefs: {what}"));
    let group = backend.group.as_deref().unwrap_or_default();
    let kind = backend.kind.as_deref().unwrap_or("Service");
    let namespace = backend.namespace.as_deref().unwrap_or(&context.key.namespace);
    let key = Key::new(namespace, &backend.name);
    let name = format!("{kind} {key}");
    let found = match (group, kind) {
        ("" | "core", "Service") => context.look.service(&key),
        ("networking.istio.io", "Hostname") => context.look.host(&backend.name.to_ascii_lowercase()),
        _ => return Err(problem("InvalidKind", format!("{group}/{kind} is no kind that can be sent to; use Service"))),
    };
    let is_elsewhere = kind == "Service" && *namespace != *context.key.namespace;
    let group = if group == "core" { "" } else { group };
    if is_elsewhere && !context.look.lets((context.kind, &context.key.namespace), (group, kind, &key)) {
        let what = format!("{name} is of another namespace, in which no ReferenceGrant allows it");
        return Err(problem("RefNotPermitted", what));
    }
    let found = found.ok_or_else(|| problem("BackendNotFound", format!("there is no {name}")))?;
    let port = backend.port.and_then(|port| u16::try_from(port).ok());
    let only = match found.ports.as_slice() {
        [only] if backend.port.is_none() && kind == "Hostname" => Some(only.number),
        _ => None,
    };
    let Some(port) = port.or(only) else {
        return Err(problem("UnsupportedValue", format!("{name} is named without a port; write port")));
    };
    if found.port(port).is_none() {
        return Err(problem("BackendNotFound", format!("{name} has no TCP port {port}")));
    }
    Ok(wire::Upstream {
        namespace: found.name.namespace.to_string(),
        hostname: found.name.hostname.to_string(),
        port: port.into(),
        subset: String::new(),
    })
}
