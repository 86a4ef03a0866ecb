//! What differs between IPv4 and IPv6 on the packet path: word counts and byte places.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use packet::checksum::Delta;
use packet::fragment::{rewrite_later4, rewrite_later6};
use packet::parse::Parsed;
use packet::plain::{self, Start};
use packet::rewrite::{Translation, rewrite4, rewrite6};
use packet::tuple::{Ports, Tuple, swap_ports, words4, words6};

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::V4 {}
    impl Sealed for super::V6 {}
}

/// An address family, as a type: everything on the path is monomorphised over it.
pub trait Family: sealed::Sealed + Copy + Debug + Send + Sync + 'static {
    /// Words of a tuple; see [`packet::tuple`].
    type Key: Copy + Eq + Debug + Default + AsRef<[u64]> + AsMut<[u64]>;
    /// Words of source and destination together.
    type Addresses: Copy + Eq + Debug + Default + AsRef<[u64]> + AsMut<[u64]>;
    /// The rewrite of one direction of a flow.
    type Translation: Copy + Eq + Debug;

    /// Cache lines of a flow-table entry.
    const LINES: usize;
    /// Words of [`Family::Key`].
    const KEY_WORDS: usize;
    /// Words of [`Family::Addresses`].
    const ADDRESS_WORDS: usize;

    /// The tuple of a parsed frame whose transport has ports.
    fn key(bytes: &[u8], parsed: &Parsed) -> Self::Key;
    /// The tuple turned round, see [`Turned`]; its own inverse.
    fn turn(key: Self::Key) -> Self::Key;
    /// Keyed hash of a tuple's words.
    fn hash(seeds: [u64; 2], key: &Self::Key) -> u64;
    /// A tuple from its parts.
    fn join(addresses: Self::Addresses, ports: Ports, protocol: u8) -> Self::Key;
    /// The parts of a tuple.
    fn split(key: &Self::Key) -> (Self::Addresses, Ports, u8);
    /// Source and destination exchanged.
    fn swap(addresses: Self::Addresses) -> Self::Addresses;
    /// Words of these addresses; `None` when either is of the other family.
    fn pack(source: IpAddr, destination: IpAddr) -> Option<Self::Addresses>;
    /// The addresses in these words.
    fn unpack(addresses: &Self::Addresses) -> (IpAddr, IpAddr);
    /// What turns tuple `from` into tuple `to`.
    fn translate(from: &Self::Key, to: &Self::Key) -> Self::Translation;
    /// Rewrites a frame.
    fn rewrite(bytes: &mut [u8], parsed: &Parsed, translation: &Self::Translation);
    /// Rewrites a fragment other than the first.
    fn rewrite_later(bytes: &mut [u8], parsed: &Parsed, translation: &Self::Translation);
    /// The tuple of a plain frame that starts so; see [`packet::plain`].
    fn plain_key(bytes: &[u8], start: &Start) -> Option<Turned<Self>>;
    /// The tuple of a frame that is plain but for its SYN.
    fn opening(bytes: &[u8], start: &Start) -> Option<(Self::Key, Parsed)>;
    /// Rewrites a plain frame; returns its TCP flags.
    fn rewrite_plain(bytes: &mut [u8], translation: &Self::Translation) -> Option<u8>;
    /// Addresses and ports of a translation.
    fn parts(translation: &Self::Translation) -> (Self::Addresses, Ports);
    /// A translation as an entry stores it, in the frame's byte order: addresses; ports and deltas.
    fn store(translation: &Self::Translation) -> (Self::Addresses, u64);
    /// The inverse of [`Family::store`].
    fn load(addresses: Self::Addresses, ports_and_deltas: u64) -> Self::Translation;

    /// The tuple of the answering direction.
    #[must_use]
    fn reverse(key: &Self::Key) -> Self::Key {
        let (addresses, ports, protocol) = Self::split(key);
        Self::join(Self::swap(addresses), swap_ports(ports), protocol)
    }

    /// The tuple for people and the slow path.
    #[must_use]
    fn tuple(key: &Self::Key) -> Tuple {
        let (addresses, ports, protocol) = Self::split(key);
        let (source, destination) = Self::unpack(&addresses);
        Tuple {
            source,
            destination,
            source_port: (ports >> 16) as u16,
            destination_port: ports as u16,
            protocol,
        }
    }

    /// Words of a tuple; `None` when its addresses are of the other family.
    #[must_use]
    fn from_tuple(tuple: &Tuple) -> Option<Self::Key> {
        let addresses = Self::pack(tuple.source, tuple.destination)?;
        let ports = (Ports::from(tuple.source_port) << 16) | Ports::from(tuple.destination_port);
        Some(Self::join(addresses, ports, tuple.protocol))
    }
}

