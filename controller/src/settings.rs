//! What holds for the whole mesh, as users write it: the ConfigMap `istio`, key `mesh`.
//!
//! In: YAML, what the environment says. Out: [`Settings`], or the field that is wrong and how to mend it.
//! The reference knows many more keys; those that concern L7 proxies or sidecars are passed over.

mod proxies;
mod sight;

use std::sync::Arc;

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::{Api, Client, runtime::watcher};
use lateen_cluster::{
    enrol::selector_of,
    store::{self, Key, Listener, Reading, Store},
};
use lateen_rt::inbox::Inbox;
use lateen_types::label::{Labels, Selector};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    derive::{Mesh, Shown},
    watch::Change,
};

/// The settings in use.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Names and ids.
    pub mesh: Mesh,
    /// The namespace of this program, which is always part of the mesh.
    pub own_namespace: String,
    /// Namespaces that fulfil one of these are part of the mesh; all are where there is none.
    pub discovery: Vec<Selector>,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ConfigMap key mesh: {field}: {reason}")]
pub struct SettingsError {
    /// Its path.
    pub field: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl Settings {
    /// Without any ConfigMap.
    pub fn usual(mesh: Mesh, own_namespace: &str) -> Self {
        Self { mesh, own_namespace: own_namespace.to_owned(), discovery: Vec::new() }
    }

    /// Whether a namespace is part of the mesh. The root namespace is, whatever the selectors say: leaving its policies
    /// out would open the mesh.
    pub fn discovers(&self, namespace: &str, labels: &Labels) -> bool {
        self.discovery.is_empty()
            || namespace == self.mesh.root_namespace
            || namespace == self.own_namespace
            || self.discovery.iter().any(|selector| selector.matches(labels))
    }

    /// These settings with what `text` says.
    pub fn with(&self, text: &str) -> Result<Self, SettingsError> {
        let wrong = |field: &str, reason: String| SettingsError { field: field.to_owned(), reason };
        let written: Value =
            serde_saphyr::from_str(text).map_err(|error| wrong("(whole text)", format!("it is no YAML: {error}")))?;
        let mut settings = self.clone();
        if written.is_null() {
            return Ok(settings);
        }
        if !written.is_object() {
            return Err(wrong("(whole text)", "use a mapping, `trustDomain: …`".to_owned()));
        }
        if let Some(name) = member::<String>(&written, "trustDomain")?.filter(|name| !name.is_empty()) {
            if !is_domain(&name) {
                let reason = format!("{name:?} is no trust domain; use lower-case letters, digits, '.', '-' and '_'");
                return Err(wrong("trustDomain", reason));
            }
            settings.mesh.trust_domain = name;
        }
        if let Some(name) = member::<String>(&written, "rootNamespace")?.filter(|name| !name.is_empty()) {
            if !is_label(&name) {
                return Err(wrong("rootNamespace", format!("{name:?} is no name of a namespace")));
            }
            settings.mesh.root_namespace = name;
        }
        if let Some(aliases) = member::<Vec<String>>(&written, "trustDomainAliases")?.filter(|all| !all.is_empty()) {
            tracing::warn!(?aliases, "trustDomainAliases has no effect on L4 policies; name each trust domain in them");
        }
        settings.discovery = selectors(&written)?;
        settings.mesh.sight = sight::read(&written)?;
        settings.mesh.proxies = proxies::read(&written, &self.mesh.proxies)?;
        settings.mesh.shown = Shown {
            routes: member(&written, "defaultVirtualServiceExportTo")?.unwrap_or_default(),
            rules: member(&written, "defaultDestinationRuleExportTo")?.unwrap_or_default(),
        };
        Ok(settings)
    }
}

fn selectors(written: &Value) -> Result<Vec<Selector>, SettingsError> {
    let all: Vec<Value> = member(written, "discoverySelectors")?.unwrap_or_default();
    all.into_iter().enumerate().map(|(at, one)| selector(one, &format!("discoverySelectors[{at}]"))).collect()
}

fn selector(written: Value, field: &str) -> Result<Selector, SettingsError> {
    let wrong = |reason: String| SettingsError { field: field.to_owned(), reason };
    let known = |key: &String| key == "matchLabels" || key == "matchExpressions";
    if let Some(key) = written.as_object().and_then(|all| all.keys().find(|key| !known(key))) {
        // What is not understood would select everything.
        return Err(wrong(format!("{key:?} is unknown; use matchLabels and matchExpressions")));
    }
    let selector: LabelSelector = serde_json::from_value(written).map_err(|error| wrong(error.to_string()))?;
    selector_of(&selector).map_err(|error| wrong(error.to_string()))
}

fn member<T: DeserializeOwned>(written: &Value, field: &'static str) -> Result<Option<T>, SettingsError> {
    let Some(found) = written.get(field).filter(|found| !found.is_null()) else { return Ok(None) };
    let read = T::deserialize(found);
    read.map(Some).map_err(|error| SettingsError { field: field.to_owned(), reason: error.to_string() })
}

fn is_domain(text: &str) -> bool {
    text.len() <= 255
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte))
}

fn is_label(text: &str) -> bool {
    let inner = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    inner && text.len() <= 63 && !text.starts_with('-') && !text.ends_with('-')
}

