//! The lab's main CNI plugin: a wire between pod and node, addresses from the node's range.
//!
//! In: CNI's environment and standard input. Out: CNI's result or error on standard output.
//! Absent on purpose: everything the mesh does; that is the next plugin in the chain.
//!
//! The pod's interface has host-sized addresses and one neighbour, the node, so no two pods share a link:
//! every packet between pods passes the node, as with most cluster networks.

mod ipam;

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    os::fd::AsFd as _,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use ipnet::IpNet;
use lateen_net::netns::Netns;
use lateen_rt::tasks::Tasks;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    config::variable,
    fabric::{links::Links, settle},
};
use ipam::Leases;

/// The plugin's name: the `type` of its configuration and the name it must be started by.
pub const NAME: &str = "lateen-veth";
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// More than any configuration a runtime sends.
const INPUT_MAX: u64 = 1 << 20;

/// The plugin's configuration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    cni_version: String,
    /// The ranges pods get an address from, one each.
    subnets: Vec<IpNet>,
    /// Where leases are kept.
    data_dir: PathBuf,
}

/// One attachment, as the runtime names it.
#[derive(Debug)]
struct Attachment {
    container: String,
    netns: Option<PathBuf>,
    interface: String,
}

/// Answers one CNI call.
pub fn main() -> ExitCode {
    let mut input = Vec::new();
    let read = std::io::stdin().take(INPUT_MAX).read_to_end(&mut input);
    let answer = read.context("reading standard input").and_then(|_| call(&input));
    let (text, code) = match answer {
        Ok(value) => (value, ExitCode::SUCCESS),
        Err(error) => {
            (json!({"cniVersion": "1.0.0", "code": 100, "msg": format!("{NAME}: {error:#}")}), ExitCode::FAILURE)
        }
    };
    // Nobody is left to tell if standard output is closed.
    drop(std::io::stdout().write_all(if text.is_null() { String::new() } else { text.to_string() }.as_bytes()));
    code
}

fn call(input: &[u8]) -> anyhow::Result<Value> {
    let command = variable("CNI_COMMAND").context("CNI_COMMAND is not set")?;
    if command == "VERSION" {
        return Ok(json!({"cniVersion": "1.1.0", "supportedVersions": VERSIONS}));
    }
    let config: Config = serde_json::from_slice(input).context("the configuration on standard input")?;
    let leases = Leases::at(&config.data_dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    match command.as_str() {
        "ADD" => runtime.block_on(add(&config, &leases, &attachment()?)),
        "DEL" => runtime.block_on(del(&leases, &attachment()?)).map(|()| Value::Null),
        "CHECK" => runtime.block_on(check(&leases, &attachment()?)).map(|()| Value::Null),
        "STATUS" => Ok(Value::Null),
        "GC" => leases.keep_only(&valid(input)?).map(|()| Value::Null),
        other => bail!("CNI_COMMAND {other:?} is not known"),
    }
}

fn attachment() -> anyhow::Result<Attachment> {
    Ok(Attachment {
        container: variable("CNI_CONTAINERID").context("CNI_CONTAINERID is not set")?,
        netns: variable("CNI_NETNS").map(PathBuf::from),
        interface: variable("CNI_IFNAME").context("CNI_IFNAME is not set")?,
    })
}

/// Gives the pod its interface; a failure half-way is undone by the runtime's DEL.
async fn add(config: &Config, leases: &Leases, to: &Attachment) -> anyhow::Result<Value> {
    let path = to.netns.as_ref().context("CNI_NETNS is not set")?;
    let pod = Netns::open(path)?;
    let node = Netns::current()?;
    let tasks = Tasks::new();
    let (outside, inside) = (Links::of(&node, &tasks)?, Links::of(&pod, &tasks)?);
    settle(&pod)?;
    pod.loopback_up()?;
    let mut addresses = Vec::new();
    for subnet in &config.subnets {
        addresses.push((leases.take(*subnet, &to.container)?, ipam::gateway(*subnet)));
    }
    let (ours, theirs) = names(to);
    let (port, wire) = outside.veth(&ours, &theirs).await?;
    outside.give(wire, &to.interface, pod.as_fd()).await?;
    let wire = inside.index(&to.interface).await?;
    outside.up(port).await?;
    inside.up(wire).await?;
    for (address, gateway) in &addresses {
        outside.address(port, IpNet::from(*gateway)).await?;
        outside.link_route(IpNet::from(*address), port).await?;
        inside.address(wire, IpNet::from(*address)).await?;
        inside.link_route(IpNet::from(*gateway), wire).await?;
        inside.default_route(*gateway, wire).await?;
    }
    let interfaces = json!([
        {"name": ours, "mac": outside.hardware_address(port).await?},
        {"name": to.interface, "mac": inside.hardware_address(wire).await?, "sandbox": path},
    ]);
    Ok(result(&config.cni_version, interfaces, &addresses))
}

fn result(version: &str, interfaces: Value, addresses: &[(std::net::IpAddr, std::net::IpAddr)]) -> Value {
    let mut ips = Vec::new();
    let mut routes = Vec::new();
    for (address, gateway) in addresses {
        let (family, all) = if address.is_ipv4() { ("4", "0.0.0.0/0") } else { ("6", "::/0") };
        let mut ip = json!({"address": IpNet::from(*address), "gateway": gateway, "interface": 1});
        if version.starts_with("0.") {
            ip["version"] = json!(family);
        }
        ips.push(ip);
        routes.push(json!({"dst": all, "gw": gateway}));
    }
    json!({"cniVersion": version, "interfaces": interfaces, "ips": ips, "routes": routes, "dns": {}})
}

/// Takes the interface and the addresses back. Succeeds if they are gone already.
async fn del(leases: &Leases, of: &Attachment) -> anyhow::Result<()> {
    let tasks = Tasks::new();
    let outside = Links::of(&Netns::current()?, &tasks)?;
    if let Some(port) = outside.find(&names(of).0).await? {
        outside.remove(port).await?;
    }
    leases.release(&of.container)
}

async fn check(leases: &Leases, of: &Attachment) -> anyhow::Result<()> {
    let tasks = Tasks::new();
    Links::of(&Netns::current()?, &tasks)?.index(&names(of).0).await?;
    let pod = Netns::open(of.netns.as_ref().context("CNI_NETNS is not set")?)?;
    Links::of(&pod, &tasks)?.index(&of.interface).await?;
    if leases.held(&of.container)?.is_empty() { bail!("{} holds no address", of.container) } else { Ok(()) }
}

/// The attachments a GC call declares to be in use.
fn valid(input: &[u8]) -> anyhow::Result<Vec<String>> {
    let all: HashMap<String, Value> = serde_json::from_slice(input).context("the configuration on standard input")?;
    let listed = all.get("cni.dev/valid-attachments").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(listed.iter().filter_map(|each| Some(each["containerID"].as_str()?.to_owned())).collect())
}

/// Names of the wire's ends while both are in the node: the same for the same attachment, at most 15 bytes.
fn names(of: &Attachment) -> (String, String) {
    // FNV-1a; std's hasher may change between builds, and DEL may be answered by another build than ADD.
    let bytes = of.container.bytes().chain(of.interface.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let short = &format!("{hash:016x}")[..10];
    (format!("veth{short}"), format!("vpod{short}"))
}
