//! Images made by `deploy/images/build`: what is in them, that it runs, and that they are the same every time.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use lateen_tests::deploy::{list, root, text, word, words};
use serde_json::Value;

/// An image, unpacked.
struct Image {
    directory: tempfile::TempDir,
    config: Value,
}

/// Where cargo puts the programs that are built beside this test.
fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    test.ancestors().nth(2).expect("target/<profile>/deps/<test>").to_owned()
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn build(out: &Path, further: &[&str]) -> String {
    let mut command = Command::new(root().join("deploy/images/build"));
    let output = run(command.arg("--out").arg(out).arg("--bin").arg(programs()).args(further));
    String::from_utf8(output.stdout).expect("text")
}

fn digest(path: &Path) -> String {
    let output = run(Command::new("sha256sum").arg(path));
    String::from_utf8(output.stdout).expect("text").split_whitespace().next().expect("a digest").to_owned()
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

impl Image {
    /// Unpacks the image in `tar`, following its digests from the index down as a runtime does.
    fn unpack(tar: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let layout = directory.path().join("layout");
        std::fs::create_dir_all(directory.path().join("root")).expect("made");
        std::fs::create_dir_all(&layout).expect("made");
        run(Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(&layout));
        assert_eq!(json(&layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
        let blob = |described: &Value| -> PathBuf {
            let name = word(described, "/digest").strip_prefix("sha256:").expect("a digest").to_owned();
            let path = layout.join("blobs/sha256").join(&name);
            assert_eq!(digest(&path), name, "the name of a blob is its digest");
            assert_eq!(described["size"].as_u64(), Some(path.metadata().expect("there").len()), "{name}");
            path
        };
        let manifest = json(&blob(&json(&layout.join("index.json"))["manifests"][0]));
        let config = json(&blob(&manifest["config"]));
        let [layer] = list(&manifest, "/layers") else { panic!("one layer, not {manifest}") };
        assert_eq!(words(&config, "/rootfs/diff_ids"), [word(layer, "/digest")], "the layer is not compressed");
        run(Command::new("tar").arg("-xf").arg(blob(layer)).arg("-C").arg(directory.path().join("root")));
        Self { directory, config }
    }

    /// A command inside, as its user sees it: nothing of this machine but the kernel.
    fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "chroot"]).arg(self.directory.path().join("root")).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// The files with the execute bit that are no libraries.
    fn programs(&self) -> Vec<String> {
        let find =
            "find . -path ./lib -prune -o -path ./lib64 -prune -o -path ./usr/lib -prune -o -type f -perm -0100 -print";
        let output = run(Command::new("sh").args(["-c", find]).current_dir(self.directory.path().join("root")));
        let text = String::from_utf8(output.stdout).expect("text");
        let mut all: Vec<String> = text.lines().map(|line| line.trim_start_matches('.').to_owned()).collect();
        all.sort_unstable();
        all
    }

    /// Every library of a program, looked for by the image's own loader in the image.
    fn assert_complete(&self, program: &str) {
        let loader = match std::env::consts::ARCH {
            "x86_64" => "/lib64/ld-linux-x86-64.so.2",
            "aarch64" => "/lib/ld-linux-aarch64.so.1",
            other => panic!("what loads programs on {other}?"),
        };
        if self.directory.path().join("root").join(&loader[1..]).exists() {
            let listed = run(&mut self.inside(&[loader, "--list", program])).stdout;
            let listed = String::from_utf8(listed).expect("text");
            assert!(listed.contains("libc.so.6") && !listed.contains("not found"), "{program}: {listed}");
        }
    }
}

/// What an image holds, as who it runs, and what its programs say when they are asked something harmless.
struct Expected {
    image: &'static str,
    user: &'static str,
    programs: &'static [&'static str],
    answers: &'static [Answer],
}

/// A command, its environment, and a word of its answer.
struct Answer {
    command: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    says: &'static str,
}

