//! What happens when nobody reads what is printed.

use std::process::{Command, Stdio};

/// `lateen … | head -0`, so to speak: the reader is gone before the first line.
fn unread(arguments: &[&str]) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let lateen = env!("CARGO_BIN_EXE_lateen");
    let output = Command::new(lateen).args(arguments).stdout(writer).stderr(Stdio::piped()).output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    assert!(output.status.success(), "{arguments:?}: {}", output.status);
}

#[test]
fn a_closed_pipe_ends_a_verb_quietly() {
    let dump = tempfile::NamedTempFile::new().expect("a file");
    let workload = r#"{"name": "a", "namespace": "shop", "workloadIps": ["10.0.0.1"], "protocol": "HBONE"}"#;
    let many = vec![workload; 2000].join(",");
    std::fs::write(dump.path(), format!(r#"{{"workloads": [{many}], "services": []}}"#)).expect("writes");
    let file = dump.path().to_str().expect("text");
    unread(&["version"]);
    unread(&["version", "-o", "json"]);
    unread(&["--help"]);
    unread(&["ztunnel-config", "all", "--file", file]);
    for form in ["table", "json", "yaml"] {
        unread(&["ztunnel-config", "workload", "--file", file, "-o", form]);
    }
}

#[test]
fn a_full_disk_is_an_error_in_words() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let lateen = env!("CARGO_BIN_EXE_lateen");
    let output = Command::new(lateen).arg("version").stdout(full).stderr(Stdio::piped()).output().expect("runs");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("writing to standard output") && !complaint.contains("panicked"), "{complaint}");
    assert!(!output.status.success());
}
