//! Rules several kinds share: annotations, selectors, target references, visibility.

use super::{
    at::{At, Report},
    words,
};
use crate::labels;

/// Annotations only the control plane may write.
const INTERNAL: [&str; 3] =
    ["internal.istio.io/parents", "internal.istio.io/parent-namespace", "internal.istio.io/webhook-always-reject"];

/// Kinds a policy may be attached to.
const TARGETS: [(&str, &str); 5] = [
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];

/// C2 to C5.
pub(super) fn annotations(root: &At<'_>, kind: &str, report: &mut Report) {
    let Some(annotations) = root.get("metadata").and_then(|metadata| metadata.get("annotations")) else { return };
    for name in INTERNAL.into_iter().filter(|name| annotations.has(name)) {
        report.error(annotations.entry(name), "only the control plane writes this annotation", "remove it");
    }
    let Some(dry_run) = annotations.get(labels::DRY_RUN) else { return };
    let field = annotations.entry(labels::DRY_RUN);
    if kind != "AuthorizationPolicy" {
        return report.error(field, format!("a {kind} cannot be tried out"), "remove it");
    }
    if !words::is_bool(dry_run.word()) {
        return report.error(
            field,
            format!("{:?} is neither true nor false", dry_run.word()),
            "write \"true\" or \"false\"",
        );
    }
    let action = root.get("spec").map(|spec| spec.text("action")).unwrap_or_default();
    if !matches!(action, "" | "ALLOW" | "DENY") {
        report.error(
            field,
            format!("a policy with action {action} cannot be tried out"),
            "remove it, or use ALLOW or DENY",
        );
    }
}

/// C6 to C14 of a policy that selects workloads or names targets.
pub(super) fn scope(spec: &At<'_>, report: &mut Report) {
    let given: Vec<&str> =
        ["selector", "targetRef", "targetRefs"].into_iter().filter(|field| spec.has(field)).collect();
    if given.len() > 1 {
        let reason = format!("{} cannot stand together", given.join(" and "));
        report.error(spec.field(given[1]), reason, "keep one of them");
    }
    selector(spec, report);
    for target in spec.get("targetRef").into_iter().chain(spec.list("targetRefs")) {
        target_ref(&target, report);
    }
}

pub(super) fn target_ref(target: &At<'_>, report: &mut Report) {
    if target.text("name").is_empty() {
        report.error(target.field("name"), "the target has no name", "name one object");
    }
    if !target.text("namespace").is_empty() {
        let mend = "remove it; a target is in the namespace of the policy";
        report.error(target.field("namespace"), "a target cannot be in another namespace", mend);
    }
    let (group, kind) = (target.text("group"), target.text("kind"));
    if TARGETS.contains(&(group, kind)) {
        return;
    }
    match TARGETS.iter().rev().find(|(_, known)| *known == kind) {
        Some((right, _)) => {
            let reason = format!("there is no {kind} in group {group:?}");
            report.error(target.field("group"), reason, format!("write {right:?}"));
        }
        None => {
            let reason = format!("a policy cannot be attached to {kind:?}");
            report.error(target.field("kind"), reason, "use Service, ServiceEntry, Gateway or GatewayClass");
        }
    }
}

/// C11 to C14 of `selector.matchLabels`.
pub(super) fn selector(spec: &At<'_>, report: &mut Report) {
    selector_in(spec, "selector", report);
}

/// The same under another name.
pub(super) fn selector_in(spec: &At<'_>, field: &str, report: &mut Report) {
    let Some(selector) = spec.get(field) else { return };
    match selector.get("matchLabels").filter(|labels| !labels.members().is_empty()) {
        Some(labels) => pairs(&labels, report),
        None => report.warn(
            selector.field("matchLabels"),
            "the selector names no label, so it selects everything",
            "name labels, or remove the selector",
        ),
    }
}

/// C11, C12, C14: labels as a selector or an endpoint has them.
pub(super) fn pairs(labels: &At<'_>, report: &mut Report) {
    for (key, value) in labels.members() {
        let text = value.word();
        if key.is_empty() {
            report.error(&labels.path, "a label has no name", "name it");
        } else if key.contains('*') || text.contains('*') {
            report.error(
                &value.path,
                "labels are compared as they are written, without wildcards",
                "write the label out",
            );
        } else if !words::is_label_key(key) {
            report.error(
                &value.path,
                format!("{key:?} is not the name of a label"),
                "write for example app or example.com/app",
            );
        } else if !words::is_label_value(text) {
            let mend = "use up to 63 letters, digits, -, _ and ., with a letter or digit at both ends";
            report.error(&value.path, format!("{text:?} is not the value of a label"), mend);
        }
    }
}

/// C15.
pub(super) fn export_to(root: &At<'_>, spec: &At<'_>, none_allowed: bool, report: &mut Report) {
    let own = root.get("metadata").map(|metadata| metadata.text("namespace")).unwrap_or_default();
    let entries = spec.list("exportTo");
    let mut seen: Vec<&str> = Vec::new();
    for entry in &entries {
        let text = entry.word();
        let same = |other: &str| other == text || matches!((other, text), (".", own2) | (own2, ".") if own2 == own);
        if seen.iter().any(|other| same(other)) {
            return report.error(&entry.path, format!("{text:?} is there twice"), "remove one; . is the own namespace");
        } else if matches!(text, "*" | "~") && entries.len() > 1 {
            return report.error(
                &entry.path,
                format!("{text:?} cannot stand with others"),
                "keep it alone, or remove it",
            );
        } else if text == "~" && !none_allowed {
            return report.error(&entry.path, "\"~\" is for ServiceEntry only", "write namespaces, . or *");
        } else if !matches!(text, "." | "*" | "~") && !words::is_dns_label(text) {
            return report.error(&entry.path, format!("{text:?} is not a namespace"), "write a namespace, . or *");
        }
        seen.push(text);
    }
    let further = entries.iter().find(|entry| words::is_dns_label(entry.word()) && entry.word() != own);
    if let Some(further) = further.filter(|_| none_allowed) {
        let reason = "at layer 4 what further namespaces see, all of them see";
        report.warn(&further.path, reason, "write . for the own namespace alone, or *");
    }
}
