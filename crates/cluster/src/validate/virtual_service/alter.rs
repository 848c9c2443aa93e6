//! Changes of headers: V35.

use crate::validate::{
    at::{At, Report},
    field,
};

pub(super) fn headers(of: &At<'_>, report: &mut Report) {
    let Some(headers) = of.get("headers") else { return };
    for (direction, host_too) in [("request", true), ("response", false)] {
        let Some(edits) = headers.get(direction) else { continue };
        for edit in ["set", "add"] {
            let Some(map) = edits.get(edit) else { continue };
            for (name, value) in map.members() {
                if name.is_empty() {
                    report.error(&map.path, "the name of a header is empty", "name it");
                } else {
                    named(name, &value.path, host_too, report);
                }
                if !field::is_template(value.word()) {
                    let reason = format!("{:?} has a % that begins or ends nothing", value.word());
                    report.error(&value.path, reason, "write %% for the sign, or an operator such as %REQ(x-a)%");
                }
            }
        }
        for name in edits.list("remove") {
            match name.word() {
                "" => report.error(&name.path, "the name of a header is empty", "name it"),
                text => named(text, &name.path, false, report),
            }
        }
    }
}

/// Of values that HTTP/2 names with a colon only the host can be set, and only in requests.
fn named(name: &str, path: &str, host_too: bool, report: &mut Report) {
    let is_host = matches!(name.to_ascii_lowercase().as_str(), "host" | ":authority");
    if is_host && host_too {
        return;
    }
    if is_host {
        report.error(
            path,
            format!("{name} cannot be changed here"),
            "set it in headers.request.set or rewrite.authority",
        );
    } else if name.starts_with(':') {
        report.error(path, format!("{name} cannot be changed as a header"), "use rewrite, or remove it");
    } else if !field::is_header_name(name) {
        report.error(path, format!("{name:?} is not the name of a header"), "use letters, digits and -");
    }
}
