//! Who may call from other origins.
//!
//! In: the method and headers of a request. Out: what to answer a preflight, or what to write into an answer. Absent on
//! purpose: the answer itself.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::route::StringMatch;

/// The policy of one route. Lists are joined once.
#[derive(Debug, Clone)]
pub struct Cors {
    /// Which origins; beside `any_origin`.
    pub origins: Box<[StringMatch]>,
    /// All origins.
    pub any_origin: bool,
    /// `access-control-allow-methods`.
    pub methods: Option<HeaderValue>,
    /// `access-control-allow-headers`.
    pub headers: Option<HeaderValue>,
    /// `access-control-expose-headers`.
    pub exposed: Option<HeaderValue>,
    /// `access-control-max-age`, in seconds.
    pub max_age: Option<HeaderValue>,
    /// Whether cookies and credentials may be sent.
    pub credentials: bool,
    /// Whether a preflight of another origin is answered here (200 without any of these headers).
    pub answers_unmatched_preflights: bool,
}

/// What a request is to this policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Nobody's business: of no origin, or of one that may not call. It goes on; its answer is left alone.
    Other,
    /// A question from an origin that may call: answer 200 with these headers and no body.
    Preflight(HeaderMap),
    /// A question from an origin that may not: answer 200 with nothing.
    Unwelcome,
    /// A call from an origin that may: write [`Cors::write`] into its answer.
    Welcome(HeaderValue),
}

const ANY: &[u8] = b"*";

impl Cors {
    /// What the request is.
    pub fn caller(&self, method: &Method, headers: &HeaderMap) -> Caller {
        let Some(origin) = headers.get(header::ORIGIN) else { return Caller::Other };
        let asks = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).is_some();
        let is_preflight = method == Method::OPTIONS && asks;
        let is_welcome = !origin.is_empty() && (self.any_origin || self.knows(origin));
        match (is_preflight, is_welcome) {
            (true, true) => Caller::Preflight(self.preflight(origin, headers)),
            (true, false) if self.answers_unmatched_preflights => Caller::Unwelcome,
            (false, true) => Caller::Welcome(origin.clone()),
            (true | false, false) => Caller::Other,
        }
    }

    /// Writes what the browser of a welcome caller wants to see, over whatever the upstream said.
    pub fn write(&self, origin: &HeaderValue, answer: &mut HeaderMap) {
        self.write_origin(origin, answer);
        if let Some(exposed) = &self.exposed {
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }

    fn knows(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|known| known.holds(Some(origin.as_bytes())))
    }

    fn write_origin(&self, origin: &HeaderValue, answer: &mut HeaderMap) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    fn preflight(&self, origin: &HeaderValue, asked: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::new();
        self.write_origin(origin, &mut answer);
        let methods = List {
            allowed: self.methods.as_ref(),
            asked: asked.get(header::ACCESS_CONTROL_REQUEST_METHOD),
            name: header::ACCESS_CONTROL_ALLOW_METHODS,
        };
        let headers = List {
            allowed: self.headers.as_ref(),
            asked: asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS),
            name: header::ACCESS_CONTROL_ALLOW_HEADERS,
        };
        [methods, headers].into_iter().for_each(|list| self.allow(list, &mut answer));
        if let Some(max_age) = &self.max_age {
            answer.insert(header::ACCESS_CONTROL_MAX_AGE, max_age.clone());
        }
        // No browser looks for it here, but the Gateway API's suite does.
        if let Some(exposed) = &self.exposed {
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
        answer
    }

    /// A star means nothing to browsers where credentials are sent (Fetch standard, 3.3.5): what was asked for is
    /// repeated then.
    fn allow(&self, list: List<'_>, answer: &mut HeaderMap) {
        let is_star = list.allowed.is_some_and(|allowed| allowed.as_bytes() == ANY);
        let value = if is_star && self.credentials { list.asked.or(list.allowed) } else { list.allowed };
        if let Some(value) = value {
            answer.insert(list.name, value.clone());
        }
    }
}

/// One of the lists of a preflight's answer.
struct List<'a> {
    allowed: Option<&'a HeaderValue>,
    asked: Option<&'a HeaderValue>,
    name: HeaderName,
}
