//! Our entry in a network configuration. Pure.
//!
//! In: the bytes of a `.conflist` or `.conf`, our entry. Out: the text it should be, or that it is so already.
//! Everything that is not ours is kept as it is.

use std::path::Path;

use lateen_cni_plugin::result::CniVersion;
use serde_json::{Map, Value, json};

/// The name of a chain made from a single plugin, as Istio's agent calls it.
const WRAPPED_NAME: &str = "k8s-pod-network";

/// What a file may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A chain of plugins.
    List,
    /// One plugin.
    Single,
}

impl Shape {
    /// What runtimes take a file of this name to hold; `None` for files they pass over.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "conflist" => Some(Self::List),
            "conf" | "json" => Some(Self::Single),
            _ => None,
        }
    }
}

/// What is to be done about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// It is as it should be.
    Same,
    /// It should be this.
    Write(String),
}

/// Why a configuration cannot be extended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// It is not JSON, or not an object.
    #[error("it is not a JSON object: {0}")]
    NotJson(String),
    /// A key that runtimes ask for.
    #[error("{0} is missing or not what it must be; runtimes refuse such a configuration too")]
    Key(&'static str),
    /// A version we do not speak.
    #[error("cniVersion {0:?} is not supported; set it to 1.0.0, which every current plugin speaks")]
    Version(String),
    /// We make no interfaces.
    #[error("our plugin is alone in it; put the cluster's network plugin before it")]
    Alone,
}

/// Whether runtimes would take this configuration.
pub fn check(bytes: &[u8], shape: Shape) -> Result<(), ChainError> {
    parse(bytes, shape).map(|_| ())
}

/// Makes `entry` the last of the chain, once.
pub fn extend(bytes: &[u8], shape: Shape, entry: &Value) -> Result<Edit, ChainError> {
    let mut list = parse(bytes, shape)?;
    let version = list.get("cniVersion").and_then(Value::as_str).unwrap_or_default();
    if CniVersion::parse(version).is_none() {
        return Err(ChainError::Version(version.chars().take(32).collect()));
    }
    let ours = entry.get("type").and_then(Value::as_str).unwrap_or_default();
    let plugins = plugins(&mut list)?;
    let last = plugins.last() == Some(entry);
    let others = plugins.iter().filter(|plugin| type_of(plugin) != Some(ours)).count();
    if others == 0 {
        return Err(ChainError::Alone);
    }
    if shape == Shape::List && last && others + 1 == plugins.len() {
        return Ok(Edit::Same);
    }
    plugins.retain(|plugin| type_of(plugin) != Some(ours));
    plugins.push(entry.clone());
    Ok(Edit::Write(text(list)))
}

/// Takes every entry of type `ours` out of a list.
pub fn shorten(bytes: &[u8], ours: &str) -> Result<Edit, ChainError> {
    let mut list = parse(bytes, Shape::List)?;
    let plugins = plugins(&mut list)?;
    let before = plugins.len();
    plugins.retain(|plugin| type_of(plugin) != Some(ours));
    if plugins.len() == before {
        return Ok(Edit::Same);
    }
    Ok(Edit::Write(text(list)))
}

/// As a list, valid in the eyes of a runtime.
fn parse(bytes: &[u8], shape: Shape) -> Result<Map<String, Value>, ChainError> {
    let parsed: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|error| ChainError::NotJson(error.to_string()))?;
    let mut list = match shape {
        Shape::List => parsed,
        Shape::Single => {
            type_of_map(&parsed).ok_or(ChainError::Key("type"))?;
            let version = parsed.get("cniVersion").cloned().unwrap_or_else(|| "".into());
            let wrapped = json!({"name": WRAPPED_NAME, "cniVersion": version, "plugins": [parsed]});
            wrapped.as_object().cloned().unwrap_or_default()
        }
    };
    if list.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(ChainError::Key("name"));
    }
    let plugins = plugins(&mut list)?;
    if plugins.is_empty() || plugins.iter().any(|plugin| type_of(plugin).is_none()) {
        return Err(ChainError::Key("plugins (each with a type)"));
    }
    Ok(list)
}

