//! Network namespaces: open, make, compare, and work inside one for a moment.
//!
//! In: paths and descriptors. Out: [`Netns`], whose scope runs a synchronous closure inside the namespace.
//! Absent on purpose: an asynchronous scope. A task may move to another thread at an await, a namespace may not.
//!
//! A thread's namespace is changed by this module only; it remembers per thread where the thread belongs.

use std::{
    cell::RefCell,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
};

use nix::sched::{CloneFlags, setns, unshare};

mod loopback;

/// The namespace of the calling thread (not of the process: threads may differ).
const OF_THIS_THREAD: &str = "/proc/thread-self/ns/net";

/// What went wrong with a namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The path cannot be opened.
    #[error("cannot open network namespace {}: {source}", path.display())]
    Open {
        /// What was opened.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The descriptor is something else, for example a file or another kind of namespace.
    #[error("descriptor {fd} is not a network namespace; pass one opened from /proc/<pid>/ns/net or /run/netns")]
    NotANetns {
        /// Its number.
        fd: i32,
    },
    /// A fresh namespace could not be made.
    #[error("cannot make a network namespace: {0}; CAP_SYS_ADMIN is needed")]
    Create(io::Error),
    /// The namespace could not be entered.
    #[error("cannot enter network namespace {id}: {source}; CAP_SYS_ADMIN in its user namespace is needed")]
    Enter {
        /// The namespace.
        id: NetnsId,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The loopback interface could not be brought up.
    #[error("cannot bring up lo in network namespace {id}: {source}")]
    Loopback {
        /// The namespace.
        id: NetnsId,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What tells two namespaces apart: device and inode of the nsfs file. Inodes alone are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsId {
    /// The nsfs device.
    pub device: u64,
    /// The inode on it.
    pub inode: u64,
}

impl std::fmt::Display for NetnsId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.device, self.inode)
    }
}

/// A network namespace, held open; clones share the descriptor. It lives at least as long as this value.
#[derive(Debug, Clone)]
pub struct Netns {
    fd: Arc<OwnedFd>,
    id: NetnsId,
}

thread_local! {
    /// Where this thread is now, filled at its first scope. Opening it afresh each time would cost three system
    /// calls per dialled connection.
    static HERE: RefCell<Option<Netns>> = const { RefCell::new(None) };
}

