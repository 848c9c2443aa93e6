//! The source tree as the other walls read it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// One text file.
pub struct SourceFile {
    /// From the root of the tree, with `/`.
    pub path: String,
    pub text: String,
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_owned()
}

/// Every text file that is ours, build products and the repository's own directory left out.
pub fn files() -> Vec<SourceFile> {
    let root = root();
    let mut files = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let entry = entry.expect("an entry");
            let (kind, path) = (entry.file_type().expect("a type"), entry.path());
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind.is_dir() && !matches!(name.as_str(), "target" | ".git" | "corpus" | "artifacts") {
                directories.push(path);
            } else if kind.is_file() && name != "Cargo.lock" && name != ".git" {
                // What is not UTF-8 is not text.
                if let Ok(text) = fs::read_to_string(&path) {
                    let path = path.strip_prefix(&root).expect("below the root").to_string_lossy().replace('\\', "/");
                    files.push(SourceFile { path, text });
                }
            }
        }
    }
    assert!(files.len() > 50, "only {} files found below {}", files.len(), root.display());
    files
}

/// The Rust files of ours.
pub fn rust_files() -> Vec<SourceFile> {
    files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// What cargo prints, without ever asking the network.
pub fn cargo(args: &[&str]) -> String {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(cargo).args(args).args(["--locked", "--offline"]).current_dir(root()).output();
    let output = output.expect("cargo runs");
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo speaks UTF-8")
}

/// The machine the tests were built on, whose crates are all that is sure to be on disk.
pub fn host() -> String {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8(rustc.stdout).expect("rustc speaks UTF-8");
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

/// Fails with all findings at once.
pub fn assert_none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}\n  {}\n", findings.join("\n  "));
}
