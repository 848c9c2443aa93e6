//! One checked request out of the environment and the configuration.
//!
//! In: [`Environment`] and stdin. Out: [`Request`], one variant a command, holding only what that command has.
//! Absent on purpose: doing it.

use crate::{
    config::{Environment, NetConf, PrevResult},
    result::{CniVersion, Code, Failure},
};

/// CNI_ARGS longer than this is nonsense.
const ARGS_MAX: usize = 64 * 1024;
/// Kubernetes names end at 253 bytes.
const NAME_MAX: usize = 253;

/// What the runtime wants.
#[derive(Debug, Clone)]
pub enum Request {
    /// Connect a pod.
    Add(Attach),
    /// Forget a pod.
    Del(Detach),
    /// Is the pod still as ADD left it?
    Check(Attach),
    /// Could an ADD succeed now?
    Status(NetConf),
    /// Forget all but the attachments in the configuration.
    Gc(NetConf),
    /// Which versions do you speak?
    Version,
}

/// A pod that is there.
#[derive(Debug, Clone)]
pub struct Attach {
    /// Our configuration.
    pub conf: NetConf,
    /// The runtime's id of the sandbox.
    pub container_id: String,
    /// Path of the pod's network namespace.
    pub netns: String,
    /// The Kubernetes pod; none for containers that Kubernetes did not start.
    pub pod: Option<PodName>,
    /// What the plugins before us made; none only where the configuration says that we are not chained.
    pub previous: Option<PrevResult>,
}

/// A pod that goes or is gone.
#[derive(Debug, Clone)]
pub struct Detach {
    /// Our configuration.
    pub conf: NetConf,
    /// The runtime's id of the sandbox.
    pub container_id: String,
    /// The Kubernetes pod, where the runtime still knows it.
    pub pod: Option<PodName>,
}

/// Who the pod is, from CNI_ARGS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// K8S_POD_NAME
    pub name: String,
    /// K8S_POD_NAMESPACE
    pub namespace: String,
    /// K8S_POD_UID, which older runtimes do not pass.
    pub uid: Option<String>,
}

impl Request {
    /// Reads and checks all of it; nothing has been done when this fails.
    pub fn parse(env: &Environment, stdin: &[u8]) -> Result<Self, Failure> {
        let command = env.command.as_deref().unwrap_or_default();
        match command {
            "VERSION" => Ok(Self::Version),
            "ADD" => Ok(Self::Add(attach(env, NetConf::parse(stdin)?)?)),
            "CHECK" => {
                let conf = NetConf::parse(stdin)?;
                since(CniVersion::V040, "CHECK", &conf)?;
                Ok(Self::Check(attach(env, conf)?))
            }
            "DEL" => Ok(Self::Del(detach(env, NetConf::parse(stdin)?)?)),
            "STATUS" => {
                let conf = NetConf::parse(stdin)?;
                since(CniVersion::V110, "STATUS", &conf)?;
                Ok(Self::Status(conf))
            }
            "GC" => {
                let conf = NetConf::parse(stdin)?;
                since(CniVersion::V110, "GC", &conf)?;
                Ok(Self::Gc(conf))
            }
            other => Err(env_failure("CNI_COMMAND", other, "one of ADD, DEL, CHECK, VERSION, STATUS, GC")),
        }
    }
}

fn since(first: CniVersion, command: &str, conf: &NetConf) -> Result<(), Failure> {
    if conf.version >= first {
        return Ok(());
    }
    let msg = format!("cniVersion {} has no {command}", conf.version.as_str());
    Err(Failure::new(Code::IncompatibleVersion, msg, format!("set cniVersion to {} or newer", first.as_str())))
}

fn attach(env: &Environment, conf: NetConf) -> Result<Attach, Failure> {
    let container_id = container_id(env)?;
    let netns = env.netns.clone().filter(|path| path.starts_with('/')).ok_or_else(|| {
        env_failure(
            "CNI_NETNS",
            env.netns.as_deref().unwrap_or_default(),
            "the absolute path of the pod's network namespace",
        )
    })?;
    ifname(env)?;
    let pod = pod_name(env)?;
    let previous = conf.previous.clone();
    if previous.is_none() && conf.chained {
        return Err(Failure::new(
            Code::InvalidConfig,
            "prevResult is missing",
            "lateen-cni does not make interfaces: put it after the main plugin, or set \"chained\": false",
        ));
    }
    Ok(Attach { conf, container_id, netns, pod, previous })
}

fn detach(env: &Environment, conf: NetConf) -> Result<Detach, Failure> {
    Ok(Detach { container_id: container_id(env)?, pod: pod_name(env)?, conf })
}

/// The specification: a letter or digit, then letters, digits, `_`, `.`, `-`.
fn container_id(env: &Environment) -> Result<String, Failure> {
    let id = env.container_id.as_deref().unwrap_or_default();
    let first = id.starts_with(|c: char| c.is_ascii_alphanumeric());
    if first && id.len() <= NAME_MAX && id.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
        return Ok(id.to_owned());
    }
    Err(env_failure("CNI_CONTAINERID", id, "a letter or digit, then letters, digits, '_', '.', '-'"))
}

/// What Linux takes as the name of an interface.
fn ifname(env: &Environment) -> Result<(), Failure> {
    let name = env.ifname.as_deref().unwrap_or_default();
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace();
    if !name.is_empty() && name.len() <= 15 && name != "." && name != ".." && !name.contains(odd) {
        return Ok(());
    }
    Err(env_failure("CNI_IFNAME", name, "an interface name of 1 to 15 bytes without '/', ':' and spaces"))
}

