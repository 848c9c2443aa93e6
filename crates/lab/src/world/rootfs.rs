//! A private root directory: the host's programs, and everything that is written somewhere of our own.
//!
//! In: what to bind and which files to place. Out: the calling process (single-threaded) has a new root in a new mount
//! namespace. Absent on purpose: copying anything; the host's directories appear as links into [`HOST`].
//!
//! ```text
//! /            tmpfs           /usr /bin /home …  links into /.host
//! /.host       the host's root /etc /opt /var …   real directories of links, so that files can be placed in them
//! /run /tmp    empty           /dev /sys /proc    bound (proc: fresh for the lab, then bound)
//! ```

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::{chdir, pivot_root},
};

/// Where the host's root directory appears inside the lab.
pub(crate) const HOST: &str = "/.host";

/// Directories rebuilt as directories of links, because things are placed in them.
const REBUILT: [&str; 4] = ["etc", "opt", "var", "var/lib"];

/// Entries of rebuilt directories that are never taken from the host: they are ours, or they hold a node's state.
const OURS: [&str; 10] = [
    "etc/cni",
    "etc/resolv.conf",
    "etc/hosts",
    "etc/hostname",
    "opt/cni",
    "var/run",
    "var/tmp",
    "var/lib/cni",
    "var/lib/kubelet",
    "var/log",
];

/// Top-level entries that are made, not linked.
const MADE: [&str; 7] = ["proc", "sys", "dev", "run", "tmp", ".host", ".new"];

/// A new root directory.
#[derive(Debug)]
pub(crate) struct Root {
    /// Whose it is.
    pub kind: Kind,
    /// Directories and files bound into it.
    pub binds: Vec<Bind>,
    /// Files written into it.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Links placed in it: path and what it points to.
    pub links: Vec<(PathBuf, PathBuf)>,
}

/// Whose root it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The lab's: the host's root is taken from `/`; `/proc` is new, as is the pid namespace.
    Lab,
    /// A node's: the host's root is taken from [`HOST`]; `/proc` is new, as is the pid namespace.
    Node,
    /// A container's: the host's root is taken from [`HOST`]; `/proc` is its node's.
    Container,
}

/// One bind mount; paths are absolute, the source as seen before the change of root.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Bind {
    /// What appears.
    pub source: PathBuf,
    /// Where it appears.
    pub target: PathBuf,
    /// Whether writing is refused.
    pub read_only: bool,
}

impl Bind {
    /// A writable bind.
    pub fn rw(source: &Path, target: &Path) -> Self {
        Self { source: source.to_owned(), target: target.to_owned(), read_only: false }
    }
}

/// Moves the calling process into a new mount namespace with `root` as its root directory.
/// Mounts made later where the sources are still appear in it (they propagate one way).
pub(crate) fn enter(root: &Root) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    let way = match root.kind {
        Kind::Lab => MsFlags::MS_PRIVATE,
        Kind::Node | Kind::Container => MsFlags::MS_SLAVE,
    };
    change("/", way | MsFlags::MS_REC)?;
    // A directory that exists everywhere and hides no source: the old /proc is not needed any more, and our own
    // roots have a place for it.
    let new = match root.kind {
        Kind::Lab => PathBuf::from("/proc"),
        Kind::Node | Kind::Container => PathBuf::from("/.new"),
    };
    tmpfs(&new, "mode=0755")?;
    build(root, &new)?;
    pivot(root.kind, &new)
}

/// Says that mounts made below `/` later shall appear in the namespaces copied from this one.
pub(crate) fn share_mounts() -> anyhow::Result<()> {
    change("/", MsFlags::MS_SHARED | MsFlags::MS_REC)
}

fn build(root: &Root, new: &Path) -> anyhow::Result<()> {
    let host = match root.kind {
        Kind::Lab => Path::new("/"),
        Kind::Node | Kind::Container => Path::new(HOST),
    };
    for made in MADE {
        directory(&new.join(made))?;
    }
    mirror(host, new)?;
    tmpfs(&new.join("run"), "mode=0755")?;
    fs::set_permissions(new.join("tmp"), fs::Permissions::from_mode(0o1777)).context("opening /tmp to all")?;
    if root.kind != Kind::Lab {
        bind(Path::new(HOST), &new.join(".host"))?;
    }
    devices(root.kind, new)?;
    for each in &root.binds {
        place(each, new)?;
    }
    for (path, contents) in &root.files {
        let path = inside(new, path);
        open_up(new, &path)?;
        parent(&path)?;
        fs::write(&path, contents).with_context(|| format!("writing {}", path.display()))?;
    }
    for (path, to) in &root.links {
        let path = inside(new, path);
        parent(&path)?;
        link(to, &path)?;
    }
    Ok(())
}

