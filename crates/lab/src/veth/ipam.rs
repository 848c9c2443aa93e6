//! Which pod has which address: one file per lease in a directory of the node.
//!
//! In: a range and a container. Out: an address nobody else holds. Addresses are reused as late as possible, so that a
//! new pod does not inherit what is still said to an old one.

use std::{
    fs::{self, File},
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use ipnet::IpNet;
use nix::fcntl::{Flock, FlockArg};

/// How many addresses of a range are used at most: enough for a node, and a bound on the search.
const HOSTS_MAX: usize = 253;

/// The leases of a node.
#[derive(Debug)]
pub(super) struct Leases {
    dir: PathBuf,
}

impl Leases {
    /// Kept in `dir`, which is made when needed.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// An address of `range` for `container`; the same one if it holds one already.
    pub fn take(&self, range: IpNet, container: &str) -> anyhow::Result<IpAddr> {
        let _lock = self.lock()?;
        if let Some(held) = self.held(container)?.into_iter().find(|held| range.contains(held)) {
            return Ok(held);
        }
        // The first host is the gateway.
        let hosts: Vec<IpAddr> = range.hosts().skip(usize::from(range.addr().is_ipv6()) + 1).take(HOSTS_MAX).collect();
        let note = self.dir.join(format!("last-{}", if range.addr().is_ipv4() { 4 } else { 6 }));
        let last: Option<IpAddr> = fs::read_to_string(&note).ok().and_then(|text| text.parse().ok());
        let after = last.and_then(|last| hosts.iter().position(|host| *host == last)).map_or(0, |at| at + 1);
        for host in hosts.iter().cycle().skip(after).take(hosts.len()) {
            let path = self.dir.join(host.to_string());
            if path.exists() {
                continue;
            }
            fs::write(&path, container).with_context(|| format!("writing the lease {}", path.display()))?;
            fs::write(&note, host.to_string()).with_context(|| format!("writing {}", note.display()))?;
            return Ok(*host);
        }
        bail!("no address of {range} is free")
    }

    /// What `container` holds.
    pub fn held(&self, container: &str) -> anyhow::Result<Vec<IpAddr>> {
        Ok(self.all()?.into_iter().filter(|(_, holder)| holder == container).map(|(address, _)| address).collect())
    }

    /// Takes back what `container` holds.
    pub fn release(&self, container: &str) -> anyhow::Result<()> {
        let _lock = self.lock()?;
        self.drop_all(&self.held(container)?)
    }

    /// Takes back what none of `containers` holds.
    pub fn keep_only(&self, containers: &[String]) -> anyhow::Result<()> {
        let _lock = self.lock()?;
        let stale = self.all()?.into_iter().filter(|(_, holder)| !containers.contains(holder));
        self.drop_all(&stale.map(|(address, _)| address).collect::<Vec<_>>())
    }

    fn drop_all(&self, addresses: &[IpAddr]) -> anyhow::Result<()> {
        for address in addresses {
            let path = self.dir.join(address.to_string());
            fs::remove_file(&path).with_context(|| format!("removing the lease {}", path.display()))?;
        }
        Ok(())
    }

    fn all(&self) -> anyhow::Result<Vec<(IpAddr, String)>> {
        let listed = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("listing {}", self.dir.display()))?,
        };
        let mut all = Vec::new();
        for entry in listed {
            let entry = entry.with_context(|| format!("listing {}", self.dir.display()))?;
            let Some(address) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let holder = fs::read_to_string(entry.path()).with_context(|| format!("reading the lease of {address}"))?;
            all.push((address, holder));
        }
        Ok(all)
    }

    fn lock(&self) -> anyhow::Result<Flock<File>> {
        fs::create_dir_all(&self.dir).with_context(|| format!("making {}", self.dir.display()))?;
        let path = self.dir.join("lock");
        let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("locking {}", path.display()))
    }
}

/// The node's own address in a range.
pub(super) fn gateway(range: IpNet) -> IpAddr {
    range.hosts().nth(usize::from(range.addr().is_ipv6())).unwrap_or_else(|| range.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_once_and_reused_late() {
        let dir = tempfile::tempdir().expect("a directory");
        let leases = Leases::at(dir.path());
        let range: IpNet = "10.244.1.0/29".parse().expect("a range");
        assert_eq!(gateway(range).to_string(), "10.244.1.1");
        let take = |who: &str| leases.take(range, who).map(|address| address.to_string());
        assert_eq!(take("a").expect("free"), "10.244.1.2");
        assert_eq!(take("a").expect("held"), "10.244.1.2");
        leases.release("a").expect("released");
        assert_eq!(take("b").expect("free"), "10.244.1.3", "not the one just released");
        for who in ["c", "d", "e", "f"] {
            take(who).expect("free");
        }
        assert!(take("g").is_err(), "the range is exhausted");
        leases.keep_only(&["b".to_owned()]).expect("collected");
        assert_eq!(leases.held("b").expect("listed").len(), 1);
        assert!(take("g").is_ok());
    }

    #[test]
    fn ipv6_ranges_begin_with_the_gateway_at_one() {
        let range: IpNet = "fd00:10:244:1::/64".parse().expect("a range");
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(gateway(range).to_string(), "fd00:10:244:1::1");
        assert_eq!(Leases::at(dir.path()).take(range, "a").expect("free").to_string(), "fd00:10:244:1::2");
    }
}
