//! Routes every program of ours has.
//!
//! In: the readiness conditions, the log's level. Out: the answers of `/healthz/ready` and `/logging`.

use lateen_rt::ready::Readiness;

use super::{Answer, Request};
use crate::log::Level;

/// 200 `ready`, or 500 with the conditions that do not hold.
pub fn ready(readiness: &Readiness, request: &Request) -> Answer {
    if request.method != "GET" {
        return Answer::wrong_method("use GET\n");
    }
    let pending = readiness.pending();
    if pending.is_empty() {
        Answer::text(200, "ready\n")
    } else {
        Answer::text(500, format!("not ready, pending: {}\n", pending.join(", ")))
    }
}

const LOGGING_HELP: &str = "usage: POST /logging\t\t\t\t\t\t(To list current level)
usage: POST /logging?level=<level>\t\t\t\t(To change global levels)
usage: POST /logging?level={mod1}=<level>,{mod2}=<level>\t(To change specific modules' logging level)
usage: POST /logging?reset\t\t\t\t\t(To go back to the levels of the start; may be joined with level)
levels: off, error, warn, info, debug, trace\n";

/// Shows the level, changes it (`?level=`), goes back to that of the start (`?reset`).
pub fn logging(level: &Level, request: &Request) -> Answer {
    if request.method != "POST" {
        return Answer::wrong_method(LOGGING_HELP);
    }
    let parameters = request.parameters();
    let wanted = parameters.iter().find(|(key, _)| key == "level").map(|(_, value)| value.as_str());
    let reset = parameters.iter().any(|(key, _)| key == "reset");
    if !parameters.is_empty() && wanted.is_none() && !reset {
        return Answer::text(400, LOGGING_HELP);
    }
    let changed = match (reset, wanted) {
        (true, wanted) => level.reset(wanted),
        (false, Some(wanted)) => level.add(wanted),
        (false, None) => Ok(()),
    };
    match changed {
        Ok(()) => Answer::text(200, format!("current log level is {}\n", level.current())),
        Err(error) => Answer::text(400, format!("{error}\n{LOGGING_HELP}")),
    }
}
