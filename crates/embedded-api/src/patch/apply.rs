//! Server-side apply, and the record of who owns which field.
//!
//! In: the live object, what a manager applies (or wrote), the kind's shape. Out: the merged object with its `managedFields`,
//! or the conflicts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    api::Target,
    object,
    ops::Part,
    patch::{
        fields::{self, Fields, Path},
        shape::{Shape, Topology},
    },
    status::ApiError,
};

/// Most managers that write by update; the oldest beyond it become one.
const UPDATERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Fields that nobody owns.
const UNOWNED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "uid"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
    &["metadata", "deletionTimestamp"],
    &["metadata", "deletionGracePeriodSeconds"],
    &["metadata", "generateName"],
];

/// Who writes, and which part.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// What is written to.
    pub target: &'a Target,
    /// The field manager's name.
    pub manager: &'a str,
    /// The part of the object.
    pub part: Part,
}

/// How an apply is meant.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// How lists merge.
    pub shape: Shape<'a>,
    /// Take fields from others.
    pub force: bool,
}

/// One line of `managedFields`.
#[derive(Debug, Clone, PartialEq)]
struct Manager {
    name: String,
    apply: bool,
    subresource: String,
    api_version: String,
    time: String,
    fields: Fields,
}

impl Manager {
    fn read(entry: &Value) -> Self {
        Self {
            name: object::text(entry, "/manager").to_owned(),
            apply: object::text(entry, "/operation") == "Apply",
            subresource: object::text(entry, "/subresource").to_owned(),
            api_version: object::text(entry, "/apiVersion").to_owned(),
            time: object::text(entry, "/time").to_owned(),
            fields: entry.get("fieldsV1").map(fields::from_json).unwrap_or_default(),
        }
    }

    fn written(&self) -> Value {
        let mut entry = json!({
            "manager": self.name, "operation": if self.apply { "Apply" } else { "Update" }, "apiVersion": self.api_version,
            "time": self.time, "fieldsType": "FieldsV1", "fieldsV1": fields::to_json(&self.fields),
        });
        if !self.subresource.is_empty() {
            entry["subresource"] = self.subresource.clone().into();
        }
        entry
    }

    /// As a conflict names it.
    fn shown(&self) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if !self.apply {
            text.push_str(&format!(" using {}", self.api_version));
            if !self.time.is_empty() {
                text.push_str(&format!(" at {}", self.time));
            }
        }
        text
    }

    fn is(&self, other: &Self) -> bool {
        self.name == other.name && self.apply == other.apply && self.subresource == other.subresource
    }
}

impl Writer<'_> {
    fn entry(&self, apply: bool) -> Manager {
        Manager {
            name: self.manager.to_owned(),
            apply,
            subresource: if self.part == Part::Status { "status".to_owned() } else { String::new() },
            api_version: self.target.api_version(),
            time: object::now(),
            fields: Fields::new(),
        }
    }

    /// The leaves this write can own.
    fn leaves(&self, object: &Value, shape: Shape<'_>) -> BTreeMap<Path, Value> {
        let mut object = object.clone();
        for path in UNOWNED {
            object::remove(&mut object, path);
        }
        let has_status = self.target.traits().is_ok_and(|version| version.status);
        match self.part {
            Part::Status => object = json!({ "status": object.get("status").cloned().unwrap_or_default() }),
            _ if has_status => drop(object::remove(&mut object, &["status"])),
            _ => {}
        }
        object::drop_nulls(&mut object);
        if object.get("metadata").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
            object::remove(&mut object, &["metadata"]);
        }
        fields::leaves(&object, shape)
    }
}

fn managers_of(object: &Value) -> Vec<Manager> {
    object::list(object, "/metadata/managedFields").iter().map(Manager::read).collect()
}

fn set_managers(object: &mut Value, managers: &[Manager]) {
    let written: Vec<Value> =
        managers.iter().filter(|manager| !manager.fields.is_empty()).map(Manager::written).collect();
    if written.is_empty() {
        object::remove(object, &["metadata", "managedFields"]);
    } else {
        object::set(object, &["metadata", "managedFields"], written);
    }
}

/// `managedFields` of an object that an apply creates.
pub fn first_entry(writer: &Writer<'_>, config: &Value, shape: Shape<'_>) -> Value {
    let mut entry = writer.entry(true);
    entry.fields = writer.leaves(config, shape).into_keys().collect();
    json!([entry.written()])
}

