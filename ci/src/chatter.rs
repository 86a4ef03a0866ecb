//! Many UDP flows that stay: each asks again and again, and must always hear the same endpoint.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::netns::Namespace;

/// How long an answer is waited for before the question is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// How long a flow may stay without an answer before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// UDP flows from sockets of their own.
#[derive(Debug)]
pub struct Chatter {
    flows: Vec<Flow>,
}

#[derive(Debug)]
struct Flow {
    socket: UdpSocket,
    number: usize,
    /// Who answered first: the endpoint's name and the address it saw.
    partner: Option<String>,
}

/// What a round came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Questions answered.
    pub answers: u64,
    /// Questions that were asked again, because they or their answer were lost on the way.
    pub again: u64,
}

impl Chatter {
    /// Makes `count` flows to `to`, from each of `sources` in turn.
    ///
    /// # Errors
    /// A socket cannot be had.
    pub fn open(
        namespace: &Namespace,
        sources: &[IpAddr],
        to: SocketAddr,
        count: usize,
    ) -> std::io::Result<Self> {
        let open = |number: usize| {
            let from = SocketAddr::new(sources[number % sources.len()], 0);
            let socket = crate::dial::udp(namespace, from, to, AGAIN)?;
            let partner = None;
            Ok(Flow {
                socket,
                number,
                partner,
            })
        };
        let flows = (0..count).map(open).collect::<std::io::Result<_>>()?;
        Ok(Self { flows })
    }

    /// Flows held.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// A question on every flow, asked until it is answered.
    ///
    /// # Errors
    /// A flow is lost, or another endpoint than before has answered.
    pub fn round(&mut self, round: usize) -> Result<Round, String> {
        let mut sum = Round::default();
        for flow in &mut self.flows {
            sum.again += flow.ask(round)?;
            sum.answers += 1;
        }
        Ok(sum)
    }
}

impl Flow {
    /// Returns how often the question had to be repeated.
    fn ask(&mut self, round: usize) -> Result<u64, String> {
        let question = format!("flow {} round {round}", self.number);
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 2048];
        for again in 0.. {
            if Instant::now() > end {
                break;
            }
            // Refused connections of a moment ago are told here; the next try tells whether it lasts.
            let _ = self.socket.send(question.as_bytes());
            while let Ok(count) = self.socket.recv(&mut buffer) {
                let answer = String::from_utf8_lossy(&buffer[..count]);
                let mut parts = answer.splitn(3, ' ');
                let mut part = || parts.next().unwrap_or_default();
                let partner = format!("{} {}", part(), part());
                let said = part();
                let expected = self.partner.get_or_insert_with(|| partner.clone());
                if *expected != partner {
                    return Err(format!(
                        "flow {} went to {expected} and now to {partner}",
                        self.number
                    ));
                }
                if said == question {
                    return Ok(again);
                }
                // An answer to a question that was asked twice comes twice.
                if !said.starts_with(&format!("flow {} round ", self.number)) {
                    return Err(format!("flow {} heard {said:?}", self.number));
                }
            }
        }
        Err(format!(
            "flow {} is lost: no answer for {PATIENCE:?} in round {round}",
            self.number
        ))
    }
}
