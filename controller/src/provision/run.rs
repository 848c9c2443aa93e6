//! Follows Gateways and what was made for them, and puts right what differs. Only the leader writes.
//!
//! In: the API. Out: the API. Absent on purpose: every decision (see `plan` and `report`).

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use futures::future::join_all;
use kube::{Api, Client, api::DynamicObject, runtime::watcher};
use lateen_cluster::{
    labels,
    store::{self, Key, Listener, Reading, Store},
};
use lateen_rt::{backoff::Backoff, deadline::within, inbox::Inbox};
use serde_json::json;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{
    apply,
    classes::{Announced, CLASSES, Class},
    defaults::Defaults,
    facts::{Address, Wanted},
    overlay::Overlays,
    plan::{self, Around, Kind, Planned, Refused, Subject},
    present::{Noted, Present},
    report::{self, Outcome},
};
use crate::{
    derive::Mesh,
    events::{self, About},
    facts::{Age, Namespace, Servers},
    leader::Leading,
    settings::Settings,
};

/// What there is to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Task {
    /// A Gateway.
    Gateway(Key),
    /// The classes.
    Classes,
    /// Everything.
    All,
}

/// Where the control plane is.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// Its revision.
    pub revision: String,
}

/// What running Gateways needs.
pub struct Provisioner {
    /// The API.
    pub client: Client,
    /// Where we are.
    pub place: Place,
    /// What the installation says of pods.
    pub defaults: Defaults,
    /// What holds for the mesh.
    pub settings: watch::Receiver<Option<Arc<Settings>>>,
    /// All namespaces, one of which says what the network is called.
    pub namespaces: Store<Namespace>,
    /// Whether this process writes.
    pub leading: Leading,
}

/// How often overlays that a Gateway names are read again: they are not watched, since that takes the right to read every
/// ConfigMap of the cluster at once.
const OVERLAYS_EVERY: Duration = Duration::from_secs(30);
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// The cluster as it is followed here.
struct Known {
    gateways: Store<Wanted>,
    classes: Store<Announced>,
    overlays: Store<Layer>,
    servers: Store<Servers>,
    made: HashMap<Kind, Store<Present>>,
}

/// Overlays for a whole class.
#[derive(Debug, Clone, PartialEq)]
struct Layer {
    class: String,
    age: Age,
    overlays: Result<Overlays, Refused>,
}

/// What was written last for a Gateway, and what the API made of it.
struct Settled {
    planned: Vec<Planned>,
    shapes: Vec<Option<u64>>,
    available: u64,
}

impl Provisioner {
    /// Runs Gateways, for ever.
    pub async fn run(mut self) {
        let inbox = Inbox::new();
        let (known, following, mut left) = follow(&self.client, &self.place.namespace, &inbox);
        tokio::pin!(following);
        // A class that is not known yet would be taken for one of ours by its name.
        tokio::select! {
            () = &mut following => return,
            found = left.wait_for(|left| *left == 0) => if found.is_err() { return },
        }
        let mut settled = HashMap::new();
        let mut again = tokio::time::interval(OVERLAYS_EVERY);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pace = Backoff::new(Duration::from_millis(200), Duration::from_secs(30)).with_jitter(0.2);
        loop {
            // Following never ends; dropping a drain or a change takes nothing.
            let batch = tokio::select! {
                () = &mut following => return,
                batch = inbox.drain() => batch,
                _ = again.tick() => with_overlays(&known),
                changed = self.settings.changed() => if changed.is_ok() { vec![Task::All] } else { return },
                changed = self.leading.changed() => if changed.is_ok() { vec![Task::All] } else { return },
            };
            // Who comes to lead looks at everything, so nothing is lost here.
            if !*self.leading.borrow() {
                settled.clear();
                continue;
            }
            let failed = tokio::select! {
                () = &mut following => return,
                failed = self.put_right(batch, &known, &mut settled) => failed,
            };
            if failed.is_empty() {
                pace.reset();
                continue;
            }
            tokio::select! {
                () = &mut following => return,
                () = tokio::time::sleep(pace.next_wait()) => failed.into_iter().for_each(|task| inbox.push(task)),
            }
        }
    }

    /// Looks at what is named; what is to be looked at again.
    async fn put_right(&self, batch: Vec<Task>, known: &Known, settled: &mut HashMap<Key, Settled>) -> Vec<Task> {
        let mut failed = Vec::new();
        let everything = batch.contains(&Task::All);
        if (everything || batch.contains(&Task::Classes))
            && let Err(reason) = self.announce(known).await
        {
            tracing::warn!(reason, "announcing the classes of Gateways failed; trying again");
            failed.push(Task::Classes);
        }
        let keys: Vec<Key> = if everything {
            known.gateways.snapshot().into_iter().map(|(key, _)| key).collect()
        } else {
            batch.into_iter().filter_map(|task| if let Task::Gateway(key) = task { Some(key) } else { None }).collect()
        };
        for key in keys {
            let Some(wanted) = known.gateways.find(&key) else {
                settled.remove(&key);
                continue;
            };
            if let Err(reason) = self.gateway(&key, &wanted, known, settled).await {
                tracing::warn!(gateway = %key, reason, "running a Gateway failed; trying again");
                failed.push(Task::Gateway(key));
            }
        }
        failed
    }

