//! The outside of one call: environment variables and the network configuration on stdin.
//!
//! In: the process environment, JSON bytes. Out: [`Environment`], [`NetConf`], both checked.
//! Absent on purpose: what to do about them (see `run`).

use std::{net::IpAddr, path::PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::result::{CniVersion, Code, Failure};

/// The most addresses a previous result may hold; a pod has a handful.
const IPS_MAX: usize = 64;
const RUN_DIR: &str = "/var/run/istio-cni";

/// The variables of the CNI specification, unchecked; `None` is "not set".
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// CNI_COMMAND
    pub command: Option<String>,
    /// CNI_CONTAINERID
    pub container_id: Option<String>,
    /// CNI_NETNS
    pub netns: Option<String>,
    /// CNI_IFNAME
    pub ifname: Option<String>,
    /// CNI_ARGS
    pub args: Option<String>,
}

impl Environment {
    /// What the runtime set for this process. A value that is not UTF-8 counts as not set.
    #[allow(clippy::disallowed_methods, reason = "this is the config module")]
    pub fn read() -> Self {
        let var = |name| std::env::var(name).ok();
        Self {
            command: var("CNI_COMMAND"),
            container_id: var("CNI_CONTAINERID"),
            netns: var("CNI_NETNS"),
            ifname: var("CNI_IFNAME"),
            args: var("CNI_ARGS"),
        }
    }
}

/// Our entry of the network configuration, checked.
#[derive(Debug, Clone)]
pub struct NetConf {
    /// The version the runtime speaks.
    pub version: CniVersion,
    /// Where the agent's sockets are.
    pub run_dir: PathBuf,
    /// Whether the mesh is on at all.
    pub ambient_enabled: bool,
    /// Namespaces whose pods are never ours.
    pub exclude_namespaces: Vec<String>,
    /// The namespace the agent runs in.
    pub agent_namespace: String,
    /// Whether another plugin must have run before us.
    pub chained: bool,
    /// What the plugins before us made.
    pub previous: Option<PrevResult>,
    /// The attachments that still exist (GC only).
    pub valid_containers: Vec<String>,
}

/// The result of the plugins before us.
#[derive(Debug, Clone, PartialEq)]
pub struct PrevResult {
    /// The whole of it, to be passed on.
    pub json: Value,
    /// The pod's addresses in it.
    pub ips: Vec<PodIp>,
}

/// An address of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodIp {
    /// Index into the result's interfaces.
    pub interface: Option<u32>,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// The gateway on its link.
    pub gateway: Option<IpAddr>,
}

/// The keys as they are written; everything the plugin does not use is ignored.
#[derive(Deserialize)]
struct Written {
    #[serde(default, rename = "cniVersion")]
    cni_version: String,
    #[serde(default = "run_dir")]
    cni_agent_run_dir: PathBuf,
    #[serde(default = "yes")]
    ambient_enabled: bool,
    #[serde(default = "kube_system")]
    exclude_namespaces: Vec<String>,
    #[serde(default = "istio_system")]
    pod_namespace: String,
    #[serde(default = "yes")]
    chained: bool,
    #[serde(default, rename = "prevResult")]
    prev_result: Option<Value>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid_attachments: Vec<Attachment>,
}

#[derive(Deserialize)]
struct Attachment {
    #[serde(rename = "containerID")]
    container_id: String,
}

fn run_dir() -> PathBuf {
    RUN_DIR.into()
}
fn yes() -> bool {
    true
}
fn kube_system() -> Vec<String> {
    vec!["kube-system".into()]
}
fn istio_system() -> String {
    "istio-system".into()
}

impl NetConf {
    /// Reads and checks the configuration on stdin.
    pub fn parse(stdin: &[u8]) -> Result<Self, Failure> {
        let written: Written = object(stdin).map_err(|error| {
            let mend = "stdin must be our entry of the network configuration as one JSON object";
            Failure::new(Code::Decode, format!("the network configuration does not parse: {error}"), mend)
        })?;
        let version = CniVersion::parse(&written.cni_version).ok_or_else(|| unsupported(&written.cni_version))?;
        if !written.cni_agent_run_dir.is_absolute() {
            let msg = format!("cni_agent_run_dir {:?} is not an absolute path", written.cni_agent_run_dir);
            return Err(Failure::new(Code::InvalidConfig, msg, format!("set it to the agent's, usually {RUN_DIR}")));
        }
        Ok(Self {
            version,
            run_dir: written.cni_agent_run_dir,
            ambient_enabled: written.ambient_enabled,
            exclude_namespaces: written.exclude_namespaces,
            agent_namespace: written.pod_namespace,
            chained: written.chained,
            previous: written.prev_result.map(PrevResult::parse).transpose()?,
            valid_containers: written.valid_attachments.into_iter().map(|one| one.container_id).collect(),
        })
    }
}

/// One JSON object. serde would also take an array as the fields in order.
fn object<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let value: Map<String, Value> = serde_json::from_slice(bytes)?;
    T::deserialize(Value::Object(value))
}

/// The version on stdin for answers that must carry one even when the rest is wrong.
pub fn spoken_version(stdin: &[u8]) -> Option<CniVersion> {
    let value: Value = serde_json::from_slice(stdin).ok()?;
    CniVersion::parse(value.get("cniVersion")?.as_str()?)
}

fn unsupported(given: &str) -> Failure {
    let supported: Vec<&str> = CniVersion::ALL.iter().map(|version| version.as_str()).collect();
    let mend = format!("set cniVersion of the network configuration to one of {}", supported.join(", "));
    Failure::new(Code::IncompatibleVersion, format!("cniVersion {given:?} is not supported"), mend)
}

