//! The status of our policies: conditions, as Kubernetes writes them.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// What the mesh says about a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// One per reporter and question.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<StatusCondition>,
    /// The generation the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "written_as_number_or_text")]
    #[schemars(extend("x-kubernetes-int-or-string" = true))]
    pub observed_generation: Option<i64>,
}

/// One answer to one question about an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusCondition {
    /// The question.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When `status` last changed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: Option<String>,
    /// The generation this was said of.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "written_as_number_or_text")]
    #[schemars(extend("x-kubernetes-int-or-string" = true))]
    pub observed_generation: Option<i64>,
}

/// Reads a generation: the reference writes it as text (as its messages write 64 bits), Kubernetes as a number.
pub(super) fn written_as_number_or_text<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(i64),
        Text(String),
    }
    match Option::<Written>::deserialize(reader)? {
        None => Ok(None),
        Some(Written::Number(number)) => Ok(Some(number)),
        Some(Written::Text(text)) => text.parse().map(Some).map_err(D::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_generation_is_read_in_both_writings() {
        for written in [json!(7), json!("7")] {
            let status: PolicyStatus =
                serde_json::from_value(json!({"observedGeneration": written})).expect("readable");
            assert_eq!(status.observed_generation, Some(7));
        }
        assert_eq!(serde_json::from_value::<PolicyStatus>(json!({})).expect("empty").observed_generation, None);
        assert!(serde_json::from_value::<PolicyStatus>(json!({"observedGeneration": "seven"})).is_err());
    }
}
