//! ICMP errors about translated packets, in both directions.
//!
//! The quoted packet is one that this gateway sent: turned around, its tuple is the key of the
//! entry that carries the answers to it. What that entry makes of such an answer tells
//! everything: the error goes where the answer would go and looks as if it came from where the
//! answer would come from (as Linux's NAT does), and the quoted packet becomes the one
//! that the receiver of the error has sent.

use packet::checksum::{Checksum, pseudo, verify_l4};
use packet::icmp::{ReceivedError, parse_error, quoted_tuple, translate_error};
use packet::parse::{Network, Parsed};
use packet::tuple::{Tuple, addresses};
use packet::{Buffer, Pool};

use crate::carry::observe_translation;
use crate::family::{V4, V6};
use crate::lane::Tabled;
use crate::observe::Observe;
use crate::pipeline::{Now, Pipeline};
use crate::reason::Reason;

impl<B: Buffer> Pipeline<B> {
    /// Sends an ICMP error on to the host that it concerns. `Err` gives the frame back with the
    /// reason if it concerns no flow; `Err(None)` if it is no error at all.
    #[cold]
    pub(crate) fn quoted<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        frame: B,
        parsed: &Parsed,
        pool: &mut P,
        observer: &mut O,
    ) -> Result<(), (B, Option<Reason>)> {
        match parsed.network {
            Network::V4 => self.quoted_in::<V4, P, O>(now, input, frame, parsed, pool, observer),
            Network::V6 => self.quoted_in::<V6, P, O>(now, input, frame, parsed, pool, observer),
            Network::Arp => Err((frame, None)),
        }
    }

    fn quoted_in<F: Tabled, P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        mut frame: B,
        parsed: &Parsed,
        pool: &mut P,
        observer: &mut O,
    ) -> Result<(), (B, Option<Reason>)> {
        let (error, quoted) = match read(frame.bytes(), parsed) {
            Ok(Some(read)) => read,
            Ok(None) => return Err((frame, None)),
            Err(reason) => return Err((frame, Some(reason))),
        };
        let table = F::table(&self.shared);
        let key = F::from_tuple(&quoted).map(|quoted| F::reverse(&quoted));
        let Some((key, hit)) =
            key.and_then(|key| Some((key, table.find(&key, table.place(&key))?)))
        else {
            return Err((frame, Some(Reason::NotOurs)));
        };
        if O::WATCHES {
            observer.found(&F::tuple(&key), hit.hop.slot());
        }
        observe_translation::<F, O>(&key, &hit, observer);
        if parsed.ttl <= 1 {
            return Err((frame, Some(Reason::TtlExpired)));
        }
        let (words, ports) = F::parts(&hit.translation);
        let (_, _, protocol) = F::split(&key);
        let answer = F::join(words, ports, protocol);
        let answer_tuple = F::tuple(&answer);
        let outer = (answer_tuple.source, answer_tuple.destination);
        let becomes = F::tuple(&F::reverse(&answer));
        if !translate_error(frame.bytes_mut(), parsed, &error, outer, &becomes) {
            return Err((frame, Some(Reason::BadTransport)));
        }
        let (_, destination) = F::ends(&words);
        match self.next_hop::<F>(now, destination, hit.hop.slot()) {
            Ok((hop, word)) => {
                self.leave(
                    now,
                    input,
                    frame,
                    parsed,
                    (hop.neighbour(), word),
                    pool,
                    observer,
                );
                Ok(())
            }
            Err(reason) => Err((frame, Some(reason))),
        }
    }
}

/// The error and the tuple of the packet that it quotes, after a look at the error's checksum.
fn read(bytes: &[u8], parsed: &Parsed) -> Result<Option<(ReceivedError, Tuple)>, Reason> {
    let (l4, end) = (parsed.l4(), parsed.end());
    let Some(error) = parse_error(bytes, l4, end, parsed.protocol) else {
        return Ok(None);
    };
    let message = bytes.get(l4..end).ok_or(Reason::TooShort)?;
    let (source, destination) = addresses(bytes, parsed).ok_or(Reason::TooShort)?;
    let sum = pseudo(source, destination, parsed.protocol, message.len()).unwrap_or(0);
    if verify_l4(message, sum, parsed.protocol) == Checksum::Bad {
        return Err(Reason::BadChecksum);
    }
    let quoted = quoted_tuple(bytes, &error).ok_or(Reason::BadTransport)?;
    Ok(Some((error, quoted)))
}