    /// Makes what announces our classes where it is missing, and accepts every class that names us.
    async fn announce(&self, known: &Known) -> Result<(), String> {
        for class in CLASSES {
            let is_there = known.classes.find(&Key::new("", class.name)).is_some();
            if !is_there && !apply::announce(&self.client, class).await? {
                // The kind is not installed; it is looked for again when it is.
                return Ok(());
            }
        }
        for (key, found) in known.classes.snapshot() {
            let Some(class) = Class::of(&key.name, Some(&found.controller)).filter(|_| !found.is_told) else {
                continue;
            };
            let condition = json!({
                "type": "Accepted", "status": "True", "reason": "Accepted", "message": "Lateen runs Gateways of this class",
                "lastTransitionTime": found.accepted_since.clone().unwrap_or_else(now), "observedGeneration": found.generation,
            });
            apply::accept(&self.client, &key.name, condition, class.features()).await?;
        }
        Ok(())
    }

    async fn gateway(
        &self,
        key: &Key,
        wanted: &Wanted,
        known: &Known,
        settled: &mut HashMap<Key, Settled>,
    ) -> Result<(), String> {
        let controller = known.classes.find(&Key::new("", &wanted.class));
        let class = Class::of(&wanted.class, controller.as_ref().map(|class| class.controller.as_str()));
        let Some(class) = class.filter(|_| wanted.is_for(&self.place.revision) && !wanted.is_of_newer()) else {
            settled.remove(key);
            return Ok(());
        };
        let Some(settings) = self.settings.borrow().clone() else { return Ok(()) };
        let subject = Subject { key, wanted, class };
        let (outcome, written) = match self.objects(subject, known, &settings.mesh).await? {
            Err(outcome) => (outcome, Ok(())),
            Ok(planned) => match self.write(subject, planned, known, settled).await {
                Ok(outcome) => (outcome, Ok(())),
                Err(why) => (Outcome::Failed(why.clone()), Err(why)),
            },
        };
        let said = report::report(key, wanted, &outcome, &settings.mesh.domain);
        if let Some(said) = report::dated(said, &wanted.held, &now()) {
            apply::tell(&self.client, key, &said).await?;
        }
        written
    }

    /// The planned objects, or what else is to be said.
    async fn objects(
        &self,
        subject: Subject<'_>,
        known: &Known,
        mesh: &Mesh,
    ) -> Result<Result<Vec<Planned>, Outcome>, String> {
        let refused = |refused: Refused| Outcome::Refused { reason: refused.reason, message: refused.message };
        match &subject.wanted.address {
            Address::Elsewhere(places) => return Ok(Err(report::of_places(places, subject.class.role))),
            Address::Unsupported(why) => {
                let message = format!("spec.addresses: {why}");
                return Ok(Err(Outcome::Refused { reason: "UnsupportedAddress", message }));
            }
            Address::Any | Address::Ip(_) => {}
        }
        let overlays = match self.overlays(subject, known).await? {
            Ok(overlays) => overlays,
            Err(why) => return Ok(Err(refused(why))),
        };
        let root = self.namespaces.find(&Key::new("", &mesh.root_namespace));
        let mut servers = known.servers.snapshot();
        servers.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let servers: Vec<Arc<Servers>> = servers.into_iter().map(|(_, servers)| servers).collect();
        let around = Around {
            namespace: &self.place.namespace,
            revision: &self.place.revision,
            defaults: &self.defaults,
            mesh,
            network: root.as_ref().map_or("", |root| root.network.as_str()),
            servers: &servers,
        };
        Ok(plan::plan(subject, &overlays, around).map_err(refused))
    }

