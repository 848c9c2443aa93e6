//! Bytes of a query to bytes of an answer. Pure, and never panics: the bytes are a stranger's.
//!
//! In: a query and the latest zone. Out: the answer, or nothing where the bytes are no query at all.

use std::{net::IpAddr, str::FromStr as _};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, SOA, SRV},
    },
};

use super::zone::{Entry, Found, Zone};

/// Short, as in Kubernetes' own DNS: pods come and go.
const TTL_SECONDS: u32 = 5;
/// What every path carries without fragments (DNS flag day 2020).
const UDP_BYTES_MAX: u16 = 1232;
/// What a resolver without EDNS takes (RFC 1035 §4.2.1).
const UDP_BYTES_PLAIN: u16 = 512;
/// An alias of an alias of …; more is a mistake or a loop.
const ALIASES_MAX: usize = 8;
/// Identifier, flags and counts.
const HEADER_BYTES: usize = 12;
/// The bit of the third byte that tells an answer from a query (RFC 1035 §4.1.1).
const IS_ANSWER: u8 = 0x80;

/// How the query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram; a long answer is cut.
    Udp,
    /// A stream.
    Tcp,
}

/// Answers `query` from `zone`; without a zone the server is not ready.
pub fn answer(query: &[u8], zone: Option<&Zone>, transport: Transport) -> Option<Vec<u8>> {
    let Ok(query) = Message::from_vec(query) else { return malformed(query) };
    // An answer to an answer could go on for ever between two servers.
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX);
        reply.set_edns(edns);
    }
    reply.metadata.response_code = match (&query.queries[..], zone) {
        _ if query.metadata.op_code != OpCode::Query => ResponseCode::NotImp,
        ([question], _) if question.query_class != DNSClass::IN => ResponseCode::Refused,
        ([question], Some(zone)) => resolve(question, zone, &mut reply),
        ([_], None) => ResponseCode::ServFail,
        _ => ResponseCode::FormErr,
    };
    let limit = match transport {
        Transport::Tcp => u16::MAX,
        Transport::Udp => {
            query.edns.as_ref().map_or(UDP_BYTES_PLAIN, |edns| edns.max_payload().clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX))
        }
    };
    encode(reply, usize::from(limit))
}

/// Says that the query cannot be read, if there is at least a header that is not an answer's.
fn malformed(query: &[u8]) -> Option<Vec<u8>> {
    let header = query.get(..HEADER_BYTES)?;
    if header[2] & IS_ANSWER != 0 {
        return None;
    }
    let id = u16::from_be_bytes([header[0], header[1]]);
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok()
}

/// Leaves records out until the rest fits, and says so.
fn encode(mut reply: Message, limit: usize) -> Option<Vec<u8>> {
    loop {
        let bytes = reply.to_vec().ok()?;
        if bytes.len() <= limit {
            return Some(bytes);
        }
        reply.metadata.truncation = true;
        let keep = reply.answers.len() * limit / bytes.len();
        // At least one goes each time; with none left the header and the question fit any limit.
        reply.answers.truncate(keep.min(reply.answers.len().checked_sub(1)?));
    }
}

fn resolve(question: &Query, zone: &Zone, reply: &mut Message) -> ResponseCode {
    let mut name = question.name.clone();
    for _ in 0..ALIASES_MAX {
        let found = zone.find(&name.to_ascii());
        let entry = match found {
            Found::Name(entry) => entry,
            // The alias itself was an answer; its target is for the asker to find elsewhere.
            Found::Nothing | Found::Outside if !reply.answers.is_empty() => return ResponseCode::NoError,
            Found::Nothing => {
                deny(zone, reply);
                return ResponseCode::NXDomain;
            }
            Found::Outside => return ResponseCode::NXDomain,
        };
        reply.metadata.authoritative = true;
        match entry.alias.as_deref().and_then(|alias| Name::from_str(&format!("{alias}.")).ok()) {
            Some(alias) => {
                reply.add_answer(record(&name, RData::CNAME(CNAME(alias.clone()))));
                name = alias;
            }
            None => {
                reply.add_answers(records(&name, entry, question.query_type));
                if reply.answers.is_empty() {
                    deny(zone, reply);
                }
                return ResponseCode::NoError;
            }
        }
    }
    ResponseCode::ServFail
}

fn records(name: &Name, entry: &Entry, wanted: RecordType) -> Vec<Record> {
    let wants = |kind| wanted == kind || wanted == RecordType::ANY;
    let mut records = Vec::new();
    for ip in &entry.addresses {
        match ip {
            IpAddr::V4(ip) if wants(RecordType::A) => records.push(record(name, RData::A(A(*ip)))),
            IpAddr::V6(ip) if wants(RecordType::AAAA) => records.push(record(name, RData::AAAA(AAAA(*ip)))),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
    }
    if wants(RecordType::SRV) {
        for port in &entry.ports {
            if let Ok(target) = Name::from_str(&format!("{}.", port.target)) {
                records.push(record(name, RData::SRV(SRV::new(0, 100, port.port, target))));
            }
        }
    }
    records
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL_SECONDS, data)
}

/// What lets a resolver remember "no" (RFC 2308).
fn deny(zone: &Zone, reply: &mut Message) {
    let of_domain = |prefix: &str| Name::from_str(&format!("{prefix}{}.", zone.domain())).ok();
    let (Some(domain), Some(server), Some(mailbox)) = (of_domain(""), of_domain("ns.dns."), of_domain("hostmaster."))
    else {
        return;
    };
    reply.metadata.authoritative = true;
    let soa = SOA::new(server, mailbox, 1, 7200, 1800, 86400, TTL_SECONDS);
    reply.add_authority(record(&domain, RData::SOA(soa)));
}