fn plugins(list: &mut Map<String, Value>) -> Result<&mut Vec<Value>, ChainError> {
    list.get_mut("plugins").and_then(Value::as_array_mut).ok_or(ChainError::Key("plugins"))
}

fn type_of(plugin: &Value) -> Option<&str> {
    type_of_map(plugin.as_object()?)
}

fn type_of_map(plugin: &Map<String, Value>) -> Option<&str> {
    plugin.get("type").and_then(Value::as_str).filter(|name| !name.is_empty())
}

fn text(list: Map<String, Value>) -> String {
    format!("{:#}\n", Value::Object(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Value {
        json!({"type": "lateen-cni", "exclude_namespaces": ["kube-system"]})
    }

    fn written(edit: Result<Edit, ChainError>) -> Value {
        let Ok(Edit::Write(text)) = edit else { panic!("not a change: {edit:?}") };
        serde_json::from_str(&text).expect("JSON")
    }

    fn list(plugins: Value) -> Vec<u8> {
        json!({"name": "n", "cniVersion": "1.0.0", "disableCheck": true, "plugins": plugins}).to_string().into_bytes()
    }

    #[test]
    fn the_entry_comes_last_once_and_what_others_wrote_stays() {
        let bridge = json!({"type": "bridge", "ipam": {"type": "host-local"}});
        for before in [
            json!([bridge]),
            json!([bridge, {"type": "lateen-cni", "old": true}]),
            json!([ours(), bridge]),
            json!([bridge, ours(), ours()]),
        ] {
            let edited = written(extend(&list(before), Shape::List, &ours()));
            assert_eq!(edited["plugins"], json!([bridge, ours()]));
            assert_eq!(edited["disableCheck"], true);
            let again = extend(edited.to_string().as_bytes(), Shape::List, &ours());
            assert_eq!(again, Ok(Edit::Same), "doing it twice changes nothing");
            assert_eq!(written(shorten(edited.to_string().as_bytes(), "lateen-cni"))["plugins"], json!([bridge]));
        }
        assert_eq!(shorten(&list(json!([bridge])), "lateen-cni"), Ok(Edit::Same));
    }

    #[test]
    fn a_single_plugin_becomes_a_list() {
        let single = br#"{"name":"net","cniVersion":"0.3.1","type":"ptp","ipam":{}}"#;
        let edited = written(extend(single, Shape::Single, &ours()));
        assert_eq!((&edited["name"], &edited["cniVersion"]), (&json!("k8s-pod-network"), &json!("0.3.1")));
        assert_eq!(edited["plugins"][0]["type"], "ptp");
        assert_eq!(edited["plugins"][1], ours());
    }

    #[test]
    fn what_cannot_be_extended_is_named() {
        for (bytes, shape, word) in [
            (&b"["[..], Shape::List, "JSON"),
            (b"[]", Shape::List, "JSON"),
            (b"{}", Shape::List, "name"),
            (br#"{"name":"n"}"#, Shape::List, "plugins"),
            (br#"{"name":"n","plugins":[]}"#, Shape::List, "plugins"),
            (br#"{"name":"n","plugins":[{}]}"#, Shape::List, "type"),
            (br#"{"name":"n","plugins":[{"type":"bridge"}]}"#, Shape::List, "cniVersion"),
            (br#"{"name":"n","cniVersion":"0.2.0","plugins":[{"type":"bridge"}]}"#, Shape::List, "0.2.0"),
            (br#"{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"lateen-cni"}]}"#, Shape::List, "alone"),
            (br#"{"name":"n"}"#, Shape::Single, "type"),
        ] {
            let error = extend(bytes, shape, &ours()).expect_err(word);
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn runtimes_read_three_kinds_of_files() {
        for (name, shape) in [
            ("10-a.conflist", Some(Shape::List)),
            ("10-a.conf", Some(Shape::Single)),
            ("a.json", Some(Shape::Single)),
            ("a.conflist.bak", None),
            ("a", None),
        ] {
            assert_eq!(Shape::of(Path::new(name)), shape, "{name}");
        }
    }
}