/// Records a create or update: the writer owns what it changed, nobody owns what is gone.
pub fn track(writer: &Writer<'_>, old: Option<&Value>, object: &mut Value) {
    let reset =
        old.is_some() && object.pointer("/metadata/managedFields").and_then(Value::as_array).is_some_and(Vec::is_empty);
    let Ok(shape) = crate::ops::patch::shape(writer.target) else { return };
    let before = old.map(|old| writer.leaves(old, shape)).unwrap_or_default();
    let after = writer.leaves(object, shape);
    let mut managers = old.filter(|_| !reset).map(managers_of).unwrap_or_default();
    let changed: Fields =
        after.iter().filter(|(path, value)| before.get(*path) != Some(*value)).map(|(path, _)| path.clone()).collect();
    let removed: Vec<&Path> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    let nothing = changed.is_empty() && removed.is_empty();
    if !nothing && !writer.manager.is_empty() {
        for manager in &mut managers {
            manager.fields.retain(|path| !changed.contains(path) && !removed.contains(&path));
        }
        let entry = writer.entry(false);
        match managers.iter_mut().find(|manager| manager.is(&entry)) {
            Some(present) => {
                present.fields.extend(changed);
                present.time = entry.time;
                present.api_version = entry.api_version;
            }
            None => managers.push(Manager { fields: changed, ..entry }),
        }
        merge_ancient(&mut managers);
    }
    set_managers(object, &managers);
}

/// Keeps the list bounded.
fn merge_ancient(managers: &mut Vec<Manager>) {
    managers.retain(|manager| !manager.fields.is_empty());
    while managers.iter().filter(|manager| !manager.apply).count() > UPDATERS_MAX {
        let oldest = managers
            .iter()
            .enumerate()
            .filter(|(_, m)| !m.apply && m.name != ANCIENT)
            .min_by(|(_, a), (_, b)| a.time.cmp(&b.time));
        let Some((at, _)) = oldest else { return };
        let old = managers.remove(at);
        match managers.iter_mut().find(|manager| manager.name == ANCIENT) {
            Some(ancient) => ancient.fields.extend(old.fields),
            None => managers.insert(0, Manager { name: ANCIENT.to_owned(), ..old }),
        }
    }
}

/// Merges `config` into `live`.
pub fn apply(writer: &Writer<'_>, live: &Value, config: &Value, request: Request<'_>) -> Result<Value, ApiError> {
    let wanted = writer.leaves(config, request.shape);
    let present = writer.leaves(live, request.shape);
    let mut managers = managers_of(live);
    let me = writer.entry(true);
    let conflicts = find_conflicts(&managers, &me, &wanted, &present);
    if !conflicts.is_empty() && !request.force {
        return Err(refuse(&conflicts));
    }
    let taken: Vec<Path> = conflicts.into_iter().map(|conflict| conflict.path).collect();
    let before =
        managers.iter().find(|manager| manager.is(&me)).map(|manager| manager.fields.clone()).unwrap_or_default();
    for manager in managers.iter_mut().filter(|manager| !manager.is(&me)) {
        manager.fields.retain(|path| !taken.contains(path));
    }
    let fields: Fields = wanted.into_keys().collect();
    let mut merged = merge_map(live, config, request.shape);
    let others: Vec<&Manager> = managers.iter().filter(|manager| !manager.is(&me)).collect();
    drop_abandoned(&mut merged, &before, &fields, &others);
    match managers.iter_mut().find(|manager| manager.is(&me)) {
        Some(mine) if mine.fields == fields && merged == *live && mine.api_version == me.api_version => {}
        Some(mine) => *mine = Manager { fields, ..me },
        None => managers.push(Manager { fields, ..me }),
    }
    set_managers(&mut merged, &managers);
    object::remove(&mut merged, &["metadata", "resourceVersion"]);
    if let Some(version) = config.pointer("/metadata/resourceVersion") {
        object::set(&mut merged, &["metadata", "resourceVersion"], version.clone());
    }
    Ok(merged)
}

struct Conflict {
    manager: Manager,
    path: Path,
}

