use super::*;

struct Node {
    root: tempfile::TempDir,
    installer: Installer,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        for directory in ["net.d", "bin", "image"] {
            std::fs::create_dir(root.path().join(directory)).expect("made");
        }
        let places = Places {
            net_dir: root.path().join("net.d"),
            bin_dir: root.path().join("bin"),
            conf_name: None,
            source: root.path().join("image/lateen-cni"),
        };
        std::fs::write(&places.source, "version 1").expect("written");
        let excluded = ["kube-system".to_owned()];
        let told = Told { run_dir: Path::new("/var/run/istio-cni"), namespace: "istio-system", excluded: &excluded };
        let installer = Installer::new(places, &told);
        Self { root, installer }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.root.path().join(name), text).expect("written");
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.root.path().join(name)).ok()
    }

    fn types(&self, name: &str) -> Vec<String> {
        let list: Value = serde_json::from_str(&self.read(name).expect("there")).expect("JSON");
        let plugins = list["plugins"].as_array().expect("a chain").clone();
        plugins.iter().map(|plugin| plugin["type"].as_str().expect("typed").to_owned()).collect()
    }

    fn leftovers(&self) -> bool {
        ["net.d", "bin"].iter().any(|directory| {
            let names = files::names(&self.root.path().join(directory)).expect("listed");
            names.iter().any(|name| name.to_string_lossy().ends_with("tmp"))
        })
    }
}

const BRIDGE: &str = r#"{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"bridge"}]}"#;

#[test]
fn binary_and_chain_are_put_right_and_then_left_alone() {
    let node = Node::new();
    assert!(matches!(node.installer.put_right(), Err(InstallError::NoConfiguration(_))));
    assert_eq!(node.read("bin/lateen-cni").as_deref(), Some("version 1"), "a chain may come any moment");
    node.write("net.d/20-later.conflist", BRIDGE);
    node.write("net.d/10-first.conflist", BRIDGE);
    node.write("net.d/00-notes.txt", "nothing");
    assert!(matches!(node.installer.put_right(), Ok(Done::Wrote(_))));
    assert_eq!(node.types("net.d/10-first.conflist"), ["bridge", PLUGIN]);
    assert_eq!(node.types("net.d/20-later.conflist"), ["bridge"]);
    assert_eq!(node.installer.put_right().expect("fine"), Done::Nothing);
    assert!(!node.leftovers());
}

#[test]
fn what_others_undo_is_mended() {
    let node = Node::new();
    node.write("net.d/10-first.conflist", BRIDGE);
    node.installer.put_right().expect("installed");
    node.write("net.d/10-first.conflist", BRIDGE);
    assert!(matches!(node.installer.put_right(), Ok(Done::Wrote(_))));
    assert_eq!(node.types("net.d/10-first.conflist"), ["bridge", PLUGIN]);
    node.write("bin/lateen-cni", "spoiled");
    assert!(matches!(node.installer.put_right(), Ok(Done::Wrote(_))));
    assert_eq!(node.read("bin/lateen-cni").as_deref(), Some("version 1"));
    std::fs::remove_file(node.root.path().join("bin/lateen-cni")).expect("deleted");
    assert!(matches!(node.installer.put_right(), Ok(Done::Wrote(_))));
    // A configuration that comes to be the first is the one that counts.
    node.write("net.d/05-new.conflist", BRIDGE);
    assert!(matches!(node.installer.put_right(), Ok(Done::Wrote(_))));
    assert_eq!(node.types("net.d/05-new.conflist"), ["bridge", PLUGIN]);
}

#[test]
fn an_invalid_file_is_passed_over_and_named_when_it_is_the_only_one() {
    let node = Node::new();
    node.write("net.d/00-bad.conflist", "{");
    let error = node.installer.put_right().expect_err("nothing valid");
    assert!(error.to_string().contains("00-bad.conflist"), "{error}");
    node.write("net.d/10-single.conf", r#"{"name":"n","cniVersion":"0.4.0","type":"ptp"}"#);
    node.installer.put_right().expect("installed");
    assert_eq!(node.types("net.d/10-single.conflist"), ["ptp", PLUGIN]);
    assert_eq!(node.read("net.d/10-single.conf"), None, "it would be a second network");
}

#[test]
fn modes_are_kept_and_programs_can_be_run() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Node::new();
    node.write("net.d/10-first.conflist", BRIDGE);
    let path = node.root.path().join("net.d/10-first.conflist");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("set");
    node.installer.put_right().expect("installed");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o640);
    assert_eq!(mode(&node.root.path().join("bin/lateen-cni")), 0o755);
}

#[test]
fn removal_leaves_what_others_wrote() {
    let node = Node::new();
    node.write("net.d/10-first.conflist", BRIDGE);
    node.installer.put_right().expect("installed");
    node.write("net.d/20-other.conflist", "not JSON");
    node.installer.remove().expect("removed");
    assert_eq!(node.types("net.d/10-first.conflist"), ["bridge"]);
    assert_eq!(node.read("net.d/20-other.conflist").as_deref(), Some("not JSON"));
    assert_eq!(node.read("bin/lateen-cni"), None);
    node.installer.remove().expect("twice is fine");
}

#[test]
fn a_fight_is_told_once() {
    let mut fight = Fight::default();
    let start = Instant::now();
    let said: Vec<bool> = (0..7).map(|second| fight.write(start + Duration::from_secs(second))).collect();
    assert_eq!(said, [false, false, false, false, true, false, false]);
    assert!(!fight.write(start + Duration::from_secs(60)), "later writes are no fight");
}
