//! What operators see and do on 15000: the dump, the log level, shutdown.
//!
//! In: handles to what other rooms hold. Out: a router whose answers are made from view types.
//! Absent on purpose: changing anything but the log level and the decision to end.

mod certificates;
pub mod connections;
mod dump;
mod settings;
#[cfg(test)]
mod tests;
mod world;

use std::sync::Arc;

use lateen_identity::keeper::Keeper;
use lateen_state::world::WorldStore;
use lateen_telemetry::{
    admin::{self, Answer, Request, Router},
    log::Level,
};

use crate::config::Config;
use connections::PodView;

/// Handles to what is shown.
#[derive(Clone)]
pub struct Sources {
    /// The settings.
    pub config: Arc<Config>,
    /// The mesh.
    pub store: WorldStore,
    /// What came from a local file alone.
    pub local: WorldStore,
    /// Certificates, once there is a keeper.
    pub keeper: Option<Keeper>,
    /// The pods we serve; `None` in dedicated mode.
    pub pods: Option<Arc<dyn Fn() -> Vec<PodView> + Send + Sync>>,
    /// The log's level.
    pub level: Level,
    /// Begins the shutdown.
    pub shutdown: Arc<dyn Fn() + Send + Sync>,
}

const INDEX: &str = "<!DOCTYPE html>
<html><head><title>ztunnel</title></head><body><h1>ztunnel admin</h1><table>
<tr><td><a href=\"config_dump\">config_dump</a></td><td>what this proxy knows and holds, as JSON</td></tr>
<tr><td>logging</td><td>POST: show the log level; POST with ?level= changes it, with ?reset goes back</td></tr>
<tr><td>quitquitquit</td><td>POST: shut down</td></tr>
</table></body></html>
";

impl Sources {
    /// The routes of 15000.
    pub fn admin_router(&self) -> Router {
        let (dumped, level, shutdown) = (self.clone(), self.level.clone(), self.shutdown.clone());
        Router::new()
            .route("/", |_| Answer::new(200, "text/html; charset=utf-8", INDEX))
            .route("/config_dump", move |request| dumped.config_dump(&request))
            .route("/logging", move |request| admin::logging(&level, &request))
            .route("/quitquitquit", move |request| quit(&request, &*shutdown))
    }

    fn config_dump(&self, request: &Request) -> Answer {
        match serde_json::to_vec_pretty(&dump::dump(self)) {
            Ok(json) => Answer::new(200, "application/json", json).compressed_for(request),
            Err(error) => Answer::text(500, format!("the dump cannot be written: {error}\n")),
        }
    }
}

fn quit(request: &Request, shutdown: &dyn Fn()) -> Answer {
    if request.method != "POST" {
        return Answer::wrong_method("use POST\n");
    }
    tracing::info!("shutdown was asked for");
    shutdown();
    Answer::text(200, "shutdown now\n")
}
