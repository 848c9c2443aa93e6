//! `Telemetry`: X5 to X9.

use super::{
    at::{At, Report},
    cel, common,
    duration::{self, Least},
    field,
};

pub(super) fn check(root: &At<'_>, report: &mut Report) {
    let Some(spec) = root.get("spec") else { return };
    common::scope(&spec, report);
    let tracing = field::entries(&spec, "tracing", "entry", report);
    if let Some(second) = tracing.get(1) {
        report.warn(&second.path, "only the first entry is used", "write one");
    }
    for one in &tracing {
        providers(one, true, report);
        field::share(one, "randomSamplingPercentage", report);
        for (name, tag) in one.get("customTags").map(|tags| tags.members()).unwrap_or_default() {
            custom(name, &tag, report);
        }
    }
    for one in field::entries(&spec, "metrics", "entry", report) {
        providers(&one, false, report);
        duration::check(&one, "reportingInterval", Least::Millisecond, report);
        for one in field::entries(&one, "overrides", "override", report) {
            overridden(&one, report);
        }
    }
    for one in field::entries(&spec, "accessLogging", "entry", report) {
        providers(&one, false, report);
        let filter = one.get("filter").and_then(|filter| filter.get("expression"));
        if let Some(expression) = filter
            && let Err(reason) = cel::parse(expression.word())
        {
            let mend = "write CEL, for example response.code >= 400";
            report.error(&expression.path, format!("it cannot be read: {reason}"), mend);
        }
    }
}

fn providers(of: &At<'_>, single: bool, report: &mut Report) {
    let providers = field::entries(of, "providers", "provider", report);
    if let Some(second) = providers.get(1).filter(|_| single) {
        report.warn(&second.path, "only the first provider is used", "write one");
    }
    for provider in &providers {
        let mend = "name one of the mesh config's extensionProviders";
        field::required(provider, "name", "the provider has no name", mend, report);
    }
}

/// X7.
fn custom(name: &str, tag: &At<'_>, report: &mut Report) {
    if name.is_empty() {
        report.error(&tag.path, "the tag has no name", "name it");
    }
    if field::alternatives(tag, &["literal", "environment", "header", "formatter"], report) == 0 {
        report.error(&tag.path, "the tag has no value", "write literal, environment, header or formatter");
    }
    for (source, part) in [("literal", "value"), ("environment", "name"), ("header", "name"), ("formatter", "value")] {
        let Some(source) = tag.get(source) else { continue };
        field::required(&source, part, &format!("the {part} is empty"), "write it", report);
    }
}

/// X8.
fn overridden(one: &At<'_>, report: &mut Report) {
    if let Some(asked) = one.get("match") {
        field::alternatives(&asked, &["metric", "customMetric"], report);
        if asked.has("customMetric") {
            field::required(&asked, "customMetric", "the metric has no name", "name it", report);
        }
    }
    for (name, tag) in one.get("tagOverrides").map(|tags| tags.all_members()).unwrap_or_default() {
        if name.is_empty() {
            report.warn(&tag.path, "the tag has no name, so nothing is changed", "name it");
        }
        if tag.value.is_null() {
            report.error(&tag.path, "it is null", "write operation, and value for UPSERT");
            continue;
        }
        let has_value = !tag.text("value").is_empty();
        if tag.text("operation") == "REMOVE" {
            if has_value {
                report.error(tag.field("value"), "what is removed has no value", "remove it, or use operation: UPSERT");
            }
        } else if !has_value {
            report.error(tag.field("value"), "there is no value", "write an expression, or use operation: REMOVE");
        }
    }
}
