//! The `baggage` header: who a workload says it is, for the other end's telemetry.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header's name.
pub static BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// What runs the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WorkloadKind {
    /// A Deployment.
    #[default]
    Deployment,
    /// A CronJob.
    CronJob,
    /// A bare pod.
    Pod,
    /// A Job.
    Job,
}

impl WorkloadKind {
    /// As it stands in the header and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::CronJob => "cronjob",
            Self::Pod => "pod",
            Self::Job => "job",
        }
    }
}

/// The header's fields; `None` is absent or empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Baggage {
    /// `k8s.cluster.name`.
    pub cluster: Option<String>,
    /// `k8s.namespace.name`.
    pub namespace: Option<String>,
    /// The kind in `k8s.<kind>.name`; meaningful with a name only.
    pub kind: WorkloadKind,
    /// `k8s.<kind>.name`.
    pub workload: Option<String>,
    /// `service.name`, the canonical name.
    pub service: Option<String>,
    /// `service.version`, the canonical revision.
    pub version: Option<String>,
    /// `cloud.region`.
    pub region: Option<String>,
    /// `cloud.availability_zone`.
    pub zone: Option<String>,
}

impl Baggage {
    /// The header's value; `None` if a field cannot stand in a header. Empty fields are left out.
    pub fn to_header(&self) -> Option<HeaderValue> {
        let workload = format!("k8s.{}.name", self.kind.as_str());
        let fields = [
            ("k8s.cluster.name", &self.cluster),
            ("k8s.namespace.name", &self.namespace),
            (workload.as_str(), &self.workload),
            ("service.name", &self.service),
            ("service.version", &self.version),
            ("cloud.region", &self.region),
            ("cloud.availability_zone", &self.zone),
        ];
        let mut value = String::with_capacity(192);
        for (key, field) in fields {
            if let Some(field) = field.as_deref().filter(|field| !field.is_empty()) {
                if !value.is_empty() {
                    value.push(',');
                }
                value.push_str(key);
                value.push('=');
                value.push_str(field);
            }
        }
        HeaderValue::try_from(value).ok()
    }

    /// Reads every `baggage` header. Unknown keys are passed over; a value that is not ASCII voids the lot.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut baggage = Self::default();
        for value in headers.get_all(&BAGGAGE) {
            let Ok(text) = value.to_str() else { return Self::default() };
            for (key, value) in text.split(',').filter_map(|member| member.split_once('=')) {
                baggage.set(key, value);
            }
        }
        baggage
    }

    fn set(&mut self, key: &str, value: &str) {
        let kind = match key {
            "k8s.deployment.name" => Some(WorkloadKind::Deployment),
            "k8s.cronjob.name" => Some(WorkloadKind::CronJob),
            "k8s.pod.name" => Some(WorkloadKind::Pod),
            "k8s.job.name" => Some(WorkloadKind::Job),
            _ => None,
        };
        if let Some(kind) = kind {
            self.kind = kind;
        }
        let field = match key {
            "k8s.cluster.name" => &mut self.cluster,
            "k8s.namespace.name" => &mut self.namespace,
            "service.name" => &mut self.service,
            "service.version" => &mut self.version,
            "cloud.region" => &mut self.region,
            "cloud.availability_zone" => &mut self.zone,
            _ if kind.is_some() => &mut self.workload,
            _ => return,
        };
        *field = (!value.is_empty()).then(|| value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&[u8]]) -> Baggage {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&BAGGAGE, HeaderValue::from_bytes(value).expect("valid"));
        }
        Baggage::from_headers(&headers)
    }

    fn full() -> Baggage {
        Baggage {
            cluster: Some("c1".into()),
            namespace: Some("shop".into()),
            kind: WorkloadKind::CronJob,
            workload: Some("web".into()),
            service: Some("web".into()),
            version: Some("v2".into()),
            region: Some("r".into()),
            zone: Some("z".into()),
        }
    }

    const FULL: &str = "k8s.cluster.name=c1,k8s.namespace.name=shop,k8s.cronjob.name=web,service.name=web,\
        service.version=v2,cloud.region=r,cloud.availability_zone=z";

    #[test]
    fn all_keys_are_printed_in_order_and_read_back() {
        assert_eq!(full().to_header().expect("valid"), FULL);
        assert_eq!(read(&[FULL.as_bytes()]), full());
    }

    #[test]
    fn empty_fields_are_left_out() {
        let some = Baggage { namespace: Some(String::new()), version: Some("v1".into()), ..Baggage::default() };
        assert_eq!(some.to_header().expect("valid"), "service.version=v1");
        assert_eq!(Baggage::default().to_header().expect("valid"), "");
    }

    #[test]
    fn several_headers_unknown_keys_and_empty_values_are_read() {
        let read_back = read(&[b"k8s.cluster.name=c1,unknown=x,service.name=", b"nonsense,,=,k8s.pod.name=p=q"]);
        let expected = Baggage {
            cluster: Some("c1".into()),
            kind: WorkloadKind::Pod,
            workload: Some("p=q".into()),
            ..Baggage::default()
        };
        assert_eq!(read_back, expected);
        assert_eq!(read(&[]), Baggage::default());
    }

    #[test]
    fn what_is_not_ascii_voids_the_lot() {
        assert_eq!(read(&[FULL.as_bytes(), b"service.name=\xc3\xa9"]), Baggage::default());
    }
}
