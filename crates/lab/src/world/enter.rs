//! Going into a running lab from outside: a container's namespaces, or just its network.
//!
//! In: a lab and a container. Out: a command running there, or an HTTP answer from there.
//!
//! ```text
//! lateen lab exec ─ setns(user, pid, mnt of the node) ─► lateen __lab-enter ─ setns(net, uts, mnt of the container) ─► command
//! ```
//! Two steps, because a process enters a pid namespace only with its children.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::sched::{CloneFlags, setns};

use super::{rootfs::HOST, state::StateDir};
use crate::verbs;

/// How long a local answer may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// More than any dump of a lab.
const FETCH_MAX: u64 = 256 << 20;

/// A container of a running lab.
#[derive(Debug, Clone)]
pub struct Place {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container; the first one if absent.
    pub container: Option<String>,
}

/// Runs `command` in a container with our standard streams. Its exit code.
pub fn exec(state: &StateDir, place: &Place, command: &[String]) -> anyhow::Result<ExitCode> {
    let mut child = inside(state, place, verbs::ENTER)?;
    let end = child.args(command).status().context("starting the command in the lab")?;
    Ok(ExitCode::from(end.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255)))
}

/// A container that was started in a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Its pod's namespace.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its name.
    pub container: String,
    /// Its node.
    pub node: String,
    /// Its process, as its node sees it.
    pid: i32,
}

/// The containers started in a lab, sorted.
pub fn noted(state: &StateDir) -> anyhow::Result<Vec<Noted>> {
    let mut all = Vec::new();
    for (namespace, dir) in entries(&state.containers())? {
        for (pod, dir) in entries(&dir)? {
            for (container, file) in entries(&dir)? {
                let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
                let Some((pid, node)) = text.split_once(' ') else { continue };
                let Ok(pid) = pid.parse() else { continue };
                all.push(Noted {
                    namespace: namespace.clone(),
                    pod: pod.clone(),
                    container,
                    node: node.trim().to_owned(),
                    pid,
                });
            }
        }
    }
    Ok(all)
}

/// Names and paths in a directory, sorted; none if it is absent.
fn entries(dir: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("listing {}", dir.display()))?,
    };
    let mut all: Vec<_> = listed
        .filter_map(|entry| entry.ok().map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
        .collect();
    all.sort();
    Ok(all)
}

