//! A fragment's way through a worker.

use packet::fragment::{Piece, answer_echo, is_echo};
use packet::parse::{Network, TCP, UDP};
use packet::tuple::Tuple;
use packet::{Buffer, Pool};

use crate::carry::observe_translation;
use crate::counters::Total;
use crate::family::{Family, V4, V6};
use crate::first::End;
use crate::flow::Hit;
use crate::flow::state::{REPLIED, seen};
use crate::fragments::{Datagrams, Fate, Fragment, Fragments, Identity, Noted, Waiting};
use crate::lane::Tabled;
use crate::observe::{Observe, Waits};
use crate::pipeline::{Now, Pipeline};
use crate::reason::Reason;

/// A family whose fragments can be found.
trait Fragmented: Tabled {
    fn datagrams(fragments: &Fragments) -> &Datagrams<Self>;
}

impl Fragmented for V4 {
    fn datagrams(fragments: &Fragments) -> &Datagrams<Self> {
        &fragments.v4
    }
}

impl Fragmented for V6 {
    fn datagrams(fragments: &Fragments) -> &Datagrams<Self> {
        &fragments.v6
    }
}

impl<B: Buffer> Pipeline<B> {
    /// Sends a fragment the way of its datagram, lets it wait, or drops it.
    #[cold]
    pub(crate) fn fragment<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        frame: B,
        pool: &mut P,
        observer: &mut O,
    ) {
        let piece = match Piece::read(frame.bytes()) {
            Ok(piece) => piece,
            Err(error) => return self.drop_frame(input, frame, error.into(), observer),
        };
        let fragment = Fragment {
            input,
            frame,
            piece,
        };
        match piece.parsed.network {
            Network::V6 => self.fragment_in::<V6, P, O>(now, fragment, pool, observer),
            _ => self.fragment_in::<V4, P, O>(now, fragment, pool, observer),
        }
    }

    /// Sends those parked fragments on whose first one has come, here or at another worker.
    #[cold]
    pub(crate) fn look_at_parked<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        pool: &mut P,
        observer: &mut O,
    ) {
        let wakes = self.shared.fragments.wakes(self.parked.worker);
        let (known, second) = (self.parked.wakes, self.parked.second);
        if wakes != known || now.second != second {
            self.parked.wakes = wakes;
            self.parked.second = now.second;
            self.release(now, pool, observer);
        }
    }

    /// Drops what waits: the worker ends.
    pub(crate) fn drop_parked_fragments(&mut self) {
        while let Some(waiting) = self.parked.pop() {
            self.counters.add(Total::Unparked, 1);
            let Fragment { input, frame, .. } = waiting.fragment;
            self.drop_frame(input, frame, Reason::FragmentNoFirst, &mut ());
        }
    }

    fn fragment_in<F: Fragmented, P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        fragment: Fragment<B>,
        pool: &mut P,
        observer: &mut O,
    ) {
        let Some(identity) = Identity::<F>::new(fragment.frame.bytes(), &fragment.piece) else {
            return self.drop_fragment(fragment, Reason::TooShort, observer);
        };
        let datagrams = F::datagrams(&self.shared.fragments);
        match datagrams.note(&identity, &fragment.piece, now.second, self.parked.worker) {
            Noted::Refused(reason) => self.drop_fragment(fragment, reason, observer),
            Noted::Wait => self.park::<F, O>(now, fragment, &identity, observer),
            Noted::Goes(fate) => self.go(now, fragment, fate, pool, observer),
            Noted::Decide => {
                let decided = self.decide_first::<F, O>(now, &fragment, observer);
                let fate = decided.unwrap_or(Fate::Lost);
                let fragments = &self.shared.fragments;
                let waiting = F::datagrams(fragments).decide(&identity, fate, now.second);
                fragments.wake(waiting, self.parked.worker);
                match decided {
                    Ok(fate) => self.go(now, fragment, fate, pool, observer),
                    Err(end) => self.refuse_first::<F, O>(now, fragment, end, observer),
                }
                if waiting >> self.parked.worker & 1 == 1 {
                    self.release(now, pool, observer);
                }
            }
        }
    }

    /// What becomes of the datagram that begins with this fragment.
    fn decide_first<F: Fragmented, O: Observe>(
        &mut self,
        now: Now,
        fragment: &Fragment<B>,
        observer: &mut O,
    ) -> Result<Fate<F>, End> {
        let (bytes, piece) = (fragment.frame.bytes(), &fragment.piece);
        let parsed = piece.parsed;
        if parsed.ttl <= 1 {
            return Err(End::Drop(Reason::TtlExpired));
        }
        let addresses = packet::tuple::addresses(bytes, &parsed);
        let (_, destination) = addresses.ok_or(End::Drop(Reason::TooShort))?;
        match parsed.protocol {
            TCP | UDP => {
                let key = F::key(bytes, &parsed);
                let place = F::table(&self.shared).place(&key);
                let hit = match F::table(&self.shared).find(&key, place) {
                    Some(hit) => hit,
                    None => self.establish::<F, O>(now, &key, parsed.tcp_flags, observer)?,
                };
                let id = self.next_id::<F>(&F::parts(&hit.translation).0, parsed.protocol);
                Ok(Fate::Flow { key, id })
            }
            _ if !self.snapshots.get().networks.own.contains(&destination) => {
                Err(End::Drop(Reason::NotOurs))
            }
            protocol if is_echo(bytes, piece) => {
                let pair = packet::tuple::addresses(bytes, &parsed)
                    .and_then(|(source, own)| F::pack(own, source));
                let pair = pair.ok_or(End::Drop(Reason::TooShort))?;
                let id = self.next_id::<F>(&pair, protocol);
                Ok(Fate::Echo { id })
            }
            _ => Err(End::Drop(Reason::NotServed)),
        }
    }

    /// An identification for a datagram with these addresses that leaves in fragments.
    fn next_id<F: Fragmented>(&self, addresses: &F::Addresses, protocol: u8) -> u32 {
        let fragments = &self.shared.fragments;
        fragments
            .ids
            .next(F::datagrams(fragments).pair(addresses, protocol))
    }

    fn refuse_first<F: Family, O: Observe>(
        &mut self,
        now: Now,
        fragment: Fragment<B>,
        end: End,
        observer: &mut O,
    ) {
        let Fragment {
            input,
            frame,
            piece: Piece { parsed, .. },
        } = fragment;
        match end {
            End::Drop(Reason::TtlExpired) => self.expire(now, input, frame, &parsed, observer),
            End::Drop(reason) => self.drop_frame(input, frame, reason, observer),
            End::Reject(reason) => {
                let tuple: Tuple = F::tuple(&F::key(frame.bytes(), &parsed));
                self.reject(now, input, frame, &parsed, &tuple, reason, observer);
            }
        }
    }

    fn go<F: Fragmented, P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        fragment: Fragment<B>,
        fate: Fate<F>,
        pool: &mut P,
        observer: &mut O,
    ) {
        match fate {
            Fate::Flow { key, id } => {
                let table = F::table(&self.shared);
                match table.find(&key, table.place(&key)) {
                    Some(hit) => {
                        if O::WATCHES {
                            observer.found(&F::tuple(&key), hit.hop.slot());
                        }
                        observe_translation::<F, O>(&key, &hit, observer);
                        self.translate_fragment(now, fragment, &hit, id, pool, observer);
                    }
                    None => self.drop_fragment(fragment, Reason::NoFlow, observer),
                }
            }
            Fate::Echo { id } => {
                let Fragment {
                    input,
                    mut frame,
                    piece,
                } = fragment;
                if answer_echo(&mut frame, &piece, id) {
                    self.answer(input, frame, observer);
                } else {
                    self.drop_frame(input, frame, Reason::NotServed, observer);
                }
            }
            Fate::Lost | Fate::Unknown => {
                self.drop_fragment(fragment, Reason::FragmentOfDropped, observer);
            }
        }
    }

    /// [`Pipeline::translate`] for a fragment.
    fn translate_fragment<F: Fragmented, P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        fragment: Fragment<B>,
        hit: &Hit<F>,
        id: u32,
        pool: &mut P,
        observer: &mut O,
    ) {
        let Fragment {
            input,
            mut frame,
            mut piece,
        } = fragment;
        let parsed = piece.parsed;
        if parsed.ttl <= 1 {
            return self.expire(now, input, frame, &parsed, observer);
        }
        let (hop, word) = match self.way::<F>(now, hit) {
            Ok(way) => way,
            Err(reason) => return self.drop_frame(input, frame, reason, observer),
        };
        if let Some(mtu) = self.forbidding_mtu(frame.bytes(), &parsed, word) {
            return self.too_big(now, input, frame, &parsed, mtu, observer);
        }
        let bytes = frame.bytes_mut();
        let len = bytes.len();
        if piece.is_first() {
            F::rewrite(bytes, &parsed, &hit.translation);
            let flags = match parsed.protocol {
                TCP => seen(parsed.tcp_flags),
                _ => REPLIED,
            };
            F::table(&self.shared).touch(hit.index, now.second, flags);
        } else {
            F::rewrite_later(bytes, &parsed, &hit.translation);
        }
        piece.set_id(bytes, id);
        self.counters.service_frames().count(hop.slot(), len);
        self.counters.add(Total::Hits, 1);
        let way = (hop.neighbour(), word);
        self.leave(now, input, frame, &parsed, way, pool, observer);
    }

    fn park<F: Fragmented, O: Observe>(
        &mut self,
        now: Now,
        fragment: Fragment<B>,
        identity: &Identity<F>,
        observer: &mut O,
    ) {
        let source = F::datagrams(&self.shared.fragments).source(&identity.addresses);
        match self.parked.park(fragment, source, now.second) {
            Ok(oldest) => {
                self.counters.add(Total::Parked, 1);
                observer.waits(Waits::FirstFragment);
                if let Some(oldest) = oldest {
                    self.counters.add(Total::Unparked, 1);
                    if O::WATCHES {
                        observer.resumed(oldest.frame.bytes());
                    }
                    self.drop_fragment(oldest, Reason::FragmentNoFirst, observer);
                }
            }
            Err(fragment) => self.drop_fragment(fragment, Reason::FragmentLimit, observer),
        }
    }

    /// Looks at every parked fragment once.
    fn release<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        pool: &mut P,
        observer: &mut O,
    ) {
        for _ in 0..self.parked.len() {
            let Some(waiting) = self.parked.pop() else {
                return;
            };
            match waiting.fragment.piece.parsed.network {
                Network::V6 => self.release_in::<V6, P, O>(now, waiting, pool, observer),
                _ => self.release_in::<V4, P, O>(now, waiting, pool, observer),
            }
        }
    }

    fn release_in<F: Fragmented, P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        waiting: Waiting<B>,
        pool: &mut P,
        observer: &mut O,
    ) {
        let Fragment { frame, piece, .. } = &waiting.fragment;
        let worker = self.parked.worker;
        let datagrams = F::datagrams(&self.shared.fragments);
        let fate = Identity::<F>::new(frame.bytes(), piece)
            .map_or(Fate::Lost, |identity| datagrams.fate(&identity, worker));
        let is_over = waiting.is_over(now.second);
        if fate.is_unknown() && !is_over {
            return self.parked.push(waiting);
        }
        self.counters.add(Total::Unparked, 1);
        if O::WATCHES {
            observer.resumed(waiting.fragment.frame.bytes());
        }
        if fate.is_unknown() {
            return self.drop_fragment(waiting.fragment, Reason::FragmentNoFirst, observer);
        }
        self.go(now, waiting.fragment, fate, pool, observer);
    }

    fn drop_fragment<O: Observe>(
        &mut self,
        fragment: Fragment<B>,
        reason: Reason,
        observer: &mut O,
    ) {
        self.drop_frame(fragment.input, fragment.frame, reason, observer);
    }
}
