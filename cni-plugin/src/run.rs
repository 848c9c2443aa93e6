//! One command from request to answer.
//!
//! In: environment and stdin. Out: text for stdout, success or not. The choice ([`choose`]) is pure; `run` carries it
//! out. Without an agent a pod that might be ours is refused, so that it never starts outside the mesh; the runtime
//! tries again.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    args::{Attach, Detach, PodName, Request},
    config::{Environment, NetConf, spoken_version},
    door::{self, AddEvent, AskError, DOOR_TIMEOUT, DelEvent, GcEvent, ask},
    result::{CniVersion, Code, Failure, versions},
};

/// The largest configuration that is read.
pub const STDIN_MAX: usize = 1024 * 1024;
/// The agent's own pods start before there is an agent to ask.
const AGENT_POD_PREFIX: &str = "istio-cni-node-";
/// DEL and GC must not hold up a pod's end for long.
const BEST_EFFORT_TIMEOUT: Duration = Duration::from_secs(2);

/// What the process prints, and how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// All of stdout.
    pub stdout: String,
    /// Exit code 0 or 1.
    pub success: bool,
}

/// Answers the command. `stdin` is what was read of it, up to one byte more than [`STDIN_MAX`].
pub fn run(env: &Environment, stdin: std::io::Result<&[u8]>) -> Printed {
    let (version, outcome) = match stdin {
        Err(error) => {
            let failure = Failure::new(Code::Io, format!("reading stdin: {error}"), "the runtime must write it");
            (CniVersion::NEWEST, Err(failure))
        }
        Ok(bytes) if bytes.len() > STDIN_MAX => {
            let msg = format!("the network configuration is longer than {STDIN_MAX} bytes");
            (CniVersion::NEWEST, Err(Failure::new(Code::Decode, msg, "shorten it; a usual one has a few hundred")))
        }
        Ok(bytes) => (spoken_version(bytes).unwrap_or(CniVersion::NEWEST), answer(env, bytes)),
    };
    match outcome {
        Ok(None) => Printed { stdout: String::new(), success: true },
        Ok(Some(json)) => Printed { stdout: format!("{json}\n"), success: true },
        Err(failure) => Printed { stdout: format!("{}\n", failure.to_json(version)), success: false },
    }
}

fn answer(env: &Environment, stdin: &[u8]) -> Result<Option<Value>, Failure> {
    // DEL always succeeds: a runtime that cannot delete keeps the pod's addresses and tries for ever.
    if env.command.as_deref() == Some("DEL") {
        if let Ok(Request::Del(del)) = Request::parse(env, stdin) {
            tell_del(&del);
        }
        return Ok(None);
    }
    match Request::parse(env, stdin)? {
        Request::Version => Ok(Some(versions(spoken_version(stdin).unwrap_or(CniVersion::NEWEST)))),
        Request::Add(add) => self::add(&add).map(Some),
        Request::Check(check) => self::check(&check).map(|()| None),
        Request::Status(conf) => status(&conf).map(|()| None),
        Request::Gc(conf) => {
            tell_gc(&conf);
            Ok(None)
        }
        Request::Del(_) => Ok(None),
    }
}

/// What to do about a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'r> {
    /// Certainly not ours: say yes at once.
    PassThrough,
    /// Possibly ours: the agent decides.
    Ask(&'r PodName),
}

/// Who is let through without the agent's word.
pub fn choose<'r>(conf: &NetConf, pod: Option<&'r PodName>) -> Choice<'r> {
    let Some(pod) = pod else { return Choice::PassThrough };
    let agents_own = pod.namespace == conf.agent_namespace && pod.name.starts_with(AGENT_POD_PREFIX);
    if !conf.ambient_enabled || agents_own || conf.exclude_namespaces.contains(&pod.namespace) {
        return Choice::PassThrough;
    }
    Choice::Ask(pod)
}

