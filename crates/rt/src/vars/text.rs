//! Small notations: lengths of time, CPU quantities, shares.

use std::time::Duration;

/// `10s`, `5m`, `24h`, `250ms`, `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || String::from("it must be a duration: write a number with ms, s, m, h or d, such as 10s or 1h30m");
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let seconds = match unit.trim() {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(total)
}

/// A Kubernetes CPU quantity in whole CPUs, rounded up: `500m`, `2`, `1.5`.
pub fn cpus(text: &str) -> Result<usize, String> {
    let wrong = || String::from("it must be a CPU quantity: write CPUs or thousandths, such as 2, 1.5 or 500m");
    let thousandths = match text.strip_suffix('m') {
        Some(number) => number.parse::<f64>().map_err(|_| wrong())?,
        None => text.parse::<f64>().map_err(|_| wrong())? * 1000.0,
    };
    // Above a million CPUs somebody mistyped; negative and not-a-number end here too.
    if !(0.0..=1e9).contains(&thousandths) {
        return Err(wrong());
    }
    Ok((thousandths / 1000.0).ceil() as usize)
}

/// How many threads: a number, `0` for all CPUs, or a share of them such as `50%`.
pub fn threads(text: &str, cpus: usize) -> Result<usize, String> {
    let wrong =
        || String::from("it must be a number of threads: write a number, 0 for all CPUs, or a share such as 50%");
    match text.strip_suffix('%') {
        Some(share) => {
            let share: u32 = share.trim().parse().map_err(|_| wrong())?;
            if share == 0 || share > 100 {
                return Err(wrong());
            }
            Ok((cpus * share as usize).div_ceil(100).max(1))
        }
        None => match text.parse::<u16>().map_err(|_| wrong())? {
            0 => Ok(cpus),
            number => Ok(usize::from(number)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let seconds = |text: &str| duration(text).map(|found| found.as_secs_f64());
        for (text, expected) in [
            ("10s", 10.0),
            ("5m", 300.0),
            ("24h", 86400.0),
            ("1h30m", 5400.0),
            ("250ms", 0.25),
            ("1.5s", 1.5),
            ("0s", 0.0),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "5", "s", "5x", "-5s", "1..2s", "99999999999999999999h", "5m3"] {
            assert!(seconds(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn cpus_round_up() {
        for (text, expected) in [("500m", 1), ("2", 2), ("1.5", 2), ("2001m", 3), ("0", 0)] {
            assert_eq!(cpus(text), Ok(expected), "{text}");
        }
        for text in ["", "m", "2k", "-1", "NaN", "inf", "1e99"] {
            assert!(cpus(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn threads_are_numbers_or_shares() {
        for (text, expected) in [("4", 4), ("0", 8), ("50%", 4), ("1%", 1), ("13%", 2), ("100%", 8)] {
            assert_eq!(threads(text, 8), Ok(expected), "{text}");
        }
        for text in ["", "%", "0%", "101%", "-1", "x", "1.5"] {
            assert!(threads(text, 8).is_err(), "{text:?} was accepted");
        }
    }
}
