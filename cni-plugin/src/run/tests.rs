use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixListener,
    path::Path,
    thread::JoinHandle,
};

use super::*;

fn env(command: &str, pod: &str) -> Environment {
    let (namespace, name) = pod.split_once('/').expect("namespace/name");
    Environment {
        command: Some(command.into()),
        container_id: Some("c1".into()),
        netns: Some("/var/run/netns/x".into()),
        ifname: Some("eth0".into()),
        args: Some(format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID=u1")),
    }
}

fn previous() -> Value {
    json!({"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/var/run/netns/x","mtu":1500}],
           "ips":[{"interface":0,"address":"10.0.0.5/24"}],"dns":{},"later":{"unknown":[1,2.5]}})
}

fn conf(run_dir: &Path) -> Vec<u8> {
    json!({"cniVersion":"1.1.0","name":"k8s","type":"istio-cni","cni_agent_run_dir":run_dir,
           "exclude_namespaces":["kube-system"],"pod_namespace":"istio-system","prevResult":previous()})
    .to_string()
    .into_bytes()
}

/// An agent that answers one request with `answer`, and gives back what it was asked.
fn agent(dir: &Path, answer: &'static str) -> JoinHandle<String> {
    let listener = UnixListener::bind(dir.join(door::SOCKET)).expect("binds");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        let mut seen = Vec::new();
        let mut chunk = [0; 4096];
        while !whole(&seen) {
            let read = stream.read(&mut chunk).expect("reads");
            assert!(read > 0, "the plugin closed early");
            seen.extend_from_slice(&chunk[..read]);
        }
        stream.write_all(answer.as_bytes()).expect("writes");
        String::from_utf8(seen).expect("text")
    })
}

fn whole(seen: &[u8]) -> bool {
    let text = String::from_utf8_lossy(seen);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    body.len() == length.parse::<usize>().expect("a number")
}

fn json_of(printed: &Printed) -> Value {
    serde_json::from_str(&printed.stdout).expect("JSON on stdout")
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_yes_prints_the_previous_result_unchanged() {
    let dir = tempfile::tempdir().expect("a directory");
    let agent = agent(dir.path(), OK);
    let printed = run(&env("ADD", "shop/web-1"), Ok(&conf(dir.path())));
    assert!(printed.success, "{}", printed.stdout);
    assert_eq!(json_of(&printed), previous());
    let asked = agent.join().expect("the agent ends");
    assert!(asked.starts_with("POST /cmdadd HTTP/1.1\r\nHost: unix\r\n"), "{asked}");
    let (_, body) = asked.split_once("\r\n\r\n").expect("a body");
    let event: AddEvent = serde_json::from_str(body).expect("the event");
    assert_eq!((event.pod_name.as_str(), event.pod_namespace.as_str()), ("web-1", "shop"));
    assert_eq!(event.pod_uid.as_deref(), Some("u1"));
    assert_eq!(event.ips[0].address.ip.to_string(), "10.0.0.5");
}

#[test]
fn without_an_agent_a_pod_does_not_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let printed = run(&env("ADD", "shop/web-1"), Ok(&conf(dir.path())));
    assert!(!printed.success);
    let error = json_of(&printed);
    assert_eq!((&error["code"], &error["cniVersion"]), (&json!(11), &json!("1.1.0")));
    assert!(error["msg"].as_str().expect("text").contains("shop/web-1"), "{error}");
}

#[test]
fn a_refusal_is_told_with_its_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let agent = agent(dir.path(), "HTTP/1.1 500 x\r\nContent-Length: 21\r\n\r\nno ztunnel connection");
    let printed = run(&env("ADD", "shop/web-1"), Ok(&conf(dir.path())));
    agent.join().expect("the agent ends");
    assert!(!printed.success);
    assert!(json_of(&printed)["msg"].as_str().expect("text").ends_with("no ztunnel connection"));
}

#[test]
fn a_silent_agent_is_given_up_at_the_deadline() {
    let dir = tempfile::tempdir().expect("a directory");
    let _silent = UnixListener::bind(dir.path().join(door::SOCKET)).expect("binds");
    let asked = ask(dir.path(), door::ADD_PATH, &json!({}), Duration::from_millis(50));
    assert!(matches!(asked, Err(AskError::Timeout { .. } | AskError::Io { .. })), "{asked:?}");
}

#[test]
fn the_exempt_start_without_an_agent() {
    let dir = tempfile::tempdir().expect("a directory");
    for pod in ["kube-system/coredns-1", "istio-system/istio-cni-node-abc"] {
        let printed = run(&env("ADD", pod), Ok(&conf(dir.path())));
        assert!(printed.success, "{pod}: {}", printed.stdout);
        assert_eq!(json_of(&printed), previous());
    }
    for pod in ["shop/istio-cni-node-abc", "istio-system/ztunnel-1"] {
        assert!(!run(&env("ADD", pod), Ok(&conf(dir.path()))).success, "{pod} got through");
    }
}

#[test]
fn del_succeeds_whatever_happens() {
    let dir = tempfile::tempdir().expect("a directory");
    let yes = Printed { stdout: String::new(), success: true };
    assert_eq!(run(&env("DEL", "shop/web-1"), Ok(&conf(dir.path()))), yes);
    assert_eq!(run(&env("DEL", "shop/web-1"), Ok(b"not json")), yes);
    let agent = agent(dir.path(), OK);
    assert_eq!(run(&env("DEL", "shop/web-1"), Ok(&conf(dir.path()))), yes);
    assert!(agent.join().expect("the agent ends").starts_with("POST /cmddel"));
}

#[test]
fn status_says_whether_an_add_could_succeed() {
    let dir = tempfile::tempdir().expect("a directory");
    let printed = run(&env("STATUS", "x/x"), Ok(&conf(dir.path())));
    assert_eq!(json_of(&printed)["code"], json!(50));
    let not_found = agent(dir.path(), "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    assert!(run(&env("STATUS", "x/x"), Ok(&conf(dir.path()))).success);
    not_found.join().expect("the agent ends");
    std::fs::remove_file(dir.path().join(door::SOCKET)).expect("there");
    let unready = agent(dir.path(), "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(json_of(&run(&env("STATUS", "x/x"), Ok(&conf(dir.path()))))["code"], json!(50));
    unready.join().expect("the agent ends");
}

#[test]
fn version_needs_nothing_and_lists_all() {
    for stdin in [&b""[..], br#"{"cniVersion":"0.4.0"}"#] {
        let printed = run(&Environment { command: Some("VERSION".into()), ..Environment::default() }, Ok(stdin));
        assert!(printed.success);
        let expected = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
        assert_eq!(json_of(&printed)["supportedVersions"], expected);
    }
}

#[test]
fn check_fails_only_when_the_agent_knows_better() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(run(&env("CHECK", "shop/web-1"), Ok(&conf(dir.path()))).success);
    let agent = agent(dir.path(), "HTTP/1.1 409 x\r\nContent-Length: 10\r\n\r\nrules gone");
    let printed = run(&env("CHECK", "shop/web-1"), Ok(&conf(dir.path())));
    agent.join().expect("the agent ends");
    assert_eq!(json_of(&printed)["code"], json!(3));
}

#[test]
fn too_much_input_is_refused() {
    let printed = run(&env("ADD", "shop/web-1"), Ok(&vec![b' '; STDIN_MAX + 1]));
    assert_eq!(json_of(&printed)["code"], json!(6));
}