/// Follows the ConfigMap.
pub struct Following {
    /// The API.
    pub client: Client,
    /// The ConfigMap's name.
    pub name: String,
    /// Without it.
    pub usual: Settings,
    /// Where changes are told.
    pub inbox: Inbox<Change>,
    /// What is in use; nothing before the first answer.
    pub current: watch::Sender<Option<Arc<Settings>>>,
}

/// The name of the ConfigMap of a revision.
pub fn config_map(revision: &str) -> String {
    match revision {
        "" | "default" => "istio".to_owned(),
        revision => format!("istio-{revision}"),
    }
}

impl Following {
    /// Follows, for ever. Text that cannot be read changes nothing; while nothing else was ever read, nothing begins,
    /// since a mesh under another name or without its root policies is not the mesh that was asked for.
    pub async fn run(self) {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.usual.own_namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let store = Store::default();
        let noted = Noted { following: self, store: store.clone(), is_unreadable: false };
        store::follow(api, config, store, noted).await;
    }
}

struct Noted {
    following: Following,
    store: Store<Settings>,
    is_unreadable: bool,
}

impl Noted {
    fn use_now(&self, settings: Settings) {
        let new = Some(Arc::new(settings));
        let changed = self.following.current.send_if_modified(|current| {
            let differs = *current != new;
            current.clone_from(&new);
            differs
        });
        if changed {
            self.following.inbox.push(Change::Settings);
        }
    }
}

impl Listener<ConfigMap> for Noted {
    type Value = Settings;

    fn read(&mut self, map: ConfigMap) -> Reading<Settings> {
        let text = map.data.and_then(|mut data| data.remove("mesh")).unwrap_or_default();
        let read = self.following.usual.with(&text);
        self.is_unreadable = read.is_err();
        match read {
            Ok(settings) => Reading::Value(settings),
            Err(error) => Reading::Unreadable(error.to_string()),
        }
    }

    fn changed(&mut self, key: &Key) {
        let found = self.store.find(key).map_or_else(|| self.following.usual.clone(), |found| (*found).clone());
        self.use_now(found);
    }

    fn complete(&mut self) {
        if self.store.is_empty() && !self.is_unreadable {
            self.use_now(self.following.usual.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::tests::mesh;

    fn with(text: &str) -> Result<Settings, SettingsError> {
        Settings::usual(mesh(), "istio-system").with(text)
    }

    #[test]
    fn what_is_written_counts_and_the_rest_is_usual() {
        assert_eq!(with("").expect("nothing"), Settings::usual(mesh(), "istio-system"));
        let settings =
            with("trustDomain: td.example\nrootNamespace: mesh\naccessLogFile: /dev/stdout\n").expect("valid");
        assert_eq!(
            (settings.mesh.trust_domain.as_str(), settings.mesh.root_namespace.as_str()),
            ("td.example", "mesh")
        );
        assert!(settings.discovers("any", &Labels::new()));
    }

    #[test]
    fn discovery_selectors_are_ored_and_never_leave_the_root_out() {
        let text = "discoverySelectors:\n- matchLabels: {mesh: 'yes'}\n- matchExpressions:\n  \
                    - {key: env, operator: In, values: [prod, stage]}\n";
        let settings = with(text).expect("valid");
        let check = |name: &str, labels: &[(&str, &str)], expected: bool| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            assert_eq!(settings.discovers(name, &labels), expected, "{name} {labels:?}");
        };
        check("shop", &[("mesh", "yes")], true);
        check("shop", &[("env", "stage")], true);
        check("shop", &[("env", "test")], false);
        check("shop", &[], false);
        check("istio-system", &[], true);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, field: &str| {
            let error = with(text).expect_err("wrong");
            assert_eq!(error.field, field, "{text:?}: {error}");
        };
        check("a: [", "(whole text)");
        check("just text", "(whole text)");
        check("trustDomain: [a]", "trustDomain");
        check("trustDomain: A B", "trustDomain");
        check("trustDomainAliases: x", "trustDomainAliases");
        check("rootNamespace: 5", "rootNamespace");
        check("rootNamespace: -x", "rootNamespace");
        check("discoverySelectors: {}", "discoverySelectors");
        check(
            "discoverySelectors: [{matchLabels: {a: b}}, {matchExpressions: [{key: a, operator: Like}]}]",
            "discoverySelectors[1]",
        );
        check("discoverySelectors: [{labels: {a: b}}]", "discoverySelectors[0]");
        check("defaultServiceExportTo: x", "defaultServiceExportTo");
        let policies = |one: &str| format!("serviceEntryVisibility: {{policies: [{one}]}}");
        check("serviceEntryVisibility: {default: NONE}", "serviceEntryVisibility");
        check("serviceEntryVisibility: {defaultVisibility: SOME}", "serviceEntryVisibility");
        let rules = "serviceEntryVisibility.policies[0].matchingRules[0]";
        check(&policies("{visibility: NONE, matchingRules: [{}]}"), "serviceEntryVisibility");
        check(&policies("{visibility: NONE, matchingRules: [{namespaceSelector: {labels: {a: b}}}]}"), rules);
    }

    #[test]
    fn each_revision_has_its_own() {
        assert_eq!(
            (config_map(""), config_map("default"), config_map("canary")),
            ("istio".into(), "istio".into(), "istio-canary".into())
        );
    }
}
