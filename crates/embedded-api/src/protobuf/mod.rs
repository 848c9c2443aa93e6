//! Bodies in Kubernetes' protobuf form, as `kubectl create ns` and other typed Go clients send them.
//!
//! In: bytes with the `k8s` magic. Out: the same object as JSON. Answers are always JSON, which those clients take.
//! `fields.txt` holds the numbers, names and types of the wire format: a message's name, then one line per field
//! (`*` list, `%` map from text; `s` text, `y` bytes, `i` integer, `b` bool, `d` double). A field it does not know is an error,
//! never dropped. Absent on purpose: encoding.

mod wire;

use std::{collections::HashMap, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use self::wire::{Raw, Reader};
use crate::object;

/// The content type.
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";
const TABLE: &str = include_str!("fields.txt");
const DEPTH_MAX: usize = 64;

/// Embedded messages whose members stand in their parent in JSON.
const INLINE: &[&str] =
    &["volumeSource", "persistentVolumeSource", "handler", "localObjectReference", "ephemeralContainerCommon"];

/// Numbers that mean something when they are 0. Go writes every number that is no pointer, set or not; the others are left out.
const ZERO_COUNTS: &[&str] = &[
    "replicas",
    "minReplicas",
    "revisionHistoryLimit",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "terminationGracePeriodSeconds",
    "gracePeriodSeconds",
    "deletionGracePeriodSeconds",
    "runAsUser",
    "runAsGroup",
    "fsGroup",
    "parallelism",
    "completions",
    "successfulJobsHistoryLimit",
    "failedJobsHistoryLimit",
    "defaultMode",
    "mode",
    "partition",
    "value",
    "maxSurge",
];

/// Why bytes are no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The first bytes are not `k8s\0`.
    #[error("the protobuf body does not start with the k8s magic number")]
    Magic,
    /// Cut short or malformed.
    #[error("the protobuf body is malformed")]
    Malformed,
    /// A kind outside the table.
    #[error("{0} is not read in protobuf form here; send JSON")]
    Kind(String),
    /// A field outside the table.
    #[error("field {number} of {message} is not known here; send JSON")]
    Field {
        /// The message.
        message: String,
        /// Its number.
        number: u32,
    },
    /// Nested too deeply.
    #[error("the protobuf body is nested too deeply")]
    Depth,
}

struct Field {
    name: &'static str,
    shape: Shape,
    kind: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    One,
    List,
    Map,
}

type Message = HashMap<u32, Field>;

static MESSAGES: LazyLock<HashMap<&'static str, Message>> = LazyLock::new(|| {
    let mut messages: HashMap<&'static str, Message> = HashMap::new();
    let mut current = "";
    for line in TABLE.lines() {
        let Some(row) = line.strip_prefix(' ') else {
            current = line;
            messages.entry(current).or_default();
            continue;
        };
        let mut words = row.split(' ');
        let (Some(number), Some(name), Some(kind)) = (words.next(), words.next(), words.next()) else { continue };
        let (shape, kind) = match kind.split_at(1) {
            ("*", kind) => (Shape::List, kind),
            ("%", kind) => (Shape::Map, kind),
            _ => (Shape::One, kind),
        };
        if let Ok(number) = number.parse() {
            messages.entry(current).or_default().insert(number, Field { name, shape, kind });
        }
    }
    messages
});