fn add(add: &Attach) -> Result<Value, Failure> {
    let result = || match &add.previous {
        Some(previous) => previous.json.clone(),
        None => json!({"cniVersion": add.conf.version.as_str()}),
    };
    let Choice::Ask(pod) = choose(&add.conf, add.pod.as_ref()) else { return Ok(result()) };
    let name = format!("pod {}/{}", pod.namespace, pod.name);
    let answer = ask(&add.conf.run_dir, door::ADD_PATH, &event(add, pod), DOOR_TIMEOUT).map_err(|error| {
        Failure::new(
            Code::TryAgain,
            format!("{name} is not started outside the mesh: {error}"),
            "is the agent (DaemonSet istio-cni-node) running on this node? The runtime tries again by itself",
        )
    })?;
    match answer.status {
        200..=299 => Ok(result()),
        status @ 500..=599 => Err(Failure::new(
            Code::TryAgain,
            format!("{name} could not be enrolled: {}", answer.text),
            format!("the agent answered {status}; see its log. The runtime tries again by itself"),
        )),
        status => Err(Failure::new(
            Code::Refused,
            format!("{name} was refused by the agent: {}", answer.text),
            format!("the agent answered {status}; are plugin and agent of one version?"),
        )),
    }
}

fn event(attach: &Attach, pod: &PodName) -> AddEvent {
    let ips = attach.previous.iter().flat_map(|previous| previous.ips.iter().copied().map(Into::into)).collect();
    AddEvent {
        netns: attach.netns.clone(),
        pod_name: pod.name.clone(),
        pod_namespace: pod.namespace.clone(),
        ips,
        pod_uid: pod.uid.clone(),
        container_id: Some(attach.container_id.clone()),
        cni_version: Some(attach.conf.version.as_str().into()),
    }
}

/// Fails only where the agent says that something is wrong: its absence says nothing about the pod.
fn check(check: &Attach) -> Result<(), Failure> {
    let Choice::Ask(pod) = choose(&check.conf, check.pod.as_ref()) else { return Ok(()) };
    match ask(&check.conf.run_dir, door::CHECK_PATH, &event(check, pod), DOOR_TIMEOUT) {
        Ok(answer) if answer.status == 409 => Err(Failure::new(
            Code::UnknownContainer,
            format!("pod {}/{} is not as it should be: {}", pod.namespace, pod.name, answer.text),
            "the agent repairs rules when it starts; or restart the pod",
        )),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn status(conf: &NetConf) -> Result<(), Failure> {
    if !conf.ambient_enabled {
        return Ok(());
    }
    let unavailable = |msg: String| {
        Failure::new(Code::Unavailable, msg, "is the agent (DaemonSet istio-cni-node) running and ready on this node?")
    };
    match ask(&conf.run_dir, door::STATUS_PATH, &json!({}), DOOR_TIMEOUT) {
        Ok(answer) if answer.status == 503 => Err(unavailable(format!("the agent is not ready: {}", answer.text))),
        // Istio's agent knows no such path; that it answers is enough.
        Ok(_) => Ok(()),
        Err(
            error @ (AskError::NoAgent { .. }
            | AskError::Timeout { .. }
            | AskError::Io { .. }
            | AskError::NotHttp { .. }),
        ) => Err(unavailable(error.to_string())),
    }
}

fn tell_del(del: &Detach) {
    let (name, namespace, uid) = match &del.pod {
        Some(pod) => (pod.name.clone(), pod.namespace.clone(), pod.uid.clone()),
        None => Default::default(),
    };
    let event =
        DelEvent { container_id: del.container_id.clone(), pod_name: name, pod_namespace: namespace, pod_uid: uid };
    tell(&del.conf, door::DEL_PATH, &event);
}

fn tell_gc(conf: &NetConf) {
    tell(conf, door::GC_PATH, &GcEvent { valid_container_ids: conf.valid_containers.clone() });
}

/// Best effort: an agent that misses it learns the same from Kubernetes.
fn tell(conf: &NetConf, path: &str, event: &impl Serialize) {
    let _ = ask(&conf.run_dir, path, event, BEST_EFFORT_TIMEOUT);
}

#[cfg(test)]
mod tests;