/// The part of a result that we read.
#[derive(Deserialize)]
struct WrittenResult {
    #[serde(default)]
    interfaces: Vec<WrittenInterface>,
    #[serde(default)]
    ips: Vec<WrittenIp>,
}

#[derive(Deserialize)]
struct WrittenInterface {
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct WrittenIp {
    #[serde(default)]
    interface: Option<u32>,
    address: String,
    #[serde(default)]
    gateway: Option<String>,
}

impl PrevResult {
    fn parse(json: Value) -> Result<Self, Failure> {
        let bad = |what: String| {
            Failure::new(
                Code::InvalidConfig,
                format!("prevResult {what}"),
                "look at the plugin before lateen-cni in the chain; it made this result",
            )
        };
        if !json.is_object() {
            return Err(bad("is not a JSON object".into()));
        }
        let written =
            WrittenResult::deserialize(&json).map_err(|error| bad(format!("is not a CNI result: {error}")))?;
        if written.ips.len() > IPS_MAX {
            return Err(bad(format!("has {} addresses, more than {IPS_MAX}", written.ips.len())));
        }
        let of_pod = |ip: &&WrittenIp| match ip.interface.and_then(|at| written.interfaces.get(at as usize)) {
            // Without a sandbox the interface is the node's end of the link.
            Some(interface) => !interface.sandbox.is_empty(),
            None => true,
        };
        let ips = written.ips.iter().filter(of_pod).map(pod_ip).collect::<Result<_, _>>().map_err(bad)?;
        Ok(Self { json, ips })
    }
}

fn pod_ip(written: &WrittenIp) -> Result<PodIp, String> {
    let wrong = || format!("has the address {:?}, which is not <ip>/<prefix length>", written.address);
    let (address, prefix) = written.address.split_once('/').ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    if prefix > if address.is_ipv4() { 32 } else { 128 } {
        return Err(wrong());
    }
    let gateway = match written.gateway.as_deref() {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|_| format!("has the gateway {text:?}, which is not an address"))?),
    };
    Ok(PodIp { interface: written.interface, address, prefix, gateway })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_reference_ones() {
        let conf = NetConf::parse(br#"{"cniVersion":"1.0.0","name":"n","type":"istio-cni"}"#).expect("valid");
        assert_eq!(conf.run_dir.to_str(), Some(RUN_DIR));
        assert_eq!(conf.exclude_namespaces, ["kube-system"]);
        assert_eq!(conf.agent_namespace, "istio-system");
        assert!(conf.ambient_enabled && conf.chained && conf.previous.is_none());
    }

    #[test]
    fn results_of_every_version_give_the_pods_addresses() {
        for (version, ips) in [
            ("0.3.1", r#"[{"version":"4","interface":1,"address":"10.0.0.5/24","gateway":"10.0.0.1"}]"#),
            ("1.0.0", r#"[{"interface":1,"address":"10.0.0.5/24","gateway":"10.0.0.1"}]"#),
        ] {
            let interfaces = r#"[{"name":"veth1"},{"name":"eth0","sandbox":"/var/run/netns/x"}]"#;
            let prev = format!(r#"{{"cniVersion":"{version}","interfaces":{interfaces},"ips":{ips}}}"#);
            let conf = NetConf::parse(format!(r#"{{"cniVersion":"{version}","prevResult":{prev}}}"#).as_bytes());
            let previous = conf.expect("valid").previous.expect("present");
            let expected = PodIp {
                interface: Some(1),
                address: "10.0.0.5".parse().expect("valid"),
                prefix: 24,
                gateway: "10.0.0.1".parse().ok(),
            };
            assert_eq!(previous.ips, [expected], "{version}");
            assert_eq!(previous.json, serde_json::from_str::<Value>(&prev).expect("valid"));
        }
    }

    #[test]
    fn an_address_of_the_nodes_end_is_not_the_pods() {
        let json = serde_json::json!({"interfaces":[{"name":"br0"}], "ips":[{"interface":0,"address":"10.0.0.1/24"}]});
        assert!(PrevResult::parse(json).expect("valid").ips.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (stdin, code, word) in [
            ("", Code::Decode, "parse"),
            ("[]", Code::Decode, "parse"),
            ("{}", Code::IncompatibleVersion, "cniVersion"),
            (r#"{"cniVersion":"0.2.0"}"#, Code::IncompatibleVersion, "0.2.0"),
            (r#"{"cniVersion":"1.0.0","cni_agent_run_dir":"x"}"#, Code::InvalidConfig, "cni_agent_run_dir"),
            (r#"{"cniVersion":"1.0.0","prevResult":[]}"#, Code::InvalidConfig, "prevResult"),
            (
                r#"{"cniVersion":"1.0.0","prevResult":{"ips":[{"address":"10.0.0.5"}]}}"#,
                Code::InvalidConfig,
                "10.0.0.5",
            ),
            (r#"{"cniVersion":"1.0.0","prevResult":{"ips":[{"address":"10.0.0.5/33"}]}}"#, Code::InvalidConfig, "/33"),
            (r#"{"cniVersion":"1.0.0","exclude_namespaces":7}"#, Code::Decode, "exclude_namespaces"),
        ] {
            let failure = NetConf::parse(stdin.as_bytes()).expect_err(stdin);
            assert_eq!(failure.code, code, "{stdin}");
            // serde names the type, not the key, for a wrong value; the position in the message leads there.
            assert!(failure.msg.contains(word) || failure.code == Code::Decode, "{stdin}: {failure}");
        }
    }
}