/// Reads a body.
pub fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Reader::new(envelope) {
        match field? {
            (1, Raw::Bytes(meta)) => {
                for field in Reader::new(meta) {
                    match field? {
                        (1, Raw::Bytes(text)) => api_version = utf8(text)?,
                        (2, Raw::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Raw::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let (name, _) = MESSAGES
        .get_key_value(&*message_of(&api_version, &kind))
        .ok_or_else(|| ProtobufError::Kind(format!("{api_version} {kind}")))?;
    let mut value = Value::Object(message(name, raw, 0)?);
    object::set(&mut value, &["apiVersion"], api_version);
    object::set(&mut value, &["kind"], kind);
    object::drop_nulls(&mut value);
    Ok(value)
}

/// The table's name for a kind.
fn message_of(api_version: &str, kind: &str) -> String {
    if kind == "DeleteOptions" {
        return "meta.v1.DeleteOptions".to_owned();
    }
    match api_version.split_once('/') {
        None => format!("core.{api_version}.{kind}"),
        Some((group, version)) => format!("{}.{version}.{kind}", group.split('.').next().unwrap_or(group)),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Malformed)
}

fn message(name: &str, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, ProtobufError> {
    if depth > DEPTH_MAX {
        return Err(ProtobufError::Depth);
    }
    let fields = MESSAGES.get(name).ok_or_else(|| ProtobufError::Kind(name.to_owned()))?;
    let mut map = Map::new();
    for item in Reader::new(bytes) {
        let (number, raw) = item?;
        let field = fields.get(&number).ok_or_else(|| ProtobufError::Field { message: name.to_owned(), number })?;
        match field.shape {
            Shape::List => {
                let item = value(field, raw, depth)?;
                let list = map.entry(field.name).or_insert_with(|| json!([]));
                if let Value::Array(items) = list {
                    items.push(item);
                }
            }
            Shape::Map => {
                let (key, member) = entry(field, raw, depth)?;
                object::map_of(map.entry(field.name).or_insert_with(|| json!({}))).insert(key, member);
            }
            Shape::One => match value(field, raw, depth)? {
                Value::Object(members) if INLINE.contains(&field.name) => map.extend(members),
                single if is_unset(field.name, &single) => {}
                single => drop(map.insert(field.name.to_owned(), single)),
            },
        }
    }
    Ok(map)
}

/// Whether Go would leave the value out of JSON.
fn is_unset(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0) && !ZERO_COUNTS.contains(&name),
        _ => false,
    }
}

fn entry(field: &Field, raw: Raw<'_>, depth: usize) -> Result<(String, Value), ProtobufError> {
    let Raw::Bytes(bytes) = raw else { return Err(ProtobufError::Malformed) };
    let (mut key, mut found) = (String::new(), Value::Null);
    for item in Reader::new(bytes) {
        match item? {
            (1, Raw::Bytes(text)) => key = utf8(text)?,
            (2, raw) => found = value(field, raw, depth)?,
            _ => return Err(ProtobufError::Malformed),
        }
    }
    if found.is_null() && matches!(field.kind, "s" | "y") {
        found = json!("");
    }
    Ok((key, found))
}

fn value(field: &Field, raw: Raw<'_>, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match (field.kind, raw) {
        ("s", Raw::Bytes(bytes)) => utf8(bytes)?.into(),
        ("y", Raw::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        ("b", Raw::Number(number)) => (number != 0).into(),
        // Negative numbers come as their 64-bit two's complement.
        ("i", Raw::Number(number)) => (number as i64).into(),
        ("d", Raw::Fixed(bits)) => json!(f64::from_bits(bits)),
        (kind, Raw::Bytes(bytes)) if kind.contains('.') => match special(kind, bytes)? {
            Some(special) => special,
            None => Value::Object(message(kind, bytes, depth + 1)?),
        },
        _ => return Err(ProtobufError::Malformed),
    })
}

/// Types that are scalars in JSON.
fn special(kind: &str, bytes: &[u8]) -> Result<Option<Value>, ProtobufError> {
    let mut numbers = [0i64; 4];
    let mut text = &[][..];
    if !matches!(
        kind,
        "meta.v1.Time"
            | "meta.v1.MicroTime"
            | "resource.Quantity"
            | "intstr.IntOrString"
            | "meta.v1.FieldsV1"
            | "runtime.RawExtension"
            | "meta.v1.Duration"
    ) {
        return Ok(None);
    }
    for item in Reader::new(bytes) {
        match item? {
            (at, Raw::Number(number)) => {
                if let Some(place) = numbers.get_mut(at as usize) {
                    *place = number as i64;
                }
            }
            (_, Raw::Bytes(bytes)) => text = bytes,
            _ => return Err(ProtobufError::Malformed),
        }
    }
    Ok(Some(match kind {
        "meta.v1.Time" if bytes.is_empty() => Value::Null,
        "meta.v1.Time" => object::stamp(numbers[1]).into(),
        "meta.v1.MicroTime" if bytes.is_empty() => Value::Null,
        "meta.v1.MicroTime" => micro_time(numbers[1], numbers[2]),
        "intstr.IntOrString" if numbers[1] == 0 => numbers[2].into(),
        "meta.v1.Duration" => format!("{}ns", numbers[1]).into(),
        "meta.v1.FieldsV1" | "runtime.RawExtension" => {
            serde_json::from_slice(text).map_err(|_| ProtobufError::Malformed)?
        }
        _ => utf8(text)?.into(),
    }))
}

fn micro_time(seconds: i64, nanos: i64) -> Value {
    let time = i32::try_from(nanos).ok().and_then(|nanos| jiff::Timestamp::new(seconds, nanos).ok());
    time.map_or(Value::Null, |time| time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).expect("short")];
        out.extend_from_slice(bytes);
        out
    }

    fn body(kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [tagged(1, b"v1"), tagged(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), tagged(1, &meta), tagged(2, raw)].concat()
    }

    #[test]
    fn every_message_the_table_names_is_in_it() {
        for (name, fields) in MESSAGES.iter() {
            for field in fields.values().filter(|field| field.kind.contains('.')) {
                let known = MESSAGES.contains_key(field.kind)
                    || special(field.kind, &[]).is_ok_and(|found| found.is_some())
                    || special(field.kind, &[]).is_err();
                assert!(known, "{name}.{} is a {}", field.name, field.kind);
            }
        }
    }

    #[test]
    fn a_namespace_and_a_secret_are_read() {
        let entry = [tagged(1, b"k"), tagged(2, b"v")].concat();
        let meta = [tagged(1, b"x"), tagged(2, b""), tagged(8, b""), vec![7 << 3, 0], tagged(11, &entry)].concat();
        let decoded = decode(&body("Namespace", &[tagged(1, &meta), tagged(2, b""), tagged(3, b"")].concat()));
        assert_eq!(
            decoded,
            Ok(
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "labels": {"k": "v"}}, "spec": {}, "status": {}})
            )
        );
        let decoded = decode(&body("Secret", &tagged(2, &entry)));
        assert_eq!(decoded.map(|secret| secret["data"].clone()), Ok(json!({"k": "dg=="})));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert_eq!(decode(b"{}"), Err(ProtobufError::Magic));
        assert_eq!(decode(&body("Namespace", &[0x0a, 0x05, 0x00])), Err(ProtobufError::Malformed));
        assert_eq!(decode(&body("Unicorn", &[])), Err(ProtobufError::Kind("v1 Unicorn".to_owned())));
        let unknown = ProtobufError::Field { message: "core.v1.Namespace".to_owned(), number: 15 };
        assert_eq!(decode(&body("Namespace", &tagged(15, b""))), Err(unknown));
        // Every cut of a good body is refused or read, never a panic.
        let good = body("Namespace", &tagged(1, &tagged(1, b"name")));
        for end in 0..good.len() {
            let _ = decode(&good[..end]);
        }
    }
}