/// Fields that others own and that would get another value.
fn find_conflicts(
    managers: &[Manager],
    me: &Manager,
    wanted: &BTreeMap<Path, Value>,
    present: &BTreeMap<Path, Value>,
) -> Vec<Conflict> {
    let changes = |path: &Path, value: &Value| present.get(path).is_some_and(|present| present != value);
    let mut found = Vec::new();
    for manager in managers.iter().filter(|manager| !manager.is(me)) {
        for (path, _) in wanted.iter().filter(|(path, value)| manager.fields.contains(*path) && changes(path, value)) {
            found.push(Conflict { manager: manager.clone(), path: path.clone() });
        }
    }
    found
}

fn refuse(conflicts: &[Conflict]) -> ApiError {
    let body = match conflicts {
        [one] => format!("conflict with {}: {}", one.manager.shown(), fields::shown(&one.path)),
        _ => {
            let mut by_manager: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for conflict in conflicts {
                by_manager
                    .entry(conflict.manager.shown())
                    .or_default()
                    .push(format!("- {}", fields::shown(&conflict.path)));
            }
            let blocks =
                by_manager.iter().map(|(manager, paths)| format!("conflicts with {manager}:\n{}", paths.join("\n")));
            blocks.collect::<Vec<_>>().join("\n")
        }
    };
    let count = conflicts.len();
    let message = format!("Apply failed with {count} conflict{}: {body}", if count == 1 { "" } else { "s" });
    let cause = |conflict: &Conflict| {
        json!({
            "reason": "FieldManagerConflict", "field": fields::shown(&conflict.path),
            "message": format!("conflict with {}", conflict.manager.shown()),
        })
    };
    ApiError::apply_conflict(message, conflicts.iter().map(cause).collect())
}

/// What this manager applied before and no longer does goes, unless another owns it (or something in it).
fn drop_abandoned(merged: &mut Value, before: &Fields, now: &Fields, others: &[&Manager]) {
    let owned_below = |fields: &Fields, path: &Path| fields.iter().any(|other| other.starts_with(path));
    // Shortest first: an item that goes takes its members along, while its key still tells which it is.
    let mut abandoned: Vec<&Path> = before.difference(now).collect();
    abandoned.sort_by_key(|path| path.len());
    for path in abandoned {
        let held = owned_below(now, path) || others.iter().any(|other| owned_below(&other.fields, path));
        if !held {
            fields::remove(merged, path);
        }
    }
}

fn merge_map(live: &Value, config: &Value, shape: Shape<'_>) -> Value {
    let mut merged = live.clone();
    for (key, wanted) in config.as_object().into_iter().flatten() {
        let field = shape.field(key);
        let present = merged.get(key).cloned().unwrap_or_default();
        let value = merge_value(&present, wanted, &field.topology, field.shape);
        object::set(&mut merged, &[key], value);
    }
    merged
}

fn merge_value(live: &Value, wanted: &Value, topology: &Topology, shape: Shape<'_>) -> Value {
    match (live, wanted, topology) {
        (Value::Object(_), Value::Object(_), Topology::Usual) => merge_map(live, wanted, shape),
        (Value::Array(live), Value::Array(wanted), Topology::Set) => {
            Value::Array(interleave(live, wanted, &|item| item.to_string(), &|_, wanted| wanted.clone()))
        }
        (Value::Array(live), Value::Array(wanted), Topology::Keys(keys)) => {
            let id = |item: &Value| fields::item_step(item, keys);
            Value::Array(interleave(live, wanted, &id, &|live, wanted| merge_map(live, wanted, shape)))
        }
        _ => wanted.clone(),
    }
}

/// Items of both lists: the wanted ones in their order, the others where they stood.
fn interleave(
    live: &[Value],
    wanted: &[Value],
    id: &dyn Fn(&Value) -> String,
    merge: &dyn Fn(&Value, &Value) -> Value,
) -> Vec<Value> {
    let merged = wanted.iter().map(|item| match live.iter().find(|other| id(other) == id(item)) {
        Some(present) => merge(present, item),
        None => item.clone(),
    });
    let mut merged = merged.collect::<Vec<_>>().into_iter();
    let mut result = Vec::with_capacity(live.len() + wanted.len());
    for item in live {
        if wanted.iter().any(|other| id(other) == id(item)) {
            result.extend(merged.next());
        } else {
            result.push(item.clone());
        }
    }
    result.extend(merged);
    result
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
