//! Durations as Go writes them: `24h`, `1h30m`, `500ms`, `1.5s`.

use std::time::Duration;

/// The duration, or nothing if the text is none. Longer than ten thousand years is none either.
pub(super) fn parse(text: &str) -> Option<Duration> {
    const SECONDS_MAX: f64 = 3.2e11;
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    let valid = !text.is_empty() && (0.0..SECONDS_MAX).contains(&seconds);
    valid.then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        let check = |text: &str, millis: Option<u64>| {
            assert_eq!(parse(text), millis.map(Duration::from_millis), "{text}");
        };
        check("24h", Some(86_400_000));
        check("1h30m", Some(5_400_000));
        check("500ms", Some(500));
        check("1.5s", Some(1500));
        check("0s", Some(0));
        for wrong in ["", "5", "h", "1d", "-1s", "1h x", "1.2.3s", "99999999999999999999h"] {
            check(wrong, None);
        }
    }
}
