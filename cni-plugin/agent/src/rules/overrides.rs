//! What a pod's annotations change in its rules. Pure.
//!
//! In: the agent's options and a pod's annotations. Out: the pod's options, or which annotation is wrong and how.

use std::collections::BTreeMap;

use lateen_cluster::labels::{BYPASS_INBOUND_CAPTURE, DNS_CAPTURE, REROUTE_VIRTUAL_INTERFACES};

use super::{DnsCapture, InboundCapture, InterfaceName, PodOptions};

/// An annotation that says nothing we understand. The pod is not enrolled with less than it asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation {annotation} is {given:?}: {mend}")]
pub struct OverrideError {
    /// Which one.
    pub annotation: &'static str,
    /// Its value, cut to 64 characters.
    pub given: String,
    /// What would be right.
    pub mend: &'static str,
}

/// More would be a mistake or an attack on the rule set's size.
const INTERFACES_MAX: usize = 32;

/// `defaults` with the pod's own wishes.
pub fn pod_options(defaults: &PodOptions, annotations: &BTreeMap<String, String>) -> Result<PodOptions, OverrideError> {
    let mut options = defaults.clone();
    if let Some(on) = flag(annotations, DNS_CAPTURE)? {
        options.dns = if on { DnsCapture::On } else { DnsCapture::Off };
    }
    if let Some(bypass) = flag(annotations, BYPASS_INBOUND_CAPTURE)? {
        options.inbound = if bypass { InboundCapture::Off } else { InboundCapture::On };
    }
    if let Some(list) = annotations.get(REROUTE_VIRTUAL_INTERFACES) {
        options.virtual_interfaces = interfaces(list)?;
    }
    Ok(options)
}

fn flag(annotations: &BTreeMap<String, String>, annotation: &'static str) -> Result<Option<bool>, OverrideError> {
    let Some(text) = annotations.get(annotation) else { return Ok(None) };
    // The words of Go's strconv.ParseBool, which the reference takes.
    match text.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
        _ => Err(wrong(annotation, text, "write \"true\" or \"false\"")),
    }
}

fn interfaces(list: &str) -> Result<Vec<InterfaceName>, OverrideError> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let mend = "write interface names with commas between, each 1 to 15 letters, digits, or _-.:@";
    let read = |name| InterfaceName::parse(name).ok_or_else(|| wrong(REROUTE_VIRTUAL_INTERFACES, list, mend));
    let all: Vec<InterfaceName> = names.map(read).collect::<Result<_, _>>()?;
    if all.len() > INTERFACES_MAX {
        return Err(wrong(REROUTE_VIRTUAL_INTERFACES, list, "name at most 32 interfaces"));
    }
    Ok(all)
}

fn wrong(annotation: &'static str, given: &str, mend: &'static str) -> OverrideError {
    OverrideError { annotation, given: given.chars().take(64).collect(), mend }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(annotation: &str, value: &str) -> Result<PodOptions, OverrideError> {
        let annotations = [(annotation.to_owned(), value.to_owned())].into();
        pod_options(&PodOptions::default(), &annotations)
    }

    #[test]
    fn each_annotation_changes_its_option() {
        assert_eq!(with(DNS_CAPTURE, "false").expect("valid").dns, DnsCapture::Off);
        assert_eq!(with(DNS_CAPTURE, "1").expect("valid").dns, DnsCapture::On);
        assert_eq!(with(BYPASS_INBOUND_CAPTURE, "true").expect("valid").inbound, InboundCapture::Off);
        let options = with(REROUTE_VIRTUAL_INTERFACES, "vif0, docker0,").expect("valid");
        let names: Vec<&str> = options.virtual_interfaces.iter().map(InterfaceName::as_str).collect();
        assert_eq!(names, ["vif0", "docker0"]);
        assert_eq!(with("other", "x").expect("valid"), PodOptions::default());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (annotation, value) in [
            (DNS_CAPTURE, "yes"),
            (BYPASS_INBOUND_CAPTURE, ""),
            (REROUTE_VIRTUAL_INTERFACES, "a\" accept #"),
            (REROUTE_VIRTUAL_INTERFACES, "longer-than-fifteen"),
            (REROUTE_VIRTUAL_INTERFACES, "eth*"),
        ] {
            assert_eq!(with(annotation, value).expect_err(value).annotation, annotation);
        }
    }
}
