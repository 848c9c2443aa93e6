//! Between DNS messages and decisions. Pure.
//!
//! In: a query's bytes; a decision or an upstream's answer. Out: the question; the response's bytes, cut to what the
//! asker takes.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME},
    },
    serialize::binary::{BinEncodable as _, BinEncoder},
};

use super::answer::Family;

/// Seconds a local answer may be kept: short, since pods come and go.
const TTL: u32 = 30;
/// RFC 1035 §2.3.4: what every resolver takes over UDP.
const UDP_MIN: u16 = 512;

/// QR in the header's third byte, RCODE in its fourth (RFC 1035 §4.1.1).
const RESPONSE: u8 = 0x80;
const RCODE: u8 = 0x0f;
const HEADER: usize = 12;

/// A query we may answer.
#[derive(Debug, Clone)]
pub struct Asked {
    message: Message,
    query: Query,
}

/// What to do with bytes that came in.
#[derive(Debug)]
pub enum Parsed {
    /// A query.
    Query(Box<Asked>),
    /// This is the answer already.
    Refused(Vec<u8>),
    /// Nothing is answered: there is not even a header, or it says itself that something went wrong. Two servers that
    /// answer each other's refusals, with a forged source to begin it, would never stop.
    Noise,
}

/// Reads what a client sent.
pub fn parse(bytes: &[u8]) -> Parsed {
    let Some([high, low, flags, codes]) = bytes.get(..HEADER).and_then(|header| header.first_chunk()) else {
        return Parsed::Noise;
    };
    let is_response = flags & RESPONSE != 0;
    if is_response && codes & RCODE != 0 {
        return Parsed::Noise;
    }
    let Some(message) = Message::from_vec(bytes).ok().filter(|_| !is_response) else {
        // A header that can be read is answered, so that the client does not wait in vain.
        let id = u16::from_be_bytes([*high, *low]);
        return refuse(&Message::error_msg(id, OpCode::Query, ResponseCode::FormErr));
    };
    let error = |code| refuse(&error_response(&message, code));
    if message.metadata.op_code != OpCode::Query {
        return error(ResponseCode::NotImp);
    }
    match message.queries.as_slice() {
        [query] => Parsed::Query(Box::new(Asked { query: query.clone(), message })),
        _ => error(ResponseCode::FormErr),
    }
}

fn refuse(message: &Message) -> Parsed {
    message.to_vec().map_or(Parsed::Noise, Parsed::Refused)
}

impl Asked {
    /// The name as text without the last dot.
    pub(super) fn name(&self) -> String {
        let name = self.query.name().to_ascii();
        name.strip_suffix('.').unwrap_or(&name).to_owned()
    }

    pub(super) fn record_type(&self) -> RecordType {
        self.query.query_type()
    }

    pub(super) fn family(&self) -> Option<Family> {
        match self.query.query_type() {
            RecordType::A => Some(Family::V4),
            RecordType::AAAA => Some(Family::V6),
            _ => None,
        }
    }

    /// Our own answer; `cname` as in [`super::answer::Decision::Local`].
    pub(super) fn local(&self, cname: Option<&str>, addresses: &[IpAddr]) -> Message {
        let mut response = self.response(ResponseCode::NoError);
        response.metadata.authoritative = true;
        response.metadata.recursion_available = true;
        let asked = self.query.name().clone();
        let target = cname.and_then(|name| Name::from_ascii(format!("{name}.")).ok());
        if let Some(target) = &target {
            response.add_answer(Record::from_rdata(asked.clone(), TTL, RData::CNAME(CNAME(target.clone()))));
        }
        let owner = target.unwrap_or(asked);
        for address in addresses {
            let data = match address {
                IpAddr::V4(v4) => RData::A(A(*v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(*v6)),
            };
            response.add_answer(Record::from_rdata(owner.clone(), TTL, data));
        }
        response
    }

    /// An upstream's answer as ours: its code, and its records where it has answers.
    pub(super) fn forwarded(&self, upstream: &Message) -> Message {
        let code = upstream.metadata.response_code;
        let mut response = self.response(code);
        if code == ResponseCode::NoError {
            response.metadata.recursion_available = true;
            response.add_answers(upstream.answers.iter().cloned());
            response.add_additionals(upstream.additionals.iter().cloned());
        }
        response
    }

    pub(super) fn failed(&self) -> Message {
        self.response(ResponseCode::ServFail)
    }

    fn response(&self, code: ResponseCode) -> Message {
        error_response(&self.message, code)
    }

    /// The query to send on, under an id of our own.
    pub(super) fn to_upstream(&self, id: u16) -> Message {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.message.metadata.checking_disabled;
        message.add_query(self.query.clone());
        if let Some(edns) = &self.message.edns {
            message.set_edns(echoed(edns));
        }
        message
    }

    /// Whether `answer` answers [`Self::to_upstream`] with this id. The question must come back too, or an answer to
    /// another query with a guessed id would pass.
    pub(super) fn is_answered_by(&self, answer: &Message, id: u16) -> bool {
        let same = |query: &Query| {
            query.query_type() == self.query.query_type()
                && query.query_class() == self.query.query_class()
                && query.name() == self.query.name()
        };
        answer.metadata.id == id
            && answer.metadata.message_type == MessageType::Response
            && answer.queries.first().is_some_and(same)
    }

    /// As bytes, cut with TC to what the client takes over UDP.
    pub(super) fn udp(&self, response: &Message) -> Option<Vec<u8>> {
        let limit = self.message.edns.as_ref().map_or(UDP_MIN, |edns| edns.max_payload().max(UDP_MIN));
        encoded(response, limit)
    }

    /// As bytes for TCP.
    pub(super) fn tcp(&self, response: &Message) -> Option<Vec<u8>> {
        encoded(response, u16::MAX)
    }
}

/// The head and question of a response; RA stays off, as it does in errors.
fn error_response(query: &Message, code: ResponseCode) -> Message {
    let mut response = Message::error_msg(query.metadata.id, query.metadata.op_code, code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.add_queries(query.queries.iter().cloned());
    if let Some(edns) = &query.edns {
        response.set_edns(echoed(edns));
    }
    response
}

fn echoed(edns: &Edns) -> Edns {
    let mut echo = Edns::new();
    echo.set_max_payload(edns.max_payload().max(UDP_MIN));
    echo.set_dnssec_ok(edns.flags().dnssec_ok);
    echo
}

/// Room an EDNS record takes at the end (RFC 6891 §6.1.2), which must not be what is cut.
const EDNS_SIZE: u16 = 11;

fn encoded(response: &Message, limit: u16) -> Option<Vec<u8>> {
    let emit = |message: &Message, limit: u16| {
        let mut bytes = Vec::with_capacity(usize::from(UDP_MIN));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(limit);
        message.emit(&mut encoder).ok().map(|()| bytes)
    };
    let whole = response.to_vec().ok()?;
    if whole.len() <= usize::from(limit) {
        return Some(whole);
    }
    // Keep as many answers as fit beside the EDNS record.
    let mut cut = response.clone();
    cut.metadata.truncation = true;
    cut.additionals.clear();
    let edns = cut.edns.take();
    let room = if edns.is_some() { limit - EDNS_SIZE } else { limit };
    let fitting = Message::from_vec(&emit(&cut, room)?).ok()?;
    cut.answers.truncate(fitting.answers.len());
    cut.edns = edns;
    emit(&cut, limit)
}
