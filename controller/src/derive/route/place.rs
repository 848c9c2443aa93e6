//! Where a destination leads: a service, one of its ports, perhaps one of its subsets.

use lateen_cluster::api::Destination;
use lateen_wire::proxy::{self as wire, weighted};

use super::Context;

/// What requests are answered with whose destination is not there.
const MISSING: u32 = 503;

/// The destination, or why there is none.
pub(super) fn upstream(context: &Context<'_>, written: &Destination) -> Result<wire::Upstream, String> {
    let asker = context.asker;
    let host = asker.mesh.fqdn(&written.host, &context.owner.namespace);
    let missing = |what: String| format!("{}: {what}", context.field);
    let service = asker.look.service(&host).ok_or_else(|| missing(format!("there is no service {host}")))?;
    let port = match (&written.port, service.ports.as_slice()) {
        (Some(port), _) => port.number,
        (None, [only]) => u32::from(only.number),
        (None, _) => u32::from(asker.port),
    };
    if !u16::try_from(port).is_ok_and(|port| service.port(port).is_some()) {
        return Err(missing(format!("{host} has no TCP port {port}")));
    }
    if !written.subset.is_empty() && !asker.look.has_subset(&service.name, &written.subset) {
        return Err(missing(format!("no DestinationRule gives {host} the subset {}", written.subset)));
    }
    Ok(wire::Upstream {
        namespace: service.name.namespace.to_string(),
        hostname: host,
        port,
        subset: written.subset.clone(),
    })
}

/// As a share of a route; what is missing keeps its share, which is answered with an error.
pub(super) fn weighted(
    context: &Context<'_>,
    (written, weight): (&Destination, u32),
    problems: &mut Vec<String>,
) -> wire::Weighted {
    let to = match upstream(context, written) {
        Ok(upstream) => weighted::To::Upstream(upstream),
        Err(problem) => {
            problems.push(problem);
            weighted::To::InvalidStatus(MISSING)
        }
    };
    wire::Weighted { weight, to: Some(to), ..wire::Weighted::default() }
}

/// The shares of several: one alone takes everything whatever its weight, of several those without weight get nothing.
pub(super) fn shares<T>(targets: &[T], weight: impl Fn(&T) -> i64) -> Vec<(&T, u32)> {
    match targets {
        [only] => vec![(only, 1)],
        several => {
            let each = several.iter().map(|one| (one, u32::try_from(weight(one)).unwrap_or_default()));
            each.filter(|(_, weight)| *weight > 0).collect()
        }
    }
}
