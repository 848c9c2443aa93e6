//! ztunnel's ports, kept out of the range the kernel hands out for outgoing connections.
//!
//! Without this an app's ephemeral port may be 15001, and ztunnel's listener for the pod cannot be bound.
//!
//! In: a namespace. Out: its `ip_local_reserved_ports` with or without our ports; others' entries stay.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use lateen_net::netns::{Netns, NetnsError};

use super::sysctl;

const SETTING: &str = "ipv4/ip_local_reserved_ports";
const LIST_MAX: usize = 64 * 1024;
/// Outgoing, plain incoming, tunnels, DNS.
const OURS: [u16; 4] = [15001, 15006, 15008, 15053];

/// Adds our ports. The inner error is the file's: it may be read-only (see `sysctl`).
pub fn reserve(netns: &Netns) -> Result<io::Result<()>, NetnsError> {
    netns.run(|| change(with_ours))
}

/// Takes our ports out.
pub fn release(netns: &Netns) -> Result<io::Result<()>, NetnsError> {
    netns.run(|| change(without_ours))
}

fn change(edit: fn(BTreeSet<u16>) -> BTreeSet<u16>) -> io::Result<()> {
    let file = sysctl::file(SETTING);
    let before = read(&file)?;
    let ports = parse(&before).ok_or_else(|| io::Error::other(format!("{} holds {before:?}", file.display())))?;
    let after = edit(ports.clone());
    if after == ports {
        return Ok(());
    }
    std::fs::write(file, print(&after) + "\n")
}

/// The kernel answers the first read alone and nothing to a second one, so all of it must fit. (The standard library
/// begins with 32 bytes.)
fn read(file: &Path) -> io::Result<String> {
    let mut bytes = vec![0; LIST_MAX];
    let read = File::open(file)?.read(&mut bytes)?;
    if read == LIST_MAX {
        return Err(io::Error::other(format!("{} is longer than {LIST_MAX} bytes", file.display())));
    }
    bytes.truncate(read);
    String::from_utf8(bytes).map_err(io::Error::other)
}

fn with_ours(mut ports: BTreeSet<u16>) -> BTreeSet<u16> {
    ports.extend(OURS);
    ports
}

fn without_ours(mut ports: BTreeSet<u16>) -> BTreeSet<u16> {
    ports.retain(|port| !OURS.contains(port));
    ports
}

/// `1-3,7`, as the kernel prints it.
fn parse(text: &str) -> Option<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        ports.extend(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?);
    }
    Some(ports)
}

fn print(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
            Some(_) | None => ranges.push((*port, *port)),
        }
    }
    let range = |(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_reservations_stay() {
        let theirs = parse("8080,15000-15002,65535\n").expect("the kernel's form");
        let with = with_ours(theirs);
        assert_eq!(print(&with), "8080,15000-15002,15006,15008,15053,65535");
        assert_eq!(print(&without_ours(with)), "8080,15000,15002,65535");
        assert_eq!(print(&parse("\n").expect("empty")), "");
        assert_eq!(parse("x"), None);
    }
}