/// A tuple as the flow table holds it: addresses and ports in the byte order of the frame, so that
/// nothing has to be turned round for each frame that is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turned<F: Family>(pub(crate) F::Key);

impl<F: Family> Turned<F> {
    /// From the tuple.
    #[inline(always)]
    pub(crate) fn new(key: &F::Key) -> Self {
        Self(F::turn(*key))
    }

    /// The tuple.
    #[inline(always)]
    pub(crate) fn key(&self) -> F::Key {
        F::turn(self.0)
    }
}

/// No tuple: that of no frame, and never in the table.
impl<F: Family> Default for Turned<F> {
    fn default() -> Self {
        Self(F::Key::default())
    }
}

/// IPv4.
#[derive(Debug, Clone, Copy)]
pub struct V4;

/// IPv6.
#[derive(Debug, Clone, Copy)]
pub struct V6;

/// Multiplies to 128 bits and folds the halves together: one multiplication mixes all bits of both.
#[inline(always)]
const fn mix(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// An odd constant with evenly spread bits (the golden ratio's fraction).
pub(crate) const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
const fn pack_word(ports: Ports, header: Delta, transport: Delta) -> u64 {
    ((ports.to_be() as u64) << 32)
        | ((header.bits().to_be() as u64) << 16)
        | transport.bits().to_be() as u64
}

#[inline(always)]
const fn ports_of(word: u64) -> (Ports, Delta, Delta) {
    (
        u32::from_be((word >> 32) as u32),
        Delta::from_bits(u16::from_be((word >> 16) as u16)),
        Delta::from_bits(u16::from_be(word as u16)),
    )
}

/// The last word of a tuple: the protocol stays where it is.
#[inline(always)]
const fn turn_ports(word: u64) -> u64 {
    (((word >> 32) as u32).to_be() as u64) << 32 | word & 0xffff_ffff
}

impl Family for V4 {
    type Key = [u64; 2];
    type Addresses = [u64; 1];
    type Translation = Translation<1>;

    const LINES: usize = 1;
    const KEY_WORDS: usize = 2;
    const ADDRESS_WORDS: usize = 1;

    #[inline(always)]
    fn key(bytes: &[u8], parsed: &Parsed) -> [u64; 2] {
        words4(bytes, parsed)
    }

    #[inline(always)]
    fn turn(key: [u64; 2]) -> [u64; 2] {
        [key[0].to_be(), turn_ports(key[1])]
    }

    #[inline(always)]
    fn hash(seeds: [u64; 2], key: &[u64; 2]) -> u64 {
        mix(key[0] ^ seeds[0], key[1] ^ seeds[1])
    }

    #[inline(always)]
    fn join(addresses: [u64; 1], ports: Ports, protocol: u8) -> [u64; 2] {
        [addresses[0], (u64::from(ports) << 32) | u64::from(protocol)]
    }

    #[inline(always)]
    fn split(key: &[u64; 2]) -> ([u64; 1], Ports, u8) {
        ([key[0]], (key[1] >> 32) as u32, key[1] as u8)
    }

    #[inline(always)]
    fn swap(addresses: [u64; 1]) -> [u64; 1] {
        [addresses[0].rotate_left(32)]
    }

    fn pack(source: IpAddr, destination: IpAddr) -> Option<[u64; 1]> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Some([(u64::from(source.to_bits()) << 32) | u64::from(destination.to_bits())])
            }
            _ => None,
        }
    }

    fn unpack(addresses: &[u64; 1]) -> (IpAddr, IpAddr) {
        let [word] = *addresses;
        (
            Ipv4Addr::from((word >> 32) as u32).into(),
            Ipv4Addr::from(word as u32).into(),
        )
    }

    fn translate(from: &[u64; 2], to: &[u64; 2]) -> Translation<1> {
        let (from, to) = (Self::split(from), Self::split(to));
        Translation::between((from.0, from.1), (to.0, to.1))
    }

    #[inline(always)]
    fn rewrite(bytes: &mut [u8], parsed: &Parsed, translation: &Translation<1>) {
        rewrite4(bytes, parsed, translation);
    }

    fn rewrite_later(bytes: &mut [u8], parsed: &Parsed, translation: &Self::Translation) {
        rewrite_later4(bytes, parsed, translation);
    }

    #[inline(always)]
    fn plain_key(bytes: &[u8], start: &Start) -> Option<Turned<Self>> {
        plain::key4(bytes, start).map(|key| Turned::new(&key))
    }

    fn opening(bytes: &[u8], start: &Start) -> Option<(Self::Key, Parsed)> {
        plain::opening4(bytes, start)
    }

    #[inline(always)]
    fn rewrite_plain(bytes: &mut [u8], translation: &Translation<1>) -> Option<u8> {
        plain::rewrite4(bytes, translation)
    }

    #[inline(always)]
    fn parts(translation: &Translation<1>) -> ([u64; 1], Ports) {
        (translation.addresses, translation.ports)
    }

    #[inline(always)]
    fn store(translation: &Translation<1>) -> ([u64; 1], u64) {
        let word = pack_word(translation.ports, translation.header, translation.transport);
        (translation.addresses.map(u64::to_be), word)
    }

    #[inline(always)]
    fn load(addresses: [u64; 1], word: u64) -> Translation<1> {
        let (ports, header, transport) = ports_of(word);
        Translation {
            addresses: addresses.map(u64::from_be),
            ports,
            header,
            transport,
        }
    }
}

