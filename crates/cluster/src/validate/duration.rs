//! Durations as the mesh's kinds write them, `1.5s` or `1h30m`.

use super::at::{At, Report};

const MILLISECOND: i128 = 1_000_000;
const SECOND: i128 = 1_000 * MILLISECOND;
/// A hundred years; what is longer is a slip.
const MAX: i128 = 100 * 366 * 24 * 3600 * SECOND;
const UNITS: [(&str, i128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", MILLISECOND),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
    ("\u{b5}s", 1_000),
];

/// How short a duration may be, and how exact.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Least {
    /// None at all, in whole milliseconds.
    Zero,
    /// None at all, in whole seconds.
    ZeroSeconds,
    /// A millisecond, in whole ones.
    Millisecond,
    /// A second.
    Second,
}

/// Looks at a member that is a duration, if it is there.
pub(super) fn check(of: &At<'_>, field: &str, least: Least, report: &mut Report) {
    let Some(given) = of.get(field).filter(|given| given.value.is_string()) else { return };
    let text = given.word();
    let Some(nanoseconds) = parse(text) else {
        return report.error(
            &given.path,
            format!("{text:?} is not a duration"),
            "write for example 500ms, 5s or 1m30s",
        );
    };
    let (shortest, step, words) = match least {
        Least::Zero => (0, MILLISECOND, "0s or more"),
        Least::ZeroSeconds => (0, SECOND, "0s or more"),
        Least::Millisecond => (MILLISECOND, MILLISECOND, "1ms or more"),
        Least::Second => (SECOND, 1, "1s or more"),
    };
    if nanoseconds < shortest {
        report.error(&given.path, format!("{text:?} is too short"), format!("write {words}"));
    } else if nanoseconds % step != 0 {
        let unit = if step == SECOND { "seconds" } else { "milliseconds" };
        report.error(&given.path, format!("{text:?} is finer than {unit}"), format!("write whole {unit}"));
    }
}

/// Nanoseconds.
pub(crate) fn parse(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, scale) = UNITS.iter().find(|(word, _)| *word == unit)?;
        total = total.checked_add(scaled(number, *scale)?)?;
        if total > MAX {
            return None;
        }
        rest = tail;
    }
    Some(if negative { -total } else { total })
}

fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() || whole.len() > 18 || part.len() > 18 {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
    let unit = 10_i128.checked_pow(u32::try_from(part.len()).ok()?)?;
    Some(digits(whole)? * scale + digits(part)? * scale / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_duration() {
        for (text, expected) in [
            ("5s", Some(5 * SECOND)),
            ("1h1m1s1ms", Some(3661 * SECOND + MILLISECOND)),
            ("1.5s", Some(1500 * MILLISECOND)),
            (".5ms", Some(500_000)),
            ("-1s", Some(-SECOND)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("5 s", None),
            ("5days", None),
            ("99999999999999999999h", None),
            ("999999999999h", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
