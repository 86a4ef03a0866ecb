//! The DNS responder, for clients outside the cluster: names of Services below the cluster domain.
//!
//! [`Names`] is what the main loop knows; `service` says what of a Service is in DNS, `zone` answers a question, and
//! this module speaks the protocol, by the crate `hickory-server`. Questions about other names are refused: this
//! is no resolver.

mod names;
mod service;
mod zone;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{
    Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode,
};
use hickory_server::proto::rr::{DNSClass, Name};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use settings::Dns;
use tokio::net::{TcpListener, UdpSocket};

use crate::metrics::Metrics;

pub use names::Names;

use zone::{Answer, Zone};

/// A TCP connection without a question is closed after this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers that may wait to be written to a TCP connection.
const WAITING: usize = 8;

/// Largest answer over UDP, whatever the client could take: what passes every path unfragmented (the value that
/// resolvers agreed upon in 2020).
const LARGEST_UDP: u16 = 1_232;

/// Largest answer over UDP to a client that says nothing about it (RFC 1035 section 4.2.1).
const SMALLEST_UDP: u16 = 512;

/// Why there is no responder: a setting, and what is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// Listens on every address of the settings, over UDP and TCP, and answers until the runtime ends.
///
/// # Errors
///
/// An address cannot be listened on, or the domain is none.
pub async fn spawn(
    settings: &Dns,
    own: &[IpAddr],
    names: Names,
    metrics: Metrics,
) -> Result<(), Unusable> {
    let domain = domain(&settings.cluster_domain)?;
    let mut server = Server::new(Responder {
        zone: Zone {
            domain,
            ttl: settings.ttl,
            own: reached_at(&settings.listen, own),
            names,
        },
        metrics,
        turn: AtomicUsize::new(0),
    });
    for (at, address) in settings.listen.iter().enumerate() {
        let failed = |error: std::io::Error| {
            Unusable(format!(
                "dns.listen[{at}] is {address}: it cannot be listened on: {error}; name another address or \
                 port, end what listens there, or let this user have low ports (CAP_NET_BIND_SERVICE)"
            ))
        };
        server.register_socket(UdpSocket::bind(address).await.map_err(failed)?);
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        server.register_listener(listener, PATIENCE, WAITING);
    }
    tokio::spawn(async move {
        if let Err(error) = server.block_until_done().await {
            tracing::error!(
                "the DNS responder has ended: {error}; restart this process when it suits"
            );
        }
    });
    Ok(())
}

fn domain(text: &str) -> Result<Name, Unusable> {
    let mut domain = Name::from_ascii(text).map_err(|error| {
        Unusable(format!(
            "dns.cluster_domain is {text:?}: it is no domain: {error}"
        ))
    })?;
    domain.set_fqdn(true);
    Ok(domain.to_lowercase())
}

/// The addresses that are listened on; of "every address" the gateway's own ones.
fn reached_at(listen: &[SocketAddr], own: &[IpAddr]) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for address in listen.iter().map(SocketAddr::ip) {
        let alike = own.iter().filter(|own| own.is_ipv4() == address.is_ipv4());
        match address.is_unspecified() {
            true => found.extend(alike),
            false => found.push(address),
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

struct Responder {
    zone: Zone,
    metrics: Metrics,
    /// Counts questions, so that several records take turns to come first.
    turn: AtomicUsize,
}

impl Responder {
    fn answer(&self, request: &Request) -> Answer {
        let code = |code| Answer {
            code,
            ..Answer::default()
        };
        if request.metadata.op_code != OpCode::Query {
            return code(ResponseCode::NotImp);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return code(ResponseCode::BADVERS);
        }
        let Ok(asked) = request.request_info() else {
            return code(ResponseCode::FormErr);
        };
        if !matches!(asked.query.query_class(), DNSClass::IN | DNSClass::ANY) {
            return code(ResponseCode::Refused);
        }
        // Relaxed: any order will do.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let query = asked.query.original();
        self.zone.answer(query.name(), query.query_type(), turn)
    }
}

#[async_trait]
impl RequestHandler for Responder {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let answer = self.answer(request);
        self.metrics.count_dns(code_name(answer.code));
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = answer.code;
        metadata.authoritative =
            matches!(answer.code, ResponseCode::NoError | ResponseCode::NXDomain);
        let mut builder = MessageResponseBuilder::from_message_request(request);
        let mut edns = Edns::new();
        if let Some(asked) = &request.edns {
            edns.set_max_payload(asked.max_payload().clamp(SMALLEST_UDP, LARGEST_UDP));
            edns.set_rcode_high(answer.code.high());
            builder.edns(&edns);
        }
        let message = builder.build(
            metadata,
            &answer.answers,
            &[],
            &answer.authority,
            &answer.additionals,
        );
        match response.send_response(message).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::debug!("a DNS answer was not sent: {error}");
                let mut metadata =
                    Metadata::new(request.metadata.id, MessageType::Response, OpCode::Query);
                metadata.response_code = ResponseCode::ServFail;
                let counts = HeaderCounts::default();
                ResponseInfo::from(Header { metadata, counts })
            }
        }
    }
}

/// Names of the codes that are answered, as `dig` writes them.
const fn code_name(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::FormErr => "FORMERR",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests;
