//! Resources from a local file, for tests and for running without a control plane.
//!
//! In: YAML in the reference's format. Out: the same changes the control plane would bring, through the same decoder.
//! Absent on purpose: watching the file; it is read once at start.

mod convert;
mod shapes;
#[cfg(test)]
mod tests;

use lateen_state::{decode, index::Change};
use lateen_wire::workload::{Address, address::Type};
use prost::Message as _;

use crate::config::LocalSource;
use shapes::File;

/// Why local resources cannot be used. Unlike those of a control plane they are refused as a whole: a typing error in a
/// file should stop the start, not show up as a missing pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalError {
    /// The file cannot be read.
    #[error("LOCAL_XDS_PATH={path}: {reason}")]
    Read {
        /// Where.
        path: String,
        /// Why not.
        reason: String,
    },
    /// It is not the format.
    #[error("local resources are not in the expected YAML form: {0}")]
    Form(String),
    /// One resource is not valid.
    #[error("local {kind} {name}: {reason}")]
    Resource {
        /// `workload`, `service` or `policy`.
        kind: &'static str,
        /// Which.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads what `source` holds.
pub fn load(source: &LocalSource) -> Result<Vec<Change>, LocalError> {
    match source {
        LocalSource::Text(text) => parse(text),
        LocalSource::File(path) => {
            let text = std::fs::read_to_string(path);
            let read = |error: std::io::Error| LocalError::Read {
                path: path.display().to_string(),
                reason: error.to_string(),
            };
            parse(&text.map_err(read)?)
        }
    }
}

/// Reads local resources: policies first, since workloads name them.
pub fn parse(text: &str) -> Result<Vec<Change>, LocalError> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| LocalError::Form(error.to_string()))?;
    let mut changes = Vec::new();
    for policy in file.policies {
        let name = format!("{}/{}", policy.namespace, policy.name);
        let bad = |reason| LocalError::Resource { kind: "policy", name: name.clone(), reason };
        let message = convert::policy(policy).map_err(bad)?;
        let bad = |error: decode::DecodeError| bad(error.to_string());
        changes.push(decode::policy(&message.encode_to_vec()).map_err(bad)?);
    }
    for service in file.services {
        let name = format!("{}/{}", service.namespace, service.hostname);
        let bad = |reason| LocalError::Resource { kind: "service", name: name.clone(), reason };
        let message = convert::service(service).map_err(bad)?;
        changes.push(through_wire(Type::Service(message)).map_err(bad)?);
    }
    for workload in file.workloads {
        let name = workload.uid.clone();
        let bad = |reason| LocalError::Resource { kind: "workload", name: name.clone(), reason };
        let message = convert::workload(workload).map_err(bad)?;
        changes.push(through_wire(Type::Workload(message)).map_err(bad)?);
    }
    Ok(changes)
}

/// The decoder is the one door into the world, so local resources take it too.
fn through_wire(message: Type) -> Result<Change, String> {
    let bytes = Address { r#type: Some(message) }.encode_to_vec();
    decode::address(&bytes).map_err(|error| error.to_string())
}
