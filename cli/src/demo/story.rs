//! The steps: each does one thing, shows it, and fails if it does not hold.
//!
//! In: the lab. Out: printed steps, or an error that says which step did not hold.

use anyhow::{Context as _, ensure};

use super::{
    shell::{self, Lab, kubectl, quiet_kubectl, until},
    wire::Wire,
};
use crate::output;

/// A heading.
pub(crate) fn title(text: &str) -> anyhow::Result<()> {
    output::line(format_args!("\n\x1b[1m── {text} ──\x1b[0m"))
}

/// A sentence.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    output::line(format_args!("   {text}"))
}

/// The word that travels from client to server; nobody between them may read it once the mesh is on.
const SECRET: &str = "my-card-number-is-4111-1111";
const APP_PORT: u16 = 8080;
const HBONE_PORT: u16 = 15008;

/// One call from client to server with the secret in it, as the application makes it.
fn call(lab: &Lab) -> anyhow::Result<String> {
    let url = format!("http://server.shop.svc.cluster.local/pay?{SECRET}");
    let pod = "jsonpath={.items[0].metadata.name}";
    let client = quiet_kubectl(&["get", "pods", "-n", "shop", "-l", "app=client", "-o", pod])?;
    lab.exec("shop", &client, &["curl", "-sS", "-m", "10", &url])
}

/// The call, its answer shown, with everything that crossed between the nodes meanwhile.
fn watched_call(lab: &Lab) -> anyhow::Result<Wire> {
    let capture = lab.capture()?;
    let answer = call(lab)?;
    say("the answer:")?;
    shell::indent(&answer)?;
    let wire = capture.finish(SECRET)?;
    wire.print()?;
    ensure!(answer.contains("v1"), "the server's answer does not name its version");
    Ok(wire)
}

/// Outside the mesh the wire carries plain text.
pub(crate) fn plain(lab: &Lab, when: &str) -> anyhow::Result<()> {
    title(&format!("A call {when}: plain text on the wire"))?;
    // A connection that was in the mesh a moment ago may be followed by one more tunnelled one.
    let wire = until("the call goes in plain", || {
        let wire = watched_call(lab)?;
        Ok((wire.bytes_to(APP_PORT) > 0 && wire.bytes_to(HBONE_PORT) == 0).then_some(wire))
    })?;
    ensure!(wire.readable, "the secret was expected on the wire, outside the mesh");
    say("Between the nodes anyone can read the secret.")?;
    Ok(())
}

/// One label, and the same call is TLS.
pub(crate) fn enrol(lab: &Lab) -> anyhow::Result<()> {
    title("2. One label")?;
    kubectl(&["label", "namespace", "shop", "istio.io/dataplane-mode=ambient"])?;
    say("waiting until the running pods are in the mesh (no restart) …")?;
    until("both pods are enrolled", || Ok((redirected()? == 2).then_some(())))?;
    until("both ztunnels know it", || {
        let table = lab.lateen(&["ztunnel-config", "workload", "--workload-namespace", "shop"])?;
        Ok((table.matches("HBONE").count() >= 2).then_some(table))
    })
    .and_then(|table| shell::indent(&table))?;
    title("The same call, now")?;
    let wire = watched_call(lab)?;
    ensure!(wire.bytes_to(HBONE_PORT) > 0, "nothing went to port {HBONE_PORT}");
    ensure!(wire.bytes_to(APP_PORT) == 0, "something still went to port {APP_PORT} in plain");
    ensure!(wire.only_tls_on(HBONE_PORT), "what went to port {HBONE_PORT} is not TLS");
    ensure!(!wire.readable, "the secret can be read on the wire");
    say("Between the nodes there is only TLS on port 15008; the secret is nowhere in it.")?;
    Ok(())
}

/// How many pods of the shop carry the agent's word that their traffic is redirected.
fn redirected() -> anyhow::Result<usize> {
    let path = r#"jsonpath={range .items[*]}{.metadata.annotations.ambient\.istio\.io/redirection}{"\n"}{end}"#;
    let words = quiet_kubectl(&["get", "pods", "-n", "shop", "-o", path])?;
    Ok(words.lines().filter(|word| *word == "enabled").count())
}

/// The latest access records with `needle` in them, of both ztunnels.
fn records(needle: &str) -> anyhow::Result<Vec<String>> {
    let log = quiet_kubectl(&["logs", "-n", "istio-system", "-l", "app=ztunnel", "--tail=200"])?;
    let is_record = |line: &&str| line.contains("connection complete") && line.contains(needle);
    Ok(log.lines().filter(is_record).map(str::to_owned).collect())
}

/// Both ends' records name both identities.
pub(crate) fn identities() -> anyhow::Result<()> {
    title("3. Who called whom: the access records of both ztunnels")?;
    for direction in ["direction=\"outbound\"", "direction=\"inbound\""] {
        let record = until("the access record is written", || {
            let found = records(direction)?;
            let both = |line: &String| {
                line.contains("spiffe://cluster.local/ns/shop/sa/client")
                    && line.contains("spiffe://cluster.local/ns/shop/sa/server")
            };
            Ok(found.into_iter().rfind(both))
        })?;
        shell::indent(&record)?;
    }
    Ok(())
}

/// A policy closes the way, and the record says why.
pub(crate) fn deny(lab: &Lab) -> anyhow::Result<()> {
    title("4. A policy: the client may not call the server")?;
    shell::apply(include_str!("../../../deploy/demo/deny-client.yaml"), "deploy/demo/deny-client.yaml")?;
    let refusal = until("the call is refused", || Ok(call(lab).err()))?;
    say("the client sees:")?;
    shell::indent(&format!("{refusal:#}"))?;
    let record = until("the refusal is on record", || Ok(records("explicitly denied by: shop/deny-client")?.pop()))?;
    say("the server's ztunnel says why:")?;
    shell::indent(&record)?;
    Ok(())
}

/// Without the policy the way is open again.
pub(crate) fn allow_again(lab: &Lab) -> anyhow::Result<()> {
    title("5. The policy is removed")?;
    kubectl(&["delete", "authorizationpolicy", "-n", "shop", "deny-client"])?;
    let answer = until("the call is allowed again", || Ok(call(lab).ok()))?;
    shell::indent(&answer)?;
    Ok(())
}

/// Without the label everything is as before.
pub(crate) fn leave(lab: &Lab) -> anyhow::Result<()> {
    title("6. The label is removed")?;
    kubectl(&["label", "namespace", "shop", "istio.io/dataplane-mode-"])?;
    until("both pods have left the mesh", || Ok((redirected()? == 0).then_some(()))).context("leaving the mesh")?;
    plain(lab, "after the label is gone")
}
