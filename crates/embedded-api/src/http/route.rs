//! Which resource a path names.
//!
//! In: the path. Out: group, version, namespace, resource, name, subresource.

use crate::{api::Target, http::query::percent_decoded, registry::Registry, status::ApiError};

/// A path below `/api/v1` or `/apis/<group>/<version>`.
#[derive(Debug, Clone)]
pub struct Route {
    /// What it names.
    pub target: Target,
    /// `status`, `scale`, `log`, ...; empty for the object itself.
    pub subresource: String,
    /// The old `/watch/` prefix.
    pub watch: bool,
}

/// Resolves a path; none where it is not a resource path.
pub fn resolve(registry: &Registry, path: &str) -> Result<Option<Route>, ApiError> {
    let segments: Option<Vec<String>> = path.split('/').filter(|part| !part.is_empty()).map(percent_decoded).collect();
    let segments = segments.ok_or_else(ApiError::no_such_path)?;
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, version, rest) = match words.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Ok(None),
    };
    let (watch, rest) = match rest {
        ["watch", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (namespace, rest) = match rest {
        // `namespaces/x/status` is a subresource of the namespace itself.
        ["namespaces", namespace, resource, more @ ..] if !matches!((*resource, more), ("status" | "finalize", [])) => {
            (*namespace, &rest[2..])
        }
        rest => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [] => return Ok(None),
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return Err(ApiError::no_such_path()),
    };
    let resource = registry.find(group, version, plural).ok_or_else(ApiError::no_such_path)?;
    if !resource.namespaced && !namespace.is_empty() || resource.namespaced && namespace.is_empty() && !name.is_empty()
    {
        return Err(ApiError::no_such_path());
    }
    let target =
        Target { resource, version: version.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() };
    Ok(Some(Route { target, subresource: subresource.to_owned(), watch }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_what_they_name() {
        let registry = Registry::new();
        for (path, expected) in [
            ("/api/v1/pods", Some("pods///")),
            ("/api/v1/namespaces/a/pods/b/log", Some("pods/a/b/log")),
            ("/api/v1/namespaces/a", Some("namespaces//a/")),
            ("/api/v1/namespaces/a/status", Some("namespaces//a/status")),
            ("/api/v1/namespaces/a/finalize", Some("namespaces//a/finalize")),
            ("/apis/apps/v1/namespaces/a/deployments/b/scale", Some("deployments/a/b/scale")),
            ("/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Ax", Some("clusterroles//system:x/")),
            ("/api/v1", None),
            ("/version", None),
        ] {
            let route = resolve(&registry, path).unwrap_or_else(|error| panic!("{path}: {error}"));
            let shown = route.map(|r| {
                format!("{}/{}/{}/{}", r.target.resource.plural, r.target.namespace, r.target.name, r.subresource)
            });
            assert_eq!(shown.as_deref(), expected, "{path}");
        }
        for path in [
            "/api/v1/unicorns",
            "/api/v2/pods",
            "/api/v1/pods/a",
            "/api/v1/namespaces/a/nodes",
            "/api/v1/pods/%zz",
            "/api/v1/namespaces/a/pods/b/c/d",
        ] {
            assert_eq!(resolve(&registry, path).expect_err(path).code, 404);
        }
    }
}
