//! When to ask again. Pure.

use std::time::{Duration, SystemTime};

/// How far from half-life a renewal may be, as a part of the whole life: workloads that started together must not
/// renew together for ever.
const JITTER: f64 = 0.05;
/// However short a certificate's life, and however wrong a clock, no more than one request in this time.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    pub begins: SystemTime,
    pub ends: SystemTime,
}

/// When to renew: half-life, moved by `jitter` (-1 to 1) times 5 % of the life.
pub fn renewal(life: Life, now: SystemTime, jitter: f64) -> SystemTime {
    let whole = life.ends.duration_since(life.begins).unwrap_or_default();
    let part = 0.5 + JITTER * jitter.clamp(-1.0, 1.0);
    (life.begins + whole.mul_f64(part)).max(now + PAUSE_MIN)
}

/// When to try again after a failure: after `wait`, but not later than what is held expires.
pub fn next_try(now: SystemTime, wait: Duration, held_until: Option<SystemTime>) -> SystemTime {
    let planned = now + wait;
    match held_until {
        Some(expiry) if expiry > now => planned.min(expiry),
        Some(_) | None => planned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn renewal_is_at_half_life_give_or_take() {
        let life = Life { begins: at(1000), ends: at(3000) };
        assert_eq!(renewal(life, at(1000), 0.0), at(2000));
        assert_eq!(renewal(life, at(1000), 1.0), at(2100));
        assert_eq!(renewal(life, at(1000), -1.0), at(1900));
        assert_eq!(renewal(life, at(2500), 0.0), at(2501), "late is at once, with a pause");
        assert_eq!(renewal(Life { begins: at(5), ends: at(1) }, at(9), 0.0), at(10), "nonsense is survived");
    }

    #[test]
    fn the_next_try_is_not_after_expiry() {
        let wait = Duration::from_secs(100);
        assert_eq!(next_try(at(0), wait, None), at(100));
        assert_eq!(next_try(at(0), wait, Some(at(60))), at(60));
        assert_eq!(next_try(at(0), wait, Some(at(200))), at(100));
        assert_eq!(next_try(at(50), wait, Some(at(40))), at(150));
    }
}