const EXPECTED: [Expected; 4] = [
    Expected {
        image: "controller",
        user: "1337:1337",
        programs: &["/usr/local/bin/lateen-controller"],
        answers: &[Answer {
            command: &["/usr/local/bin/lateen-controller"],
            environment: &[("HTTP_PORT", "none")],
            says: "environment variable HTTP_PORT is not valid",
        }],
    },
    Expected {
        image: "cni-agent",
        user: "0:0",
        programs: &["/opt/cni/bin/lateen-cni", "/usr/local/bin/lateen-cni-agent", "/usr/sbin/nft"],
        answers: &[
            Answer { command: &["/usr/local/bin/lateen-cni-agent"], environment: &[], says: "NODE_NAME" },
            Answer {
                command: &["/opt/cni/bin/lateen-cni"],
                environment: &[("CNI_COMMAND", "VERSION")],
                says: "cniVersion",
            },
            // The rules are the kernel's business; that nft reaches it shows that nothing of it is missing.
            Answer { command: &["/usr/sbin/nft", "list", "ruleset"], environment: &[], says: "" },
        ],
    },
    Expected {
        image: "ztunnel",
        user: "0:1337",
        programs: &["/usr/local/bin/ztunnel"],
        answers: &[Answer { command: &["/usr/local/bin/ztunnel", "version"], environment: &[], says: "ztunnel 0." }],
    },
    Expected {
        image: "waypoint",
        user: "1337:1337",
        programs: &["/usr/local/bin/waypoint"],
        answers: &[Answer { command: &["/usr/local/bin/waypoint", "version"], environment: &[], says: "waypoint 0." }],
    },
];

#[test]
fn an_image_holds_its_program_and_all_that_it_needs_and_no_more() {
    let out = tempfile::tempdir().expect("a directory");
    let said = build(out.path(), &[]);
    for expected in EXPECTED {
        let name = expected.image;
        assert!(said.contains(&format!("localhost/lateen/{name}:")), "{said}");
        let image = Image::unpack(&out.path().join(format!("{name}.tar")));
        assert_eq!(word(&image.config, "/config/User"), expected.user, "{name}");
        assert_eq!(word(&image.config, "/config/WorkingDir"), "/", "{name}: paths of secrets are relative");
        let entrypoint = words(&image.config, "/config/Entrypoint");
        assert_eq!(image.programs(), expected.programs, "{name}");
        assert!(expected.programs.contains(&entrypoint[0].as_str()), "{name} starts {entrypoint:?}");
        for program in expected.programs {
            image.assert_complete(program);
        }
        for answer in expected.answers {
            let mut command = image.inside(answer.command);
            let output = command.envs(answer.environment.iter().copied()).output().expect("it starts");
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            assert!(text.contains(answer.says) && !text.contains("cannot open shared"), "{:?}: {text}", answer.command);
            assert!(!answer.says.is_empty() || output.status.success(), "{:?}: {text}", answer.command);
        }
    }
    let ztunnel = Image::unpack(&out.path().join("ztunnel.tar"));
    let roots = ztunnel.directory.path().join("root/etc/ssl/certs/ca-certificates.crt");
    assert!(std::fs::read_to_string(roots).expect("text").contains("BEGIN CERTIFICATE"));
}

#[test]
fn the_same_programs_give_the_same_image_whenever_and_as_whomever() {
    let (one, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let first = build(one.path(), &["ztunnel"]);
    let again = format!(
        "umask 077 && exec {} --out {} --bin {} ztunnel",
        root().join("deploy/images/build").display(),
        other.path().display(),
        programs().display()
    );
    // Nothing that a tar usually remembers of its maker may be in it.
    let second = run(Command::new("sh").args(["-c", &again]).env("TZ", "Asia/Tokyo").env("LANG", "tr_TR.UTF-8"));
    let reference = |said: &str| said.split('\t').take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(reference(&first), reference(&String::from_utf8(second.stdout).expect("text")));
    assert_eq!(digest(&one.path().join("ztunnel.tar")), digest(&other.path().join("ztunnel.tar")));
}

#[test]
fn what_is_missing_is_named() {
    let out = tempfile::tempdir().expect("a directory");
    for (arguments, says) in [
        (&["--bin", "/nonexistent", "ztunnel"][..], "/nonexistent/ztunnel is missing; build it with"),
        (&["pilot"], "there is no image pilot; there are controller"),
    ] {
        let mut command = Command::new(root().join("deploy/images/build"));
        let output = command.arg("--out").arg(out.path()).args(arguments).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(says), "{arguments:?}: {said}");
    }
    assert_eq!(std::fs::read_dir(out.path()).expect("a directory").count(), 0, "half an image is none");
}

#[test]
fn the_dockerfile_makes_what_the_script_makes() {
    let dockerfile = text("deploy/images/Dockerfile");
    assert!(dockerfile.contains("deploy/images/build --out /images --trees"));
    for expected in EXPECTED {
        let stage = dockerfile.split(&format!("FROM scratch AS {}\n", expected.image)).nth(1).expect("a stage");
        let stage = stage.split("\nFROM ").next().expect("its lines");
        let lines = format!("COPY --from=build /images/{}/ /\nUSER {}\n", expected.image, expected.user);
        assert!(stage.starts_with(&lines), "{stage}");
    }
}
