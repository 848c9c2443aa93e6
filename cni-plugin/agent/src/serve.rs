//! The door: the plugin's questions, answered over HTTP on a Unix socket.
//!
//! In: JSON bodies of bounded size. Out: 200, or a status and a sentence the plugin passes on.
//! Absent on purpose: HTTP beyond one POST a connection, and how a pod is enrolled (see `enrol`).

use std::{
    convert::Infallible, io, net::IpAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use lateen_cluster::store::Key;
use lateen_cni_plugin::door::{
    ADD_PATH, AddEvent, CHECK_PATH, DEL_PATH, DelEvent, GC_PATH, GcEvent, SOCKET, STATUS_PATH,
};
use lateen_rt::{deadline::within, drain::Drain, ready::Readiness, tasks::Tasks};
use lateen_types::name::PodUid;
use serde::de::DeserializeOwned;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

use crate::{
    annotate::Mark,
    catalogue::PLUGIN_REQUESTS,
    decide::Stage,
    enrol::{EnrolError, Enroller, Place},
    pods::Cluster,
};

/// A pod with 64 addresses has about 10 KiB.
const BODY_MAX: usize = 64 * 1024;
const CONNECTIONS_MAX: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// The plugin waits 5 s; what takes longer than this is given up by then.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// How often, and how far apart, a pod the API does not know yet is asked for.
const TRIES: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// What the door needs; clones share it.
#[derive(Clone)]
pub struct Door {
    /// Who acts.
    pub enroller: Arc<Enroller>,
    /// What the cluster wants.
    pub cluster: Cluster,
    /// Whether we could act.
    pub readiness: Readiness,
}

/// A status and a sentence.
struct Answer(u16, String);

/// Listens in `run_dir`, replacing what an earlier agent left there. Only root may knock.
pub fn listen(run_dir: &Path) -> io::Result<UnixListener> {
    std::fs::create_dir_all(run_dir)?;
    let path = run_dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until the drain begins.
pub async fn serve(listener: UnixListener, door: Door, (tasks, drain): (Tasks, Drain)) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.draining() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let door = door.clone();
                tasks.spawn("plugin question", async move {
                    connection(stream, door).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a question of the plugin");
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, door: Door) {
    let service = service_fn(move |request: Request<Incoming>| {
        let door = door.clone();
        async move { Ok::<_, Infallible>(response(door.answer(request).await)) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(32)
        .max_buf_size(16 * 1024)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match within("a question of the plugin", CONNECTION_TIMEOUT, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a question of the plugin ended badly"),
        Err(error) => tracing::warn!(%error, "a question of the plugin was given up"),
    }
}

fn response(Answer(status, text): Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response
}

impl Door {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        if parts.method != http::Method::POST {
            return Answer(405, "use POST".into());
        }
        let bytes = match Limited::new(body, BODY_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Answer(400, format!("the body cannot be read (at most {BODY_MAX} bytes): {error}")),
        };
        let answer = match parts.uri.path() {
            ADD_PATH => self.parsed(&bytes, async |event| self.add(event).await).await,
            CHECK_PATH => self.parsed(&bytes, async |event| self.check(event).await).await,
            DEL_PATH => self.parsed(&bytes, async |event| self.del(event).await).await,
            GC_PATH => self.parsed(&bytes, async |event| self.gc(event).await).await,
            STATUS_PATH => self.status(),
            other => Answer(404, format!("nothing at {:?}", other.chars().take(64).collect::<String>())),
        };
        metrics::counter!(PLUGIN_REQUESTS, "response_code" => answer.0.to_string()).increment(1);
        answer
    }

    async fn parsed<T: DeserializeOwned>(&self, bytes: &[u8], act: impl AsyncFnOnce(T) -> Answer) -> Answer {
        match serde_json::from_slice(bytes) {
            Ok(event) => act(event).await,
            Err(error) => Answer(400, format!("the body is not the JSON of this question: {error}")),
        }
    }

    /// Every pod is remembered; those that are ours are enrolled before their first packet.
    async fn add(&self, event: AddEvent) -> Answer {
        let key = Key::new(&event.pod_namespace, &event.pod_name);
        match self.try_add(&key, &event).await {
            Ok(()) => Answer(200, String::new()),
            Err(reason) => {
                tracing::warn!(pod = %key, reason, "a new pod is refused; the runtime tries again");
                Answer(500, reason)
            }
        }
    }

    async fn try_add(&self, key: &Key, event: &AddEvent) -> Result<(), String> {
        let uid = event.pod_uid.as_deref().map(PodUid::from);
        let pod = self.pod_soon(key, uid.as_ref()).await?;
        if pod.host_network {
            return Ok(());
        }
        let wanted = self.cluster.wanted_now(&pod).await.map_err(|error| error.to_string())?;
        let given: Vec<IpAddr> = event.ips.iter().map(|ip| ip.address.ip).collect();
        let ips = if given.is_empty() { pod.ips.clone() } else { given };
        let Some(found) = self.enroller.finder.open(Path::new(&event.netns)) else {
            // A pod that is not ours may start; should it become ours, its namespace is searched for.
            let reason = format!("the network namespace {:?} cannot be opened, or is the node's own", event.netns);
            return if wanted { Err(reason) } else { Ok(()) };
        };
        let place = Place { netns: found.netns, path: found.path, container_id: event.container_id.clone() };
        let _turn = self.enroller.turns.take(&pod.uid).await;
        if !wanted {
            return self.enroller.remember(&pod, &ips, &place).map_err(|error| error.to_string());
        }
        self.enroller.enrol(&pod, &ips, &place).await.map_err(|error| error.to_string())?;
        tracing::info!(pod = %key, uid = %pod.uid, "enrolled a new pod");
        if let Err(error) = self.enroller.annotator.write(key, &pod.uid, Mark::Enabled).await {
            // The pod is in; the watch writes the annotation as soon as the API answers.
            tracing::warn!(pod = %key, %error, "the annotation of a new pod comes later");
            self.cluster.changed.push(key.clone());
        }
        Ok(())
    }

    /// The runtime may be quicker than what we hear from the cluster.
    async fn pod_soon(&self, key: &Key, uid: Option<&PodUid>) -> Result<crate::pods::PodView, String> {
        let mut last = String::new();
        for _ in 0..TRIES {
            match self.cluster.pod_now(key, uid).await {
                Ok(pod) => return Ok(pod),
                Err(error @ crate::pods::FetchError::Timeout(_)) => return Err(error.to_string()),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        Err(last)
    }

    async fn check(&self, event: AddEvent) -> Answer {
        let key = Key::new(&event.pod_namespace, &event.pod_name);
        let Some(pod) = self.cluster.pod(&key).filter(|pod| self.cluster.wanted(pod)) else {
            return Answer(200, String::new());
        };
        match self.enroller.ledger.find(&pod.uid) {
            Some(held) if held.entry.stage == Stage::Enrolled => Answer(200, String::new()),
            Some(_) | None => Answer(409, format!("pod {key} belongs to the mesh, but is not enrolled")),
        }
    }

    /// The sandbox goes. A newer sandbox of the same pod stays.
    async fn del(&self, event: DelEvent) -> Answer {
        let of_sandbox = |held: &crate::ledger::Held| held.entry.container_id.as_ref() == Some(&event.container_id);
        self.forget_all(of_sandbox).await
    }

    async fn gc(&self, event: GcEvent) -> Answer {
        let gone = |held: &crate::ledger::Held| {
            held.entry.container_id.as_ref().is_some_and(|id| !event.valid_container_ids.contains(id))
        };
        self.forget_all(gone).await
    }

    async fn forget_all(&self, which: impl Fn(&crate::ledger::Held) -> bool) -> Answer {
        let mut outcome: Result<(), EnrolError> = Ok(());
        for held in self.enroller.ledger.all().iter().filter(|held| which(held)) {
            let uid = held.entry.pod_uid();
            let _turn = self.enroller.turns.take(&uid).await;
            outcome = outcome.and(self.enroller.forget(&uid).await);
        }
        match outcome {
            Ok(()) => Answer(200, String::new()),
            Err(error) => Answer(500, error.to_string()),
        }
    }

    fn status(&self) -> Answer {
        let pending = self.readiness.pending();
        if !pending.is_empty() {
            return Answer(503, format!("pending: {}", pending.join(", ")));
        }
        if self.enroller.ztunnels.count() == 0 {
            return Answer(503, "no ztunnel is connected".into());
        }
        Answer(200, String::new())
    }
}
