//! What is taken at each port, so that whoever comes second is told.
//!
//! In: what is opened, in order. Out: what of it somebody else has already. Absent on purpose: who that is to be (order is
//! age, and a gateway's own listeners come first).

use std::collections::{BTreeMap, HashSet};

use lateen_wire::proxy::listener::Kind;

use super::judge::Spoken;

/// What is spoken at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Http,
    Tls,
    Tcp,
}

/// Everything so far.
#[derive(Debug, Default)]
pub struct Taken {
    ports: BTreeMap<u16, Family>,
    /// Names in handshakes.
    names: HashSet<(u16, String)>,
}

impl Taken {
    /// Notes a listener of the gateway's own.
    pub fn own(&mut self, port: u16, host: &str, spoken: Spoken) {
        let family = match spoken {
            Spoken::Http => Family::Http,
            Spoken::Https | Spoken::Terminated | Spoken::Passed => Family::Tls,
            Spoken::Tcp => Family::Tcp,
            Spoken::Tunnels => return,
        };
        self.ports.entry(port).or_insert(family);
        if family == Family::Tls {
            self.names.insert((port, host.to_owned()));
        }
    }

    /// Takes a port, or says why it cannot be had: something else is spoken there. What of it others have is taken out of
    /// it, and said.
    pub fn take(&mut self, port: u16, kind: &mut Kind) -> Result<Vec<String>, String> {
        let family = match kind {
            Kind::Http(_) => Family::Http,
            Kind::Tls(_) => Family::Tls,
            Kind::Tcp(_) => Family::Tcp,
        };
        if *self.ports.entry(port).or_insert(family) != family {
            return Err(format!("port {port} is taken by an older server that speaks something else; choose another"));
        }
        let mut problems = Vec::new();
        if let Kind::Tls(all) = kind {
            all.hosts.retain(|host| {
                let is_free = self.names.insert((port, host.host.clone()));
                if !is_free {
                    problems.push(format!("an older server has the host {} at port {port}", host.host));
                }
                is_free
            });
        }
        Ok(problems)
    }
}
