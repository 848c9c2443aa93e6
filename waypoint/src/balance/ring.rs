//! A ring of hashes: a key belongs to the next point, so that few keys move when endpoints come or go.
//!
//! In: members with names and weights. Out: for a hash, a member. Absent on purpose: what is hashed.

use super::hash::hash;

/// The ring.
#[derive(Debug)]
pub(super) struct Ring {
    /// By hash.
    points: Box<[Point]>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    hash: u64,
    member: u32,
}

/// More points would be more memory than endpoints are worth.
const POINTS_MAX: f64 = 8_388_608.0;

/// A member: its number, its name, its weight (all together 1).
#[derive(Debug, Clone)]
pub(super) struct Weighted {
    pub(super) member: u32,
    pub(super) name: String,
    pub(super) weight: f64,
}

impl Ring {
    /// At least `points_min` points, as many for each member as its weight says, at least one for the lightest.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small sizes"
    )]
    pub(super) fn new(members: &[Weighted], points_min: usize) -> Self {
        let lightest = members.iter().map(|one| one.weight).fold(1.0, f64::min);
        // A power of two: one endpoint more or less then mostly leaves the others' points as they are, and with them the
        // homes of all keys but its own.
        let of_lightest = ((lightest * points_min as f64).ceil() as u64).max(1).next_power_of_two();
        let scale = (of_lightest as f64 / lightest).min(POINTS_MAX);
        let mut points = Vec::with_capacity(scale as usize + members.len());
        let (mut until, mut made) = (0.0, 0.0);
        for one in members {
            until += scale * one.weight;
            let mut number = 0_u32;
            while made < until {
                points.push(Point { hash: hash(format!("{}_{number}", one.name).as_bytes()), member: one.member });
                number += 1;
                made += 1.0;
            }
        }
        points.sort_unstable_by_key(|point| (point.hash, point.member));
        Self { points: points.into() }
    }

    /// The member that `hash` belongs to, or, after `skipped` further points, another.
    pub(super) fn find(&self, hash: u64, skipped: usize) -> Option<u32> {
        let at = self.points.partition_point(|point| point.hash < hash);
        let point = self.points.get((at + skipped).checked_rem(self.points.len())?)?;
        Some(point.member)
    }
}
