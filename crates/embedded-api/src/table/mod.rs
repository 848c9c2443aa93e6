//! Objects as rows of a table, as `kubectl get` asks for them.
//!
//! In: objects as a client would see them. Out: `meta.k8s.io/v1` Tables with the usual columns of their kind.

mod age;
mod builtin;
mod jsonpath;
mod pod;

use serde_json::{Value, json};

use crate::{api::Target, object};

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: String,
    /// Display hint of OpenAPI.
    pub format: String,
    /// What it shows.
    pub description: String,
    /// 0 is always shown, more only with `-o wide`.
    pub priority: i64,
    /// Where the value is, for columns of a CRD.
    pub json_path: String,
}

impl Column {
    fn definition(&self) -> Value {
        json!({ "name": self.name, "type": self.kind, "format": self.format, "description": self.description, "priority": self.priority })
    }
}

/// How much of the object a row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Include {
    Nothing,
    Metadata,
    Object,
}

/// A client that asked for tables.
#[derive(Debug, Clone)]
pub struct Tables {
    include: Include,
    api_version: &'static str,
    /// Whether the headings have been sent: a watch sends them once.
    headed: bool,
}

impl Tables {
    /// Whether this `Accept` header asks for tables first.
    pub fn asked(accept: &str, include: &str) -> Option<Self> {
        let first = accept.split(',').next()?;
        let has = |word: &str| first.split(';').any(|part| part.trim() == word);
        if !has("as=Table") {
            return None;
        }
        let include = match include {
            "None" => Include::Nothing,
            "Object" => Include::Object,
            _ => Include::Metadata,
        };
        let api_version = if has("v=v1beta1") { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" };
        Some(Self { include, api_version, headed: false })
    }

    /// A list, or one object, as a table.
    pub fn table(&mut self, target: &Target, found: &Value) -> Value {
        match found.get("items").and_then(Value::as_array) {
            Some(items) => self.rows(target, items, found["metadata"].clone()),
            None => {
                let metadata = json!({ "resourceVersion": object::text(found, "/metadata/resourceVersion") });
                self.rows(target, std::slice::from_ref(found), metadata)
            }
        }
    }

    /// One event's row; headings come with the first only.
    pub fn row(&mut self, target: &Target, object: &Value) -> Value {
        let metadata = json!({ "resourceVersion": object::text(object, "/metadata/resourceVersion") });
        self.rows(target, std::slice::from_ref(object), metadata)
    }

    fn rows(&mut self, target: &Target, objects: &[Value], metadata: Value) -> Value {
        let now = jiff::Timestamp::now();
        let columns = columns(target);
        let rows: Vec<Value> = objects
            .iter()
            .map(|object| json!({ "cells": cells(target, &columns, object, now), "object": self.included(object) }))
            .collect();
        let definitions: Value =
            if self.headed { Value::Null } else { columns.iter().map(Column::definition).collect() };
        self.headed = true;
        json!({ "kind": "Table", "apiVersion": self.api_version, "metadata": metadata, "columnDefinitions": definitions, "rows": rows })
    }

    fn included(&self, object: &Value) -> Value {
        match self.include {
            Include::Nothing => Value::Null,
            Include::Object => object.clone(),
            Include::Metadata => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": self.api_version, "metadata": object["metadata"] })
            }
        }
    }
}

fn columns(target: &Target) -> Vec<Column> {
    let custom = target.traits().map(|version| version.columns.clone()).unwrap_or_default();
    if !target.resource.schemaless() {
        let mut columns = vec![column("Name", "string", "name", 0)];
        if custom.is_empty() {
            columns.push(column("Age", "date", "", 0));
        }
        columns.extend(custom);
        return columns;
    }
    builtin::columns(&target.resource)
}

/// A column of a built-in kind.
fn column(name: &str, kind: &str, format: &str, priority: i64) -> Column {
    let own = str::to_owned;
    Column {
        name: own(name),
        kind: own(kind),
        format: own(format),
        description: own(name),
        priority,
        json_path: String::new(),
    }
}

fn cells(target: &Target, columns: &[Column], object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    if target.resource.schemaless() {
        return builtin::cells(&target.resource, object, now);
    }
    let custom = columns.iter().skip(1).map(|column| match column.json_path.as_str() {
        "" => age::since(object::text(object, "/metadata/creationTimestamp"), now).into(),
        path => custom_cell(column, jsonpath::find(object, path), now),
    });
    std::iter::once(object::name(object).into()).chain(custom).collect()
}

/// A cell of a CRD's column: nothing where the path finds nothing or another type.
fn custom_cell(column: &Column, found: Vec<&Value>, now: jiff::Timestamp) -> Value {
    let Some(first) = found.first() else { return Value::Null };
    match (column.kind.as_str(), *first) {
        ("date", Value::String(text)) => age::since(text, now).into(),
        ("string", _) if found.len() > 1 => {
            let texts: Vec<String> = found.iter().map(|value| plain(value)).collect();
            texts.join(",").into()
        }
        ("string", value) => plain(value).into(),
        ("integer" | "number", value @ Value::Number(_)) | ("boolean", value @ Value::Bool(_)) => value.clone(),
        _ => Value::Null,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
