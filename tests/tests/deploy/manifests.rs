//! The rendered manifests: what they grant, and that they fit the programs and the lab.

use lateen_tests::deploy::{find, key, list, objects, rendered, root, text, word, words, workloads};
use serde_json::{Value, json};

/// What pods of a workload may do beyond an ordinary pod: capabilities, and the node's files they are given.
struct Granted {
    workload: &'static str,
    capabilities: &'static [&'static str],
    node_files: &'static [&'static str],
}

const GRANTED: [Granted; 3] = [
    Granted { workload: "Deployment istiod", capabilities: &[], node_files: &[] },
    Granted {
        workload: "DaemonSet istio-cni-node",
        capabilities: &["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"],
        node_files: &[
            "/etc/cni/net.d",
            "/opt/cni/bin",
            "/proc",
            "/proc/sys/net",
            "/var/run/istio-cni",
            "/var/run/netns",
            "/var/run/ztunnel",
        ],
    },
    Granted {
        workload: "DaemonSet ztunnel",
        capabilities: &["NET_ADMIN", "SYS_ADMIN"],
        node_files: &["/var/run/ztunnel"],
    },
];

#[test]
fn pods_may_do_what_is_listed_here_and_nothing_else() {
    let all = rendered();
    let workloads = workloads(&all);
    assert_eq!(workloads.len(), GRANTED.len());
    for workload in workloads {
        let name = key(workload);
        let granted = GRANTED.iter().find(|one| one.workload == name).unwrap_or_else(|| panic!("{name} is not listed"));
        let pod = &workload["spec"]["template"]["spec"];
        let mut files: Vec<&str> = list(pod, "/volumes").iter().map(|one| word(one, "/hostPath/path")).collect();
        files.retain(|path| !path.is_empty());
        files.sort_unstable();
        assert_eq!(files, granted.node_files, "{name}");
        for absent in ["hostPID", "hostIPC", "initContainers"] {
            assert_eq!(pod.get(absent), None, "{name} {absent}");
        }
        assert_eq!(word(pod, "/securityContext/seccompProfile/type"), "RuntimeDefault", "{name}");
        assert!(word(pod, "/priorityClassName").starts_with("system-"), "{name}");
        for container in list(pod, "/containers") {
            let context = &container["securityContext"];
            assert_eq!(words(context, "/capabilities/drop"), ["ALL"], "{name}");
            assert_eq!(words(context, "/capabilities/add"), granted.capabilities, "{name}");
            assert_eq!(context["allowPrivilegeEscalation"], json!(false), "{name}");
            assert_eq!(context["readOnlyRootFilesystem"], json!(true), "{name}");
            assert_ne!(context["privileged"], json!(true), "{name}");
            assert!(!word(container, "/readinessProbe/httpGet/path").is_empty(), "{name}");
            assert!(!word(container, "/resources/requests/memory").is_empty(), "{name}");
        }
    }
    let controller = &find(&all, "Deployment istiod")["spec"]["template"]["spec"];
    assert_eq!(controller["securityContext"]["runAsNonRoot"], json!(true));
    assert_eq!(controller.get("hostNetwork"), None);
    let ztunnel = &find(&all, "DaemonSet ztunnel")["spec"]["template"]["spec"];
    assert_eq!(ztunnel["automountServiceAccountToken"], json!(false), "it asks the API for nothing");
    assert_eq!(ztunnel.get("hostNetwork"), None);
}

