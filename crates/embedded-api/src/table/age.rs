//! How long ago something was, in the reference's short words.

use jiff::Timestamp;

/// The time since `text` (RFC 3339); `<unknown>` where it is no time.
pub fn since(text: &str, now: Timestamp) -> String {
    match text.parse::<Timestamp>() {
        Ok(then) => span(now.as_second() - then.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// Seconds in words: the two largest units while the numbers are small.
pub fn span(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |big: (i64, char), small: (i64, char)| {
        let (whole, rest) = (seconds / big.0, seconds % big.0 / small.0);
        if rest == 0 { format!("{whole}{}", big.1) } else { format!("{whole}{}{rest}{}", big.1, small.1) }
    };
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two((MINUTE, 'm'), (1, 's')),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two((HOUR, 'h'), (MINUTE, 'm')),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two((DAY, 'd'), (HOUR, 'h')),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two((YEAR, 'y'), (DAY, 'd')),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (3600, "60m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (100_000, "27h"),
            (200_000, "2d7h"),
            (864_000, "10d"),
            (70_000_000, "2y80d"),
            (-5, "<invalid>"),
        ] {
            assert_eq!(span(seconds), expected, "{seconds}");
        }
    }
}
