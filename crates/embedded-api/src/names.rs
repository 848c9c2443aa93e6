//! The grammar of names, labels and annotations.
//!
//! In: text. Out: nothing, or the sentence with which the reference refuses it.

use serde_json::Value;

use crate::status::{FieldError, Problem};

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Most bytes all annotations of an object may have.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// A DNS-1123 label.
pub fn label(text: &str) -> Result<(), String> {
    if text.len() > 63 {
        return Err("must be no more than 63 characters".to_owned());
    }
    if is_label(text) { Ok(()) } else { Err(LABEL.to_owned()) }
}

/// A DNS-1035 label, as Service names are.
pub fn label_1035(text: &str) -> Result<(), String> {
    if text.len() > 63 {
        return Err("must be no more than 63 characters".to_owned());
    }
    let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if starts_well && is_label(text) { Ok(()) } else { Err(LABEL_1035.to_owned()) }
}

/// A DNS-1123 subdomain.
pub fn subdomain(text: &str) -> Result<(), String> {
    if text.len() > 253 {
        return Err("must be no more than 253 characters".to_owned());
    }
    if text.split('.').all(is_label) { Ok(()) } else { Err(SUBDOMAIN.to_owned()) }
}

/// A name that only has to fit into a URL path, as those of roles.
pub fn path_segment(text: &str) -> Result<(), String> {
    if text == "." || text == ".." {
        return Err(format!("may not be '{text}'"));
    }
    match text.chars().find(|letter| matches!(letter, '/' | '%')) {
        Some(letter) => Err(format!("may not contain '{letter}'")),
        None => Ok(()),
    }
}

/// `[prefix/]name`, as label keys are.
pub fn qualified_name(text: &str) -> Result<(), String> {
    let name = match text.split_once('/') {
        Some(("", _)) => return Err("prefix part must be non-empty".to_owned()),
        Some((prefix, name)) => {
            subdomain(prefix).map_err(|why| format!("prefix part {why}"))?;
            name
        }
        None => text,
    };
    if name.is_empty() {
        return Err("name part must be non-empty".to_owned());
    }
    if name.len() > 63 {
        return Err("name part must be no more than 63 characters".to_owned());
    }
    if is_wordy(name) { Ok(()) } else { Err(QUALIFIED.to_owned()) }
}

/// A label's value.
pub fn label_value(text: &str) -> Result<(), String> {
    if text.len() > 63 {
        return Err("must be no more than 63 characters".to_owned());
    }
    if text.is_empty() || is_wordy(text) { Ok(()) } else { Err(LABEL_VALUE.to_owned()) }
}

/// The labels or annotations at `field`, which must map text to text.
pub fn check_labels(value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        if let Err(why) = qualified_name(key) {
            errors.push(FieldError::invalid(field, key.as_str(), why));
        }
        if let Some(text) = value.as_str()
            && let Err(why) = label_value(text)
        {
            errors.push(FieldError::invalid(field, text, why));
        }
    }
}

/// Annotation keys and their total size.
pub fn check_annotations(value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in value.as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        if let Err(why) = qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(field, key.as_str(), why));
        }
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError { field: field.to_owned(), problem: Problem::TooLong(ANNOTATIONS_MAX) });
    }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_wordy(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.bytes().all(inner) && edge(text.bytes().next()) && edge(text.bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_pass_and_fail() {
        for good in ["a", "a-b", "1a", "a.b-c.d"] {
            assert_eq!(subdomain(good), Ok(()), "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a..b", "a_b", ".a"] {
            assert!(subdomain(bad).is_err(), "{bad}");
        }
        assert!(label("a.b").is_err() && label(&"a".repeat(64)).is_err() && label("a").is_ok());
        assert!(label_1035("1a").is_err() && label_1035("a1").is_ok());
        for good in ["a", "A_b.c", "example.com/Name", "istio.io/dataplane-mode"] {
            assert_eq!(qualified_name(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "-a", "A.com/x y"] {
            assert!(qualified_name(bad).is_err(), "{bad}");
        }
        assert!(label_value("").is_ok() && label_value("a b").is_err() && path_segment("system:x").is_ok());
    }
}
