mod property;
mod vectors;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{HostMap, HostPattern, View, without_port};

/// A request, as tests write it.
#[derive(Debug, Clone)]
struct Asked {
    method: String,
    path: String,
    query: Option<String>,
    authority: String,
    headers: HeaderMap,
}

impl Asked {
    /// GET of a target with headers.
    fn get(target: &str, headers: &[(&str, &str)]) -> Self {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let header = |(name, value): &(&str, &str)| {
            let name: HeaderName = name.parse().expect("a name");
            (name, HeaderValue::from_str(value).expect("a value"))
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().map(header) {
            map.append(name, value);
        }
        let query = query.map(Into::into);
        Self { method: "GET".into(), path: path.into(), query, authority: "web.shop".into(), headers: map }
    }

    fn view(&self) -> View<'_> {
        View {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            authority: &self.authority,
            scheme: "http",
            headers: &self.headers,
        }
    }
}

#[test]
fn hosts_are_exact_before_the_longest_suffix_before_any() {
    let patterns = ["*", "*.example.com", "*.a.example.com", "b.a.example.com", "Example.org"];
    let map = HostMap::new(patterns.map(|text| (HostPattern::read(text).expect("a pattern"), text)));
    let cases = [
        ("b.a.example.com", "b.a.example.com"),
        ("B.A.example.COM:8080", "b.a.example.com"),
        ("c.a.example.com", "*.a.example.com"),
        ("x.c.a.example.com", "*.a.example.com"),
        ("a.example.com", "*.example.com"),
        ("example.com", "*"),
        (".example.com", "*"),
        ("example.org", "Example.org"),
        ("sub.example.org", "*"),
        ("10.0.0.1:80", "*"),
        ("", "*"),
    ];
    for (host, expected) in cases {
        assert_eq!(map.find(host), Some(&expected), "{host}");
    }
    let narrow = HostMap::new([(HostPattern::read("*.com").expect("a pattern"), ())]);
    assert!(narrow.find("a.b.com").is_some() && narrow.find("com").is_none() && narrow.find("").is_none());
    for text in ["", "a.*", "*a.com", "*.", "**", "*.*.com"] {
        assert_eq!(HostPattern::read(text), None, "{text:?}");
    }
}

#[test]
fn a_port_is_no_part_of_a_host() {
    let cases = [("a:80", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("::1", "::1"), ("a:", "a")];
    for (authority, host) in cases {
        assert_eq!(without_port(authority), host);
    }
}