    /// The layers over the template: those of the class, then the Gateway's own.
    async fn overlays(&self, subject: Subject<'_>, known: &Known) -> Result<Result<Vec<Overlays>, Refused>, String> {
        let mut layers = Vec::new();
        let mut of_class = known.overlays.snapshot();
        of_class.retain(|(_, layer)| layer.class == subject.wanted.class);
        // Of several the oldest counts, as in the reference.
        if let Some((_, layer)) = of_class.into_iter().min_by_key(|(_, layer)| layer.age.clone()) {
            match &layer.overlays {
                Ok(overlays) => layers.push(overlays.clone()),
                Err(refused) => return Ok(Err(refused.clone())),
            }
        }
        let Some(asked) = &subject.wanted.infrastructure.parameters_ref else { return Ok(Ok(layers)) };
        if !matches!(asked.group.as_str(), "" | "core") || asked.kind != "ConfigMap" {
            let message = format!("infrastructure.parametersRef: {}/{}; use a ConfigMap", asked.group, asked.kind);
            return Ok(Err(Refused::parameters(message)));
        }
        let api: Api<k8s_openapi::api::core::v1::ConfigMap> =
            Api::namespaced(self.client.clone(), &subject.key.namespace);
        let found = within("reading a ConfigMap", API_TIMEOUT, api.get_opt(&asked.name)).await;
        let found = found.map_err(|late| late.to_string())?.map_err(|error| error.to_string())?;
        let Some(map) = found else {
            let place = format!("{}/{}", subject.key.namespace, asked.name);
            return Ok(Err(Refused::parameters(format!(
                "infrastructure.parametersRef: there is no ConfigMap {place}"
            ))));
        };
        let read = Overlays::read(&asked.name, &map.data.unwrap_or_default());
        Ok(read.map(|overlays| {
            layers.push(overlays);
            layers
        }))
    }

    /// Writes what differs, removes what is no longer wanted.
    async fn write(
        &self,
        subject: Subject<'_>,
        planned: Vec<Planned>,
        known: &Known,
        settled: &mut HashMap<Key, Settled>,
    ) -> Result<Outcome, String> {
        let key = subject.key;
        let shapes = known.shapes(key, &planned);
        let before = settled.remove(key);
        let was_available = before.as_ref().map_or(0, |before| before.available);
        let is_settled = before.is_some_and(|before| before.planned == planned && before.shapes == shapes);
        let mut answers: HashMap<Kind, Present> = HashMap::new();
        if !is_settled {
            for (one, shape) in planned.iter().zip(&shapes) {
                let answer = apply::put(&self.client, key, one, shape.is_some()).await?;
                answers.extend(answer.map(|answer| (one.kind, answer)));
            }
            for (kind, surplus) in known.surplus(subject, &planned) {
                apply::remove(&self.client, kind, &surplus).await?;
                tracing::info!(gateway = %key, ?kind, object = %surplus, "removed what is no longer wanted");
            }
        }
        let outcome = known.outcome(subject, &planned, &answers);
        let shapes =
            planned.iter().zip(shapes).map(|(one, shape)| answers.get(&one.kind).map(|one| one.shape).or(shape));
        let available = if let Outcome::Made { available, .. } = &outcome { *available } else { 0 };
        settled.insert(key.clone(), Settled { shapes: shapes.collect(), planned, available });
        if was_available > 0 && available == 0 {
            let about =
                About { api_version: "gateway.networking.k8s.io/v1", kind: "Gateway", key, uid: &subject.wanted.uid };
            let words = "none of its pods is ready; traffic that must pass it is refused until one is";
            events::warn(&self.client, about, "WaypointNotReady", words).await;
        }
        Ok(outcome)
    }
}

impl Known {
    fn present(&self, gateway: &Key, planned: &Planned) -> Option<Arc<Present>> {
        let found = self.made.get(&planned.kind)?.find(&Key::new(&gateway.namespace, &planned.name))?;
        (found.gateway == *gateway).then_some(found)
    }

    fn shapes(&self, gateway: &Key, planned: &[Planned]) -> Vec<Option<u64>> {
        planned.iter().map(|one| self.present(gateway, one).map(|present| present.shape)).collect()
    }

    /// What was made for this very Gateway and is not planned any more.
    fn surplus(&self, subject: Subject<'_>, planned: &[Planned]) -> Vec<(Kind, Key)> {
        let mut surplus = Vec::new();
        for (kind, store) in &self.made {
            let of_gateway = store
                .snapshot()
                .into_iter()
                .filter(|(_, present)| present.gateway == *subject.key && present.owners.contains(&subject.wanted.uid));
            let is_planned = |key: &Key| planned.iter().any(|one| one.kind == *kind && *one.name == *key.name);
            surplus.extend(of_gateway.filter(|(key, _)| !is_planned(key)).map(|(key, _)| (*kind, key)));
        }
        surplus
    }

    fn outcome(&self, subject: Subject<'_>, planned: &[Planned], answers: &HashMap<Kind, Present>) -> Outcome {
        let find = |kind: Kind| planned.iter().find(|one| one.kind == kind);
        let state = |kind: Kind| {
            let kept = find(kind).and_then(|one| self.present(subject.key, one)).map(|kept| (*kept).clone());
            answers.get(&kind).cloned().or(kept)
        };
        let service = find(Kind::Service);
        Outcome::Made {
            service: service.map(|one| one.name.clone()).unwrap_or_default(),
            places: state(Kind::Service).map(|present| present.places).unwrap_or_default(),
            role: subject.class.role,
            is_internal: service.is_some_and(|one| one.object["spec"]["type"] != "LoadBalancer"),
            available: state(Kind::Deployment).map_or(0, |present| present.available),
        }
    }
}

