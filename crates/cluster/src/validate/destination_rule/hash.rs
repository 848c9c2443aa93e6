//! Endpoints chosen by a hash: D9, D10.

use crate::validate::{
    at::{At, Report},
    duration::{self, Least},
    field,
};

const KEYS: [&str; 4] = ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"];
/// The first prime that a table may not have any more.
const TABLE_MAX: i64 = 5_000_011;

pub(super) fn check(hash: &At<'_>, report: &mut Report) {
    if field::alternatives(hash, &KEYS, report) == 0 {
        report.error(&hash.path, "it does not say what is hashed", format!("write {}", KEYS.join(", ")));
    }
    let algorithms = field::alternatives(hash, &["ringHash", "maglev"], report);
    if algorithms > 0 && hash.has("minimumRingSize") {
        let reason = "minimumRingSize is of the ring that is used without ringHash and maglev";
        report.error(hash.field("minimumRingSize"), reason, "write ringHash.minimumRingSize");
    }
    if let Some(size) = hash.get("maglev").and_then(|maglev| maglev.number("tableSize")) {
        let field = hash.field("maglev.tableSize");
        if size <= 0 || size >= TABLE_MAX {
            let mend = format!("write a prime below {TABLE_MAX}, or remove it: 65537 is usual");
            report.error(field, format!("{size} is not the size of a table"), mend);
        } else if !is_prime(size) {
            report.error(field, format!("{size} is not a prime"), "write one, such as 65537");
        }
    }
    let Some(cookie) = hash.get("httpCookie") else { return };
    field::required(&cookie, "name", "the cookie has no name", "name it", report);
    duration::check(&cookie, "ttl", Least::Zero, report);
    let mut seen: Vec<&str> = Vec::new();
    for attribute in field::entries(&cookie, "attributes", "attribute", report) {
        let name = attribute.text("name");
        if name.is_empty() {
            report.error(attribute.field("name"), "the attribute has no name", "name it");
        } else if seen.contains(&name) {
            report.error(attribute.field("name"), format!("the attribute {name:?} is there twice"), "remove one");
        }
        seen.push(name);
    }
}

fn is_prime(number: i64) -> bool {
    number > 1 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| number % divisor != 0)
}