/// `/proc`, `/dev` and `/sys`.
fn devices(kind: Kind, new: &Path) -> anyhow::Result<()> {
    let none: Option<&str> = None;
    let at = new.join("proc");
    match kind {
        Kind::Lab | Kind::Node => mount(Some("proc"), &at, Some("proc"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none).context(
            "mounting /proc: the kernel refuses it where /proc is partly hidden, as in most containers; run the lab outside",
        )?,
        Kind::Container => bind(Path::new("/proc"), &at)?,
    }
    bind(Path::new("/dev"), &new.join("dev"))?;
    // A fresh sysfs shows this network namespace's interfaces; where it is refused the host's view must do.
    let fresh = mount(Some("sysfs"), &new.join("sys"), Some("sysfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none);
    if fresh.is_err() {
        bind(Path::new("/sys"), &new.join("sys"))?;
    }
    Ok(())
}

/// Fills `new` with links to what `host` holds, and with directories of links where we place things.
fn mirror(host: &Path, new: &Path) -> anyhow::Result<()> {
    mirror_directory(host, Path::new(""), new)?;
    for made in ["etc/cni/net.d", "opt/cni/bin", "var/lib/cni", "var/lib/kubelet", "var/log", "var/tmp"] {
        directory(&new.join(made))?;
    }
    link(Path::new("/run"), &new.join("var/run"))?;
    fs::write(new.join("etc/resolv.conf"), "").context("writing /etc/resolv.conf")?;
    fs::write(new.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n").context("writing /etc/hosts")
}

fn mirror_directory(host: &Path, at: &Path, new: &Path) -> anyhow::Result<()> {
    let listed = match fs::read_dir(host.join(at)) {
        Err(error) if !at.as_os_str().is_empty() && absent(&error) => return Ok(()),
        other => other.with_context(|| format!("listing {}", host.join(at).display()))?,
    };
    for entry in listed {
        let entry = entry.with_context(|| format!("listing {}", host.join(at).display()))?;
        let path = at.join(entry.file_name());
        let is = |names: &[&str]| names.iter().any(|name| Path::new(name) == path);
        if is(&OURS) || is(&MADE) {
            continue;
        }
        if is(&REBUILT) {
            directory(&new.join(&path))?;
            mirror_directory(host, &path, new)?;
            continue;
        }
        let kind = entry.file_type().with_context(|| format!("looking at {}", path.display()))?;
        // Links stay what they are: a relative one would mean something else if reached through /.host.
        let to = if kind.is_symlink() {
            fs::read_link(host.join(&path)).with_context(|| format!("reading the link {}", path.display()))?
        } else {
            Path::new(HOST).join(&path)
        };
        link(&to, &new.join(&path))?;
    }
    Ok(())
}

/// What an ordinary user may not list is as good as absent.
fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

/// Makes `new` the root. The old one stays visible as [`HOST`] the first time and disappears afterwards.
fn pivot(kind: Kind, new: &Path) -> anyhow::Result<()> {
    let old = match kind {
        Kind::Lab => new.join(".host"),
        Kind::Node | Kind::Container => new.join(".old"),
    };
    directory(&old)?;
    pivot_root(new, &old).context("changing the root directory")?;
    chdir("/").context("entering the new root directory")?;
    if kind != Kind::Lab {
        umount2("/.old", MntFlags::MNT_DETACH).context("letting go of the old root directory")?;
        fs::remove_dir("/.old").context("removing /.old")?;
    }
    Ok(())
}

fn place(each: &Bind, new: &Path) -> anyhow::Result<()> {
    let target = inside(new, &each.target);
    open_up(new, &target)?;
    let of_directory =
        fs::metadata(&each.source).with_context(|| format!("looking at {}", each.source.display()))?.is_dir();
    if of_directory {
        directory(&target)?;
    } else if !target.exists() {
        parent(&target)?;
        // What stands there may be a link out of the new root: place a file of ours instead.
        drop(fs::remove_file(&target));
        fs::write(&target, "").with_context(|| format!("making {}", target.display()))?;
    }
    bind(&each.source, &target)?;
    if each.read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        let none: Option<&str> = None;
        mount(none, &target, none, flags, none)
            .with_context(|| format!("making {} read-only", each.target.display()))?;
    }
    Ok(())
}

/// Makes real directories of the links into the host's root on the way to `path`, so that it can be placed.
fn open_up(new: &Path, path: &Path) -> anyhow::Result<()> {
    let below = path.strip_prefix(new).unwrap_or(path);
    let mut at = new.to_owned();
    for part in below.components() {
        at.push(part);
        let Ok(to) = fs::read_link(&at) else { continue };
        let Ok(on_host) = to.strip_prefix(HOST) else { continue };
        if at == path && !new.join(".host").join(on_host).is_dir() {
            continue;
        }
        fs::remove_file(&at).with_context(|| format!("replacing the link {}", at.display()))?;
        directory(&at)?;
        let listed = match fs::read_dir(new.join(".host").join(on_host)) {
            Err(error) if absent(&error) => continue,
            other => other.with_context(|| format!("listing {}", to.display()))?,
        };
        for entry in listed {
            let name = entry.with_context(|| format!("listing {}", to.display()))?.file_name();
            link(&to.join(&name), &at.join(&name))?;
        }
    }
    Ok(())
}

/// `path` of the new root before the change; `/var/run` is `/run`, and a link must not lead out.
fn inside(new: &Path, path: &Path) -> PathBuf {
    let plain = path.strip_prefix("/").unwrap_or(path);
    match plain.strip_prefix("var/run") {
        Ok(rest) => new.join("run").join(rest),
        Err(_) => new.join(plain),
    }
}

fn bind(source: &Path, target: &Path) -> anyhow::Result<()> {
    let none: Option<&str> = None;
    mount(Some(source), target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .with_context(|| format!("binding {} at {}", source.display(), target.display()))
}

fn tmpfs(at: &Path, options: &str) -> anyhow::Result<()> {
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options))
        .with_context(|| format!("mounting a tmpfs at {}", at.display()))
}

fn change(at: &str, flags: MsFlags) -> anyhow::Result<()> {
    let none: Option<&str> = None;
    mount(none, at, none, flags, none).with_context(|| format!("changing the propagation of {at}"))
}

fn directory(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("making the directory {}", path.display()))
}

fn parent(path: &Path) -> anyhow::Result<()> {
    path.parent().map_or(Ok(()), directory)
}

fn link(to: &Path, at: &Path) -> anyhow::Result<()> {
    symlink(to, at).with_context(|| format!("linking {} to {}", at.display(), to.display()))
}