#[test]
fn each_part_has_an_account_of_its_own_and_rights_that_name_what_they_are_for() {
    let all = rendered();
    let mut accounts: Vec<&str> =
        workloads(&all).iter().map(|one| word(one, "/spec/template/spec/serviceAccountName")).collect();
    for account in &accounts {
        find(&all, &format!("ServiceAccount {account}"));
    }
    accounts.sort_unstable();
    accounts.dedup();
    assert_eq!(accounts.len(), GRANTED.len());
    let rights = all.iter().filter(|one| ["Role", "ClusterRole"].contains(&word(one, "/kind")));
    for (role, rule) in rights.flat_map(|role| list(role, "/rules").iter().map(move |rule| (key(role), rule))) {
        let (verbs, resources) = (words(rule, "/verbs"), words(rule, "/resources"));
        for word in verbs.iter().chain(&resources).chain(&words(rule, "/apiGroups")) {
            assert!(
                !["*", "bind", "escalate", "impersonate", "deletecollection"].contains(&word.as_str()),
                "{role}: {rule}"
            );
        }
        // A Secret or a ConfigMap that has no name yet can only be granted by its kind, and only be made. What Gateways
        // name is read: whoever may only get them must be told the name. All ConfigMaps of one namespace are its own.
        let is_of_gateways = role.starts_with("ClusterRole istiod-gateway") && verbs == ["get"];
        let is_overlays = resources == ["configmaps"] && verbs == ["list", "watch"] && role == "Role istiod";
        let by_name = !list(rule, "/resourceNames").is_empty() || verbs == ["create"] || is_overlays || is_of_gateways;
        let delicate = ["secrets", "configmaps", "leases", "validatingwebhookconfigurations"];
        assert!(by_name || !resources.iter().any(|one| delicate.contains(&one.as_str())), "{role}: {rule}");
        if resources.contains(&"secrets".to_owned()) {
            assert!(role.starts_with("Role ") || is_of_gateways, "{role} reads Secrets of every namespace");
        }
    }
    for binding in all.iter().filter(|one| word(one, "/kind").ends_with("RoleBinding")) {
        assert_eq!(list(binding, "/subjects").len(), 1, "{}", key(binding));
        assert!(!word(binding, "/roleRef/name").contains("admin"), "{}", key(binding));
    }
}

/// Where each program's variables are read.
const READ_IN: [(&str, &str); 3] = [
    ("Deployment istiod", "controller/src/config"),
    ("DaemonSet istio-cni-node", "cni-plugin/agent/src"),
    ("DaemonSet ztunnel", "ztunnel/src/config"),
];

#[test]
fn every_variable_is_one_that_the_program_reads() {
    let all = rendered();
    for (workload, source) in READ_IN {
        let code = code_below(source);
        for variable in list(find(&all, workload), "/spec/template/spec/containers/0/env") {
            let name = word(variable, "/name");
            let read = match name.strip_prefix("ISTIO_META_") {
                Some(key) => code.contains(&format!("{key:?}")),
                // The standard library reads this one.
                None => name == "RUST_BACKTRACE" || code.contains(&format!("{name:?}")),
            };
            assert!(read, "{workload} is told {name}, which nothing below {source} reads");
        }
    }
}

/// All Rust text in a directory but tests.
fn code_below(directory: &str) -> String {
    let mut code = String::new();
    for entry in std::fs::read_dir(root().join(directory)).expect("a directory") {
        let path = entry.expect("an entry").path();
        let is_code = path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs");
        if is_code {
            let text = std::fs::read_to_string(&path).expect("text");
            code.push_str(text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default());
        }
    }
    code
}

/// What the lab tells a program and a cluster does not, each with its reason.
const OF_THE_LAB: [(&str, &str); 7] = [
    ("AMBIENT_ENABLED", "read by Istio's agent, which the lab can run in the place of ours"),
    ("NATIVE_NFTABLES", "the same"),
    ("CHAINED_CNI_PLUGIN", "the same"),
    ("POD_NAME", "the same"),
    ("INPOD_ENABLED", "read by Istio's ztunnel"),
    ("SERVICE_ACCOUNT", "read by istiod"),
    ("CNI_INSTALL", "the lab calls the plugin itself; there is no runtime to install it for"),
];

/// Both are written by hand, once as charts and once for the lab; what a program sees must be the same.
#[test]
fn the_lab_runs_what_is_shipped() {
    let (shipped, mut looked) = (rendered(), 0);
    for file in ["20-istiod", "30-cni", "40-ztunnel", "50-webhook"] {
        for object in objects(&text(&format!("deploy/lab/{file}.yaml"))) {
            let same = find(&shipped, &key(&object));
            for part in ["/rules", "/roleRef", "/subjects", "/webhooks", "/spec/ports", "/spec/updateStrategy"] {
                if let Some(found) = object.pointer(part) {
                    assert_eq!(Some(found), same.pointer(part), "{} {part}", key(&object));
                    looked += 1;
                }
            }
            if object.pointer("/spec/template/spec").is_some() {
                compare_pods(&key(&object), &object["spec"]["template"]["spec"], &same["spec"]["template"]["spec"]);
                looked += 1;
            }
        }
    }
    assert!(looked >= 12, "only {looked} parts were compared");
}

