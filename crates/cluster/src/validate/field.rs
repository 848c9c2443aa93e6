//! Rules of single fields that many kinds share: nulls, alternatives, shares, ports, hosts, patterns.

use super::{
    at::{At, Report},
    words::{self, Host},
};

/// A regular expression may be this long.
const PATTERN_MAX: usize = 1024;

/// The entries of a list that are not null; each null is reported.
pub(super) fn entries<'a>(of: &At<'a>, field: &str, word: &str, report: &mut Report) -> Vec<At<'a>> {
    let (nulls, entries): (Vec<At<'_>>, Vec<At<'_>>) =
        of.list(field).into_iter().partition(|entry| entry.value.is_null());
    for null in nulls {
        report.error(&null.path, format!("the {word} is null"), "remove it");
    }
    entries
}

/// Reports the first two members of `fields` that are both there.
pub(super) fn alternatives(of: &At<'_>, fields: &[&str], report: &mut Report) -> usize {
    let given: Vec<&str> = fields.iter().copied().filter(|field| of.has(field)).collect();
    if let [first, second, ..] = given[..] {
        let reason = format!("{first} and {second} cannot stand together");
        report.error(of.field(second), reason, "keep one of them");
    }
    given.len()
}

/// A share of a hundred.
pub(super) fn share(of: &At<'_>, field: &str, report: &mut Report) {
    let Some(share) = of.get(field).filter(|share| share.value.is_number()) else { return };
    if !share.value.as_f64().is_some_and(|number| (0.0..=100.0).contains(&number)) {
        report.error(&share.path, format!("{} is not a share of 100", share.value), "write a number from 0 to 100");
    }
}

/// A share in a message of its own.
pub(super) fn percentage(of: &At<'_>, field: &str, report: &mut Report) {
    if let Some(percentage) = of.get(field) {
        share(&percentage, "value", report);
    }
}

/// A number that may not be negative.
pub(super) fn not_negative(of: &At<'_>, field: &str, report: &mut Report) {
    if let Some(number) = of.number(field).filter(|number| *number < 0) {
        report.error(of.field(field), format!("{number} is negative"), "write 0 or more");
    }
}

/// A port that must be one, where it is given.
pub(super) fn port(of: &At<'_>, field: &str, report: &mut Report) {
    if let Some(number) = of.number(field).filter(|number| !(1..=65535).contains(number)) {
        report.error(of.field(field), format!("{number} is not a port"), "write a number from 1 to 65535");
    }
}

/// A text that must be there.
pub(super) fn required(of: &At<'_>, field: &str, reason: &str, mend: &str, report: &mut Report) -> bool {
    let missing = of.text(field).is_empty();
    if missing {
        report.error(of.field(field), reason, mend);
    }
    !missing
}

/// A host name without wildcards, or an address.
pub(super) fn is_plain_host(text: &str) -> bool {
    words::is_ip(text) || words::host(text) == Host::Plain
}

/// The name of a header.
pub(super) fn is_header_name(text: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.len() <= 256 && text.chars().all(token)
}

/// What is wrong with a regular expression.
pub(super) fn pattern(at: &At<'_>, report: &mut Report) {
    let text = at.word();
    if text.is_empty() {
        return report.error(&at.path, "the pattern is empty", "write one, such as .*");
    }
    if text.len() > PATTERN_MAX {
        let reason = format!("the pattern is longer than {PATTERN_MAX} characters");
        return report.error(&at.path, reason, "write a shorter one");
    }
    if let Err(error) = regex_syntax::ast::parse::Parser::new().parse(text) {
        let reason = format!("{text:?} is not a regular expression: {}", error.kind());
        report.error(&at.path, reason, "write it as RE2 does, without look-around and back-references");
    }
}

/// A text that is compared: exactly, by its beginning or by a pattern.
pub(super) fn text_match(at: &At<'_>, may_be_empty: bool, report: &mut Report) {
    match alternatives(at, &["exact", "prefix", "regex"], report) {
        0 if !may_be_empty => {
            report.error(&at.path, "it does not say how to compare", "write exact, prefix or regex");
        }
        _ => {}
    }
    if at.get("prefix").is_some_and(|prefix| prefix.word().is_empty() && prefix.value.is_string()) {
        report.error(at.field("prefix"), "everything begins with nothing", "write a beginning, or remove the match");
    }
    // Alone, a star means that the value is there at all.
    if let Some(regex) = at.get("regex").filter(|regex| regex.word() != "*") {
        pattern(&regex, report);
    }
}

/// A header's value may hold operators between two percent signs; a sign of its own is written twice.
pub(super) fn is_template(text: &str) -> bool {
    let plain = text.replace("%%", "");
    let parts: Vec<&str> = plain.split('%').collect();
    let operator = |part: &&str| {
        let name = part.split(['(', ':']).next().unwrap_or_default();
        !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    parts.len() % 2 == 1 && parts.iter().skip(1).step_by(2).all(operator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_template() {
        for (text, expected) in [
            ("", true),
            ("plain", true),
            ("100%%", true),
            ("%REQ(x-a)%", true),
            ("a%DOWNSTREAM_REMOTE_ADDRESS%b%START_TIME(%%s)%", true),
            ("50%", false),
            ("%req%", false),
            ("% %", false),
        ] {
            assert_eq!(is_template(text), expected, "{text:?}");
        }
    }
}
