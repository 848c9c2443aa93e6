//! Labels and the selectors that match them.
//!
//! In: maps from Kubernetes objects. Out: [`Labels`], [`Selector`] and the answer whether one matches the other.
//! Absent on purpose: which labels mean what (see `lateen-cluster`).

use std::collections::BTreeMap;

/// An object's labels.
pub type Labels = BTreeMap<String, String>;

/// One thing asked of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// The label has one of these values.
    In { key: String, values: Vec<String> },
    /// The label has none of these values, or is absent.
    NotIn { key: String, values: Vec<String> },
    /// The label is there.
    Exists { key: String },
    /// The label is absent.
    Absent { key: String },
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::In { key, values } => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn { key, values } => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists { key } => labels.contains_key(key),
            Self::Absent { key } => !labels.contains_key(key),
        }
    }
}

/// Everything asked of an object's labels; all of it must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

impl Selector {
    /// The selector with these requirements; none matches everything.
    pub fn new(requirements: Vec<Requirement>) -> Self {
        Self { requirements }
    }

    /// The selector `matchLabels` writes.
    pub fn equal_to(labels: &Labels) -> Self {
        let one = |(key, value): (&String, &String)| Requirement::In { key: key.clone(), values: vec![value.clone()] };
        Self::new(labels.iter().map(one).collect())
    }

    /// Whether nothing is asked, so that everything matches.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether `labels` fulfil every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_requirement_says_what_kubernetes_says() {
        let web = labels(&[("app", "web")]);
        let check = |requirement: Requirement, expected: bool| {
            let selector = Selector::new(vec![requirement.clone()]);
            assert_eq!(selector.matches(&web), expected, "{requirement:?}");
        };
        let values = vec!["web".to_owned()];
        check(Requirement::In { key: "app".into(), values: values.clone() }, true);
        check(Requirement::In { key: "tier".into(), values: values.clone() }, false);
        check(Requirement::NotIn { key: "app".into(), values: values.clone() }, false);
        check(Requirement::NotIn { key: "tier".into(), values }, true);
        check(Requirement::Exists { key: "app".into() }, true);
        check(Requirement::Absent { key: "app".into() }, false);
        assert!(Selector::default().matches(&web));
        assert!(!Selector::equal_to(&labels(&[("app", "web"), ("v", "1")])).matches(&web));
    }
}