fn compare_pods(name: &str, lab: &Value, shipped: &Value) {
    for part in ["/serviceAccountName", "/hostNetwork", "/terminationGracePeriodSeconds"] {
        assert_eq!(lab.pointer(part), shipped.pointer(part), "{name} {part}");
    }
    let (ours, theirs) = (&lab["containers"][0], &shipped["containers"][0]);
    for part in ["/name", "/args", "/readinessProbe/httpGet"] {
        assert_eq!(ours.pointer(part), theirs.pointer(part), "{name} {part}");
    }
    let named = |list: &[Value], name: &str| list.iter().find(|one| word(one, "/name") == name).cloned();
    for variable in list(ours, "/env") {
        let variable_name = word(variable, "/name");
        let found = named(list(theirs, "/env"), variable_name);
        let is_own = OF_THE_LAB.iter().any(|(own, _)| *own == variable_name);
        assert!(found.as_ref() == Some(variable) || (is_own && found.is_none()), "{name}: {variable} or {found:?}");
    }
    let paths = |container: &Value| -> Vec<String> {
        list(container, "/volumeMounts").iter().map(|mount| word(mount, "/mountPath").to_owned()).collect()
    };
    // The lab's node shows its named namespaces to the agent under the node's path too.
    let of_lab: Vec<String> = paths(ours).into_iter().filter(|path| path != "/var/run/netns").collect();
    let missing: Vec<&String> = of_lab.iter().filter(|path| !paths(theirs).contains(path)).collect();
    assert!(missing.is_empty(), "{name}: not mounted in a cluster: {missing:?}");
}

#[test]
fn charts_images_and_programs_have_one_version() {
    let cargo = text("Cargo.toml");
    let version = cargo.lines().find_map(|line| line.strip_prefix("version = ")).expect("a version");
    let rust =
        cargo.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("a version").trim_matches('"');
    let version = version.trim_matches('"');
    for chart in ["base", "controller", "cni", "ztunnel", "lateen"] {
        let chart = objects(&text(&format!("deploy/charts/{chart}/Chart.yaml"))).remove(0);
        assert_eq!((word(&chart, "/version"), word(&chart, "/appVersion")), (version, version), "{chart}");
        for part in list(&chart, "/dependencies") {
            assert_eq!(word(part, "/version"), version, "{part}");
        }
    }
    let script = text("deploy/images/build");
    for workload in workloads(&rendered()) {
        let image = word(workload, "/spec/template/spec/containers/0/image");
        let name = image.strip_prefix("localhost/lateen/").and_then(|rest| rest.strip_suffix(&format!(":{version}")));
        let name = name.unwrap_or_else(|| panic!("{image}: the image script makes localhost/lateen/…:{version}"));
        assert!(script.contains(&format!("\t{name})")), "deploy/images/build knows no {name}");
        let stage = format!(" AS {name}\n");
        assert!(text("deploy/images/Dockerfile").contains(&stage), "the Dockerfile has no stage {name}");
    }
    assert!(text("deploy/images/Dockerfile").contains(&format!("FROM rust:{rust}-bookworm AS build")));
}

#[test]
fn kubectl_finds_every_file_and_names_no_object_twice() {
    let output = std::process::Command::new("kubectl").arg("kustomize").arg(root().join("deploy/manifests")).output();
    let output = output.expect("kubectl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all = objects(&String::from_utf8(output.stdout).expect("text"));
    assert_eq!(word(&all[0], "/kind"), "Namespace", "what lies in it comes later");
    assert_eq!(word(&all[0], "/metadata/name"), "istio-system");
    let kinds = objects(&text("deploy/manifests/base.yaml")).len();
    assert_eq!(all.len(), 1 + kinds + rendered().len());
    let mut keys: Vec<String> = all.iter().map(key).collect();
    keys.sort_unstable();
    let before = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), before);
    let elsewhere: Vec<String> =
        all.iter().filter(|one| !["", "istio-system"].contains(&word(one, "/metadata/namespace"))).map(key).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}