/// `None` when CNI_ARGS names no pod at all; half a name is an error.
fn pod_name(env: &Environment) -> Result<Option<PodName>, Failure> {
    let args = env.args.as_deref().unwrap_or_default();
    if args.len() > ARGS_MAX {
        return Err(env_failure("CNI_ARGS", "(too long)", "at most 65536 bytes"));
    }
    let value_of = |key: &str| {
        let pairs = args.split(';').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).find(|value| !value.is_empty())
    };
    let (name, namespace) = match (value_of("K8S_POD_NAME"), value_of("K8S_POD_NAMESPACE")) {
        (None, None) => return Ok(None),
        (Some(name), Some(namespace)) => (name, namespace),
        (Some(_), None) => return Err(env_failure("CNI_ARGS", args, "K8S_POD_NAMESPACE beside K8S_POD_NAME")),
        (None, Some(_)) => return Err(env_failure("CNI_ARGS", args, "K8S_POD_NAME beside K8S_POD_NAMESPACE")),
    };
    for text in [name, namespace] {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if text.len() > NAME_MAX || !text.chars().all(fine) {
            return Err(env_failure("CNI_ARGS", text, "Kubernetes names: lower case letters, digits, '-' and '.'"));
        }
    }
    let uid = value_of("K8S_POD_UID").filter(|uid| uid.len() <= NAME_MAX).map(str::to_owned);
    Ok(Some(PodName { name: name.to_owned(), namespace: namespace.to_owned(), uid }))
}

fn env_failure(name: &str, given: &str, wanted: &str) -> Failure {
    let shown: String = given.chars().take(256).collect();
    Failure::new(
        Code::InvalidEnvironment,
        format!("{name} is {shown:?}"),
        format!("{name} must be {wanted}; the container runtime sets it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAINED: &[u8] = br#"{"cniVersion":"1.0.0","prevResult":{"cniVersion":"1.0.0","ips":[]}}"#;

    fn env(command: &str) -> Environment {
        Environment {
            command: Some(command.into()),
            container_id: Some("abc-1".into()),
            netns: Some("/var/run/netns/x".into()),
            ifname: Some("eth0".into()),
            args: Some("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_UID=u-1".into()),
        }
    }

    #[test]
    fn a_whole_add_is_read() {
        let Request::Add(add) = Request::parse(&env("ADD"), CHAINED).expect("valid") else { panic!("not an ADD") };
        let pod = add.pod.expect("named");
        assert_eq!((pod.name.as_str(), pod.namespace.as_str(), pod.uid.as_deref()), ("web-1", "shop", Some("u-1")));
        assert_eq!((add.container_id.as_str(), add.netns.as_str()), ("abc-1", "/var/run/netns/x"));
    }

    #[test]
    fn a_container_without_a_pod_is_no_error() {
        let env = Environment { args: Some("IgnoreUnknown=1".into()), ..env("ADD") };
        assert!(matches!(Request::parse(&env, CHAINED), Ok(Request::Add(Attach { pod: None, .. }))));
    }

    #[test]
    fn wrong_environments_name_the_variable() {
        let check = |env: Environment, word: &str| {
            let failure = Request::parse(&env, CHAINED).expect_err(word);
            assert_eq!(failure.code, Code::InvalidEnvironment, "{failure}");
            assert!(failure.msg.contains(word), "{failure}");
        };
        check(Environment { command: None, ..env("") }, "CNI_COMMAND");
        check(env("add"), "CNI_COMMAND");
        for id in ["", "-x", "a/b", "a b"] {
            check(Environment { container_id: Some(id.into()), ..env("ADD") }, "CNI_CONTAINERID");
        }
        check(Environment { netns: None, ..env("ADD") }, "CNI_NETNS");
        check(Environment { netns: Some("relative".into()), ..env("ADD") }, "CNI_NETNS");
        for name in ["", ".", "..", "a/b", "a:b", "a b", "sixteen-bytes-xx"] {
            check(Environment { ifname: Some(name.into()), ..env("ADD") }, "CNI_IFNAME");
        }
        check(Environment { args: Some("K8S_POD_NAME=web".into()), ..env("ADD") }, "CNI_ARGS");
        check(Environment { args: Some("K8S_POD_NAME=../x;K8S_POD_NAMESPACE=y".into()), ..env("ADD") }, "CNI_ARGS");
    }

    #[test]
    fn commands_exist_since_their_version() {
        let conf = |version: &str| format!(r#"{{"cniVersion":"{version}","prevResult":{{"ips":[]}}}}"#).into_bytes();
        for (command, last_without, first_with) in
            [("CHECK", "0.3.1", "0.4.0"), ("STATUS", "1.0.0", "1.1.0"), ("GC", "1.0.0", "1.1.0")]
        {
            let failure = Request::parse(&env(command), &conf(last_without)).expect_err(command);
            assert_eq!(failure.code, Code::IncompatibleVersion);
            assert!(Request::parse(&env(command), &conf(first_with)).is_ok(), "{command}");
        }
        for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            assert!(Request::parse(&env("ADD"), &conf(version)).is_ok(), "{version}");
        }
    }

    #[test]
    fn a_chain_needs_its_previous_result() {
        let failure = Request::parse(&env("ADD"), br#"{"cniVersion":"1.0.0"}"#).expect_err("chained");
        assert_eq!((failure.code, failure.msg.as_str()), (Code::InvalidConfig, "prevResult is missing"));
        assert!(Request::parse(&env("ADD"), br#"{"cniVersion":"1.0.0","chained":false}"#).is_ok());
        assert!(Request::parse(&env("DEL"), br#"{"cniVersion":"1.0.0"}"#).is_ok());
    }
}