/// What a server on the loopback of a container's network answers to GET `path`. Needs a process of its own, because
/// the one that goes into the lab cannot come back.
pub fn ask(state: &StateDir, container: &Noted, port: u16, path: &str) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("/proc/self/exe")
        .arg(verbs::ASK)
        .arg(state.path())
        .args([&container.namespace, &container.pod, &container.container])
        .arg(port.to_string())
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .context("asking in the lab")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// The process that goes into the lab for [`ask`].
pub(crate) fn print_fetched(state: &Path, place: &[String], port: &str, path: &str) -> anyhow::Result<ExitCode> {
    let [namespace, pod, container] = place else { bail!("a container has a namespace, a pod and a name") };
    let place = Place { namespace: namespace.clone(), pod: pod.clone(), container: Some(container.clone()) };
    let mut child = inside(&StateDir::at(state), &place, verbs::FETCH)?;
    let end = child.arg(port).arg(path).status().context("asking in the lab")?;
    Ok(if end.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A command that will run our binary with `verb` and the container's process id inside the lab.
/// The calling process is moved into the node's namespaces for good; it must be single-threaded.
fn inside(state: &StateDir, place: &Place, verb: &str) -> anyhow::Result<Command> {
    if !state.alive()? {
        bail!("no lab runs with the state directory {}; start one with `lateen lab up`", state.path().display());
    }
    let container = container(state, place)?;
    let own = fs::read_link("/proc/self/exe").context("looking for our own program")?;
    let own = Path::new(HOST).join(own.strip_prefix("/").unwrap_or(&own));
    let note = state.nodes().join(&container.node);
    let node = fs::read_to_string(&note).with_context(|| format!("reading {}", note.display()))?;
    // The node's first process through the eyes of the lab's: process ids differ outside.
    let eyes = PathBuf::from(format!("/proc/{}/root", state.pid()?));
    let node = eyes.join(format!("proc/{}/ns", node.trim()));
    let mut kinds = Vec::new();
    for (kind, flag) in
        [("user", CloneFlags::CLONE_NEWUSER), ("pid", CloneFlags::CLONE_NEWPID), ("mnt", CloneFlags::CLONE_NEWNS)]
    {
        let path = node.join(kind);
        let (theirs, ours) = (fs::read_link(&path), fs::read_link(format!("/proc/self/ns/{kind}")));
        let theirs = theirs.with_context(|| format!("looking at {}", path.display()))?;
        // Entering one's own user namespace is an error.
        if ours.is_ok_and(|ours| ours == theirs) {
            continue;
        }
        kinds.push((File::open(&path).with_context(|| format!("opening {}", path.display()))?, flag, kind));
    }
    for (file, flag, kind) in kinds {
        setns(file, flag).with_context(|| format!("entering the node's {kind} namespace"))?;
    }
    let mut command = Command::new(own);
    command.arg(verb).arg(container.pid.to_string());
    Ok(command)
}

/// The container of `place`.
fn container(state: &StateDir, place: &Place) -> anyhow::Result<Noted> {
    let wanted = |noted: &Noted| {
        let named = place.container.as_ref().is_none_or(|name| *name == noted.container);
        noted.namespace == place.namespace && noted.pod == place.pod && named
    };
    let found = noted(state)?.into_iter().find(wanted);
    found.with_context(|| format!("no running container of pod {}/{}", place.namespace, place.pod))
}

/// Inside the lab: becomes `command` in the namespaces of process `pid`, with that process's environment.
pub(crate) fn become_command(pid: &str, command: &[String]) -> anyhow::Result<ExitCode> {
    let (program, arguments) = command.split_first().context("no command was given")?;
    let env = fs::read(format!("/proc/{pid}/environ")).context("the container is not running")?;
    let env: Vec<(String, String)> = env
        .split(|byte| *byte == 0)
        .filter_map(|entry| {
            let text = String::from_utf8_lossy(entry);
            text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        })
        .collect();
    join(
        pid,
        &[("net", CloneFlags::CLONE_NEWNET), ("uts", CloneFlags::CLONE_NEWUTS), ("mnt", CloneFlags::CLONE_NEWNS)],
    )?;
    std::env::set_current_dir("/").context("entering the container's root directory")?;
    let failed = Command::new(program).args(arguments).env_clear().envs(env).exec();
    Err(failed).with_context(|| format!("starting {program:?}"))
}

/// Inside the lab: prints what the loopback of process `pid`'s network answers.
pub(crate) fn print_answer(pid: &str, port: &str, path: &str) -> anyhow::Result<ExitCode> {
    join(pid, &[("net", CloneFlags::CLONE_NEWNET)])?;
    let port: u16 = port.parse().context("the port")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let body = get(address, path).with_context(|| format!("asking http://{address}{path}"))?;
    io::stdout().write_all(&body).context("printing the answer")?;
    Ok(ExitCode::SUCCESS)
}

fn join(pid: &str, kinds: &[(&str, CloneFlags)]) -> anyhow::Result<()> {
    let mut files = Vec::new();
    for (kind, flag) in kinds {
        let path = format!("/proc/{pid}/ns/{kind}");
        files
            .push((File::open(&path).with_context(|| format!("opening {path}: the container is not running"))?, *flag));
    }
    files.into_iter().try_for_each(|(file, flag)| setns(file, flag).context("entering the container's namespaces"))
}

/// A plain HTTP/1.0 exchange: no keep-alive and no chunks to understand.
fn get(address: SocketAddr, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, FETCH_TIMEOUT)?;
    stream.set_read_timeout(Some(FETCH_TIMEOUT))?;
    stream.set_write_timeout(Some(FETCH_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(FETCH_MAX).read_to_end(&mut answer)?;
    body(&answer)
}

fn body(answer: &[u8]) -> anyhow::Result<Vec<u8>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("the answer is not HTTP")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.lines().next().unwrap_or_default();
    let body = &answer[end + 4..];
    if status.split(' ').nth(1) != Some("200") {
        bail!("{status}: {}", String::from_utf8_lossy(body).trim());
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nhi").expect("fine"), b"hi");
        assert!(body(b"HTTP/1.1 503 No\r\n\r\nwhy").expect_err("refused").to_string().contains("why"));
        assert!(body(b"SSH-2.0\r\n").is_err());
    }
}