fn with_overlays(known: &Known) -> Vec<Task> {
    let all = known.gateways.snapshot().into_iter();
    all.filter(|(_, wanted)| wanted.infrastructure.parameters_ref.is_some())
        .map(|(key, _)| Task::Gateway(key))
        .collect()
}

fn now() -> String {
    jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string()
}

type Following = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Follows everything; how many kinds are not complete yet.
fn follow(
    client: &Client,
    own: &str,
    inbox: &Inbox<Task>,
) -> (Known, impl Future<Output = ()> + use<>, watch::Receiver<usize>) {
    let left = watch::Sender::new(0);
    let seen = left.subscribe();
    let mut all: Vec<Following> = Vec::new();
    let mut made = HashMap::new();
    let values: Vec<String> = CLASSES.iter().map(|class| class.managed()).collect();
    let ours = watcher::Config::default().labels(&format!("{} in ({})", labels::MANAGED, values.join(",")));
    for kind in Kind::ALL {
        let store = Store::default();
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &apply::resource(kind));
        let noted = Noted::new(inbox.clone(), left.clone());
        all.push(Box::pin(store::follow(api, ours.clone(), store.clone(), noted)));
        made.insert(kind, store);
    }
    let known = Known {
        gateways: Store::default(),
        classes: Store::default(),
        overlays: Store::default(),
        servers: Store::default(),
        made,
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &apply::servers());
    let listener = Told::new(Servers::read, |_| Task::All, inbox, &left);
    all.push(Box::pin(store::follow(api, watcher::Config::default(), known.servers.clone(), listener)));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &apply::gateways());
    let listener = Told::new(Wanted::read, |key| Task::Gateway(key.clone()), inbox, &left);
    all.push(Box::pin(store::follow(api, watcher::Config::default(), known.gateways.clone(), listener)));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &apply::classes());
    let listener = Told::new(|class| Reading::Value(Announced::of(class)), |_| Task::All, inbox, &left)
        .at_each_list(Task::Classes);
    all.push(Box::pin(store::follow(api, watcher::Config::default(), known.classes.clone(), listener)));
    let kind = kube::api::ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), own, &kind);
    let config = watcher::Config::default().labels(labels::GATEWAY_DEFAULTS);
    let listener = Told::new(read_layer, |_| Task::All, inbox, &left);
    all.push(Box::pin(store::follow(api, config, known.overlays.clone(), listener)));
    (known, async move { drop(join_all(all).await) }, seen)
}

fn read_layer(object: &DynamicObject) -> Reading<Layer> {
    let meta = &object.metadata;
    let Some(class) = meta.labels.as_ref().and_then(|all| all.get(labels::GATEWAY_DEFAULTS)) else {
        return Reading::Nothing;
    };
    let data = object.data.get("data").cloned().unwrap_or_default();
    let data = serde_json::from_value(data).unwrap_or_default();
    let overlays = Overlays::read(meta.name.as_deref().unwrap_or_default(), &data);
    Reading::Value(Layer { class: class.clone(), age: Age::of(meta), overlays })
}

type Read<V> = fn(&DynamicObject) -> Reading<V>;

/// Asks for a look at what changes.
struct Told<V> {
    read: Read<V>,
    task: fn(&Key) -> Task,
    inbox: Inbox<Task>,
    left: Option<watch::Sender<usize>>,
    at_list: Option<Task>,
}

impl<V> Told<V> {
    fn new(read: Read<V>, task: fn(&Key) -> Task, inbox: &Inbox<Task>, left: &watch::Sender<usize>) -> Self {
        left.send_modify(|left| *left += 1);
        Self { read, task, inbox: inbox.clone(), left: Some(left.clone()), at_list: None }
    }

    fn at_each_list(mut self, task: Task) -> Self {
        self.at_list = Some(task);
        self
    }
}

impl<V: PartialEq + Send + Sync> Listener<DynamicObject> for Told<V> {
    type Value = V;

    fn read(&mut self, object: DynamicObject) -> Reading<V> {
        (self.read)(&object)
    }

    fn changed(&mut self, key: &Key) {
        self.inbox.push((self.task)(key));
    }

    fn complete(&mut self) {
        if let Some(left) = self.left.take() {
            left.send_modify(|left| *left -= 1);
        }
        self.at_list.iter().for_each(|task| self.inbox.push(task.clone()));
    }
}