impl Family for V6 {
    type Key = [u64; 5];
    type Addresses = [u64; 4];
    type Translation = Translation<4>;

    const LINES: usize = 2;
    const KEY_WORDS: usize = 5;
    const ADDRESS_WORDS: usize = 4;

    #[inline(always)]
    fn key(bytes: &[u8], parsed: &Parsed) -> [u64; 5] {
        words6(bytes, parsed)
    }

    #[inline(always)]
    fn turn(key: [u64; 5]) -> [u64; 5] {
        let [a, b, c, d, last] = key;
        [a.to_be(), b.to_be(), c.to_be(), d.to_be(), turn_ports(last)]
    }

    #[inline(always)]
    fn hash(seeds: [u64; 2], key: &[u64; 5]) -> u64 {
        let [a, b] = seeds;
        let first = mix(key[0] ^ a, key[1] ^ b);
        let second = mix(key[2] ^ b, key[3] ^ a.rotate_left(17));
        mix(first ^ key[4], second ^ b)
    }

    #[inline(always)]
    fn join(addresses: [u64; 4], ports: Ports, protocol: u8) -> [u64; 5] {
        let [a, b, c, d] = addresses;
        [a, b, c, d, (u64::from(ports) << 32) | u64::from(protocol)]
    }

    #[inline(always)]
    fn split(key: &[u64; 5]) -> ([u64; 4], Ports, u8) {
        let [a, b, c, d, last] = *key;
        ([a, b, c, d], (last >> 32) as u32, last as u8)
    }

    #[inline(always)]
    fn swap(addresses: [u64; 4]) -> [u64; 4] {
        let [a, b, c, d] = addresses;
        [c, d, a, b]
    }

    fn pack(source: IpAddr, destination: IpAddr) -> Option<[u64; 4]> {
        match (source, destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (source, destination) = (source.to_bits(), destination.to_bits());
                Some([
                    (source >> 64) as u64,
                    source as u64,
                    (destination >> 64) as u64,
                    destination as u64,
                ])
            }
            _ => None,
        }
    }

    fn unpack(addresses: &[u64; 4]) -> (IpAddr, IpAddr) {
        let [a, b, c, d] = addresses.map(u128::from);
        (
            Ipv6Addr::from((a << 64) | b).into(),
            Ipv6Addr::from((c << 64) | d).into(),
        )
    }

    fn translate(from: &[u64; 5], to: &[u64; 5]) -> Translation<4> {
        let (from, to) = (Self::split(from), Self::split(to));
        Translation::between((from.0, from.1), (to.0, to.1))
    }

    #[inline(always)]
    fn rewrite(bytes: &mut [u8], parsed: &Parsed, translation: &Translation<4>) {
        rewrite6(bytes, parsed, translation);
    }

    fn rewrite_later(bytes: &mut [u8], parsed: &Parsed, translation: &Self::Translation) {
        rewrite_later6(bytes, parsed, translation);
    }

    #[inline(always)]
    fn plain_key(bytes: &[u8], start: &Start) -> Option<Turned<Self>> {
        plain::key6(bytes, start).map(|key| Turned::new(&key))
    }

    fn opening(bytes: &[u8], start: &Start) -> Option<(Self::Key, Parsed)> {
        plain::opening6(bytes, start)
    }

    #[inline(always)]
    fn rewrite_plain(bytes: &mut [u8], translation: &Translation<4>) -> Option<u8> {
        plain::rewrite6(bytes, translation)
    }

    #[inline(always)]
    fn parts(translation: &Translation<4>) -> ([u64; 4], Ports) {
        (translation.addresses, translation.ports)
    }

    #[inline(always)]
    fn store(translation: &Translation<4>) -> ([u64; 4], u64) {
        let word = pack_word(translation.ports, translation.header, translation.transport);
        (translation.addresses.map(u64::to_be), word)
    }

    #[inline(always)]
    fn load(addresses: [u64; 4], word: u64) -> Translation<4> {
        let (ports, header, transport) = ports_of(word);
        Translation {
            addresses: addresses.map(u64::from_be),
            ports,
            header,
            transport,
        }
    }
}
