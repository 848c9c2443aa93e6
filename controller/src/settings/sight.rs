//! Who sees service entries, as the mesh's settings say it: `serviceEntryVisibility` and `defaultServiceExportTo`.
//!
//! A word that is not understood is an error: taken for nothing it would show what is to be hidden.

use serde::Deserialize;
use serde_json::Value;

use super::{SettingsError, member, selector};
use crate::{
    derive::visible::{Policies, Policy, Sight, Visible},
    facts::Export,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    #[serde(default)]
    default_visibility: Word,
    /// Of sidecars, of which there are none.
    #[serde(default, rename = "applyToSidecars")]
    _to_sidecars: bool,
    #[serde(default)]
    policies: Vec<WrittenPolicy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenPolicy {
    #[serde(default)]
    visibility: Word,
    #[serde(default)]
    matching_rules: Vec<WrittenRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenRule {
    namespace_selector: Value,
}

#[derive(Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Word {
    #[default]
    VisibilityUnspecified,
    None,
    Namespace,
    Public,
}

impl From<Word> for Visible {
    fn from(word: Word) -> Self {
        match word {
            Word::VisibilityUnspecified | Word::Public => Self::Public,
            Word::Namespace => Self::Namespace,
            Word::None => Self::Nowhere,
        }
    }
}

pub(super) fn read(written: &Value) -> Result<Sight, SettingsError> {
    let export: Option<Vec<String>> = member(written, "defaultServiceExportTo")?;
    let export = export.and_then(|all| Export::read(&all, "."));
    let Some(found) = member::<Written>(written, "serviceEntryVisibility")? else {
        return Ok(Sight { policies: None, export });
    };
    let each = found.policies.into_iter().enumerate().map(|(at, policy)| {
        let asks = policy.matching_rules.into_iter().enumerate().map(|(rule, written)| {
            let field = format!("serviceEntryVisibility.policies[{at}].matchingRules[{rule}]");
            selector(written.namespace_selector, &field)
        });
        Ok(Policy { visible: policy.visibility.into(), asks: asks.collect::<Result<_, SettingsError>>()? })
    });
    let policies = Policies { each: each.collect::<Result<_, _>>()?, otherwise: found.default_visibility.into() };
    Ok(Sight { policies: Some(policies), export })
}