impl Netns {
    /// Opens a namespace by path, for example `/run/netns/pod-1` or `/proc/7/ns/net`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NetnsError> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|source| NetnsError::Open { path: path.to_owned(), source })?;
        Self::from_fd(file.into())
    }

    /// Takes a descriptor that must be a network namespace.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, NetnsError> {
        if namespace_type(fd.as_fd()).ok() != Some(libc::CLONE_NEWNET) {
            return Err(NetnsError::NotANetns { fd: fd.as_raw_fd() });
        }
        let stat = nix::sys::stat::fstat(&fd).map_err(|_| NetnsError::NotANetns { fd: fd.as_raw_fd() })?;
        Ok(Self { fd: Arc::new(fd), id: NetnsId { device: stat.st_dev, inode: stat.st_ino } })
    }

    /// The calling thread's namespace.
    pub fn current() -> Result<Self, NetnsError> {
        match HERE.with_borrow(Clone::clone) {
            Some(here) => Ok(here),
            None => Self::open(OF_THIS_THREAD),
        }
    }

    /// Makes a fresh namespace without a name: it ends with its last descriptor, socket and process. `lo` is down in it.
    pub fn create() -> Result<Self, NetnsError> {
        let made = std::thread::Builder::new().name("netns-create".into()).spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| NetnsError::Create(errno.into()))?;
            Self::open(OF_THIS_THREAD)
        });
        let failed = || NetnsError::Create(io::Error::other("the thread that makes it panicked"));
        made.map_err(NetnsError::Create)?.join().map_err(|_| failed())?
    }

    /// What tells this namespace from others.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// Runs `work` with the calling thread inside this namespace. What is created inside (sockets, processes) stays in
    /// it. Scopes nest. If the thread cannot go back, the process aborts: it would act in a stranger's network.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, NetnsError> {
        let home = Self::current()?;
        if home.id == self.id {
            return Ok(work());
        }
        self.enter()?;
        HERE.set(Some(self.clone()));
        let _back = Back { home };
        Ok(work())
    }

    /// Moves the calling thread into this namespace for good. For programs' first moments, before other threads start.
    pub fn stay(&self) -> Result<(), NetnsError> {
        self.enter()?;
        HERE.set(Some(self.clone()));
        Ok(())
    }

    /// Starts a process inside this namespace. (`run` does the same for other kinds of command.)
    pub fn spawn(&self, command: &mut Command) -> Result<io::Result<Child>, NetnsError> {
        self.run(|| command.spawn())
    }

    /// Brings the loopback interface up.
    pub fn loopback_up(&self) -> Result<(), NetnsError> {
        self.run(loopback::up)?.map_err(|source| NetnsError::Loopback { id: self.id, source })
    }

    fn enter(&self) -> Result<(), NetnsError> {
        setns(&*self.fd, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| NetnsError::Enter { id: self.id, source: errno.into() })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Takes the thread home, also when the closure panics.
struct Back {
    home: Netns,
}

impl Drop for Back {
    fn drop(&mut self) {
        if let Err(error) = self.home.enter() {
            tracing::error!(%error, "cannot leave a network namespace; aborting rather than serving in the wrong one");
            std::process::abort();
        }
        HERE.set(Some(self.home.clone()));
    }
}

#[allow(unsafe_code)]
fn namespace_type(fd: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: NS_GET_NSTYPE (ioctl_nsfs(2)) takes no argument and touches no memory of ours; on a descriptor that is
    // not a namespace it fails with ENOTTY. The descriptor is borrowed, so it is open for the length of the call.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_changes_the_namespace_and_comes_back() {
        let home = Netns::open(OF_THIS_THREAD).expect("open");
        let (one, two) = (Netns::create().expect("create"), Netns::create().expect("create"));
        assert_ne!(one.id(), two.id());
        let seen = || Netns::open(OF_THIS_THREAD).expect("open").id();
        one.run(|| {
            assert_eq!(seen(), one.id());
            two.run(|| assert_eq!(seen(), two.id())).expect("enter");
            assert_eq!(seen(), one.id());
            assert_eq!(Netns::current().expect("current").id(), one.id());
        })
        .expect("enter");
        assert_eq!(seen(), home.id());
    }

    #[test]
    fn a_panic_inside_comes_back_too() {
        let home = Netns::open(OF_THIS_THREAD).expect("open").id();
        let inside = Netns::create().expect("create");
        let panicked = std::panic::catch_unwind(|| inside.run(|| panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(Netns::open(OF_THIS_THREAD).expect("open").id(), home);
    }

    #[test]
    fn what_is_not_a_network_namespace_is_refused() {
        for path in ["/dev/null", "/proc/self/ns/mnt", "/proc/self/ns/uts", "/"] {
            assert!(matches!(Netns::open(path), Err(NetnsError::NotANetns { .. })), "{path} was accepted");
        }
        assert!(matches!(Netns::open("/no/such/path"), Err(NetnsError::Open { .. })));
    }

    #[test]
    fn a_process_starts_inside() {
        let inside = Netns::create().expect("create");
        let mut command = Command::new("readlink");
        command.arg("/proc/self/ns/net").stdout(std::process::Stdio::piped());
        let child = inside.spawn(&mut command).expect("enter").expect("spawn");
        let said = child.wait_with_output().expect("output").stdout;
        assert_eq!(String::from_utf8_lossy(&said).trim(), format!("net:[{}]", inside.id().inode));
    }

    #[test]
    fn loopback_comes_up() {
        let inside = Netns::create().expect("create");
        let bound = |address| inside.run(|| std::net::UdpSocket::bind(address)).expect("enter");
        let sent = |socket: std::net::UdpSocket| socket.send_to(b"x", socket.local_addr().expect("address"));
        assert!(sent(bound("127.0.0.1:0").expect("bind")).is_err(), "lo begins down");
        inside.loopback_up().expect("up");
        sent(bound("127.0.0.1:0").expect("bind")).expect("lo is up");
        sent(bound("[::1]:0").expect("bind")).expect("lo is up for IPv6");
    }
}
