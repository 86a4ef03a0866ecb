//! What differs between IPv4 and IPv6 on the packet path: word counts and byte places.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use packet::checksum::Delta;
use packet::fragment::{rewrite_later4, rewrite_later6};
use packet::parse::Parsed;
use packet::plain::{self, Plain, Start};
use packet::rewrite::{Translation, rewrite4, rewrite6};
use packet::tuple::{Ports, Tuple, swap_ports, words4, words6};

use crate::ranges::{Address, Ranges};

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::V4 {}
    impl Sealed for super::V6 {}
}

/// An address family, as a type: everything on the path is monomorphised over it.
pub trait Family: sealed::Sealed + Copy + Debug + Send + Sync + 'static {
    /// Words of a tuple; see [`packet::tuple`].
    type Key: Copy + Eq + Debug + Default + AsRef<[u64]> + AsMut<[u64]>;
    /// An address as a number.
    type Address: Address;
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
    /// Source and destination.
    fn ends(addresses: &Self::Addresses) -> (Self::Address, Self::Address);
    /// Words of source and destination.
    fn words(source: Self::Address, destination: Self::Address) -> Self::Addresses;
    /// The address as a number; `None` if it is of the other family.
    fn number(address: IpAddr) -> Option<Self::Address>;
    /// The address of this number.
    fn address(number: Self::Address) -> IpAddr;
    /// The number in the low bits.
    fn widen(number: Self::Address) -> u128;
    /// Those of this family.
    fn ranges<'a, V>(
        v4: &'a Ranges<u32, V>,
        v6: &'a Ranges<u128, V>,
    ) -> &'a Ranges<Self::Address, V>;
    /// Source and destination exchanged.
    fn swap(addresses: Self::Addresses) -> Self::Addresses;
    /// What turns tuple `from` into tuple `to`.
    fn translate(from: &Self::Key, to: &Self::Key) -> Self::Translation;
    /// The same, and what turns the answers to `to` into answers to `from`.
    fn translate_both(from: &Self::Key, to: &Self::Key) -> [Self::Translation; 2];
    /// Rewrites a frame.
    fn rewrite(bytes: &mut [u8], parsed: &Parsed, translation: &Self::Translation);
    /// Rewrites a fragment other than the first.
    fn rewrite_later(bytes: &mut [u8], parsed: &Parsed, translation: &Self::Translation);
    /// What there is to know of a plain frame that starts so; see [`packet::plain`].
    fn plain(bytes: &[u8], start: &Start) -> Option<Plain<Self::Key>>;
    /// What the parser says of a plain frame.
    fn plain_parsed(bytes: &[u8]) -> Parsed;
    /// TCP flags of a plain frame with a TCP segment, if its checksum is right.
    fn right_segment(bytes: &[u8]) -> Option<u8>;
    /// Rewrites a plain frame; returns its TCP flags.
    fn rewrite_plain(bytes: &mut [u8], translation: &Self::Translation) -> Option<u8>;
    /// Addresses and ports of a translation.
    fn parts(translation: &Self::Translation) -> (Self::Addresses, Ports);
    /// A translation as an entry stores it, in the frame's byte order: addresses; ports and deltas.
    fn store(translation: &Self::Translation) -> (Self::Addresses, u64);
    /// The inverse of [`Family::store`].
    fn load(addresses: Self::Addresses, ports_and_deltas: u64) -> Self::Translation;

    /// Words of these addresses; `None` when either is of the other family.
    #[must_use]
    fn pack(source: IpAddr, destination: IpAddr) -> Option<Self::Addresses> {
        Some(Self::words(
            Self::number(source)?,
            Self::number(destination)?,
        ))
    }

    /// The addresses in these words.
    #[must_use]
    fn unpack(addresses: &Self::Addresses) -> (IpAddr, IpAddr) {
        let (source, destination) = Self::ends(addresses);
        (Self::address(source), Self::address(destination))
    }

    /// The tuple of the answering direction.
    #[must_use]
    #[inline(always)]
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

    /// Makes it no tuple's: nothing in the table is equal to it.
    #[inline(always)]
    pub(crate) fn marked(mut self) -> Self {
        *self.last() |= 1 << MARK;
        self
    }

    /// The tuple that was marked, or not.
    #[inline(always)]
    pub(crate) fn unmarked(mut self) -> Self {
        *self.last() &= !(1 << MARK);
        self
    }

    /// Whether it is marked.
    #[inline(always)]
    pub(crate) fn is_marked(mut self) -> bool {
        *self.last() >> MARK & 1 == 1
    }

    #[inline(always)]
    fn last(&mut self) -> &mut u64 {
        &mut self.0.as_mut()[F::KEY_WORDS - 1]
    }
}

/// A bit of a tuple's last word that neither ports nor protocol use.
const MARK: u32 = 8;

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
pub(crate) const fn mix(a: u64, b: u64) -> u64 {
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
    type Address = u32;
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
    fn ends(addresses: &[u64; 1]) -> (u32, u32) {
        let [word] = *addresses;
        ((word >> 32) as u32, word as u32)
    }

    #[inline(always)]
    fn words(source: u32, destination: u32) -> [u64; 1] {
        [u64::from(source) << 32 | u64::from(destination)]
    }

    #[inline(always)]
    fn number(address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(address) => Some(address.to_bits()),
            IpAddr::V6(_) => None,
        }
    }

    #[inline(always)]
    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from(number).into()
    }

    #[inline(always)]
    fn widen(number: u32) -> u128 {
        number.into()
    }

    #[inline(always)]
    fn ranges<'a, V>(v4: &'a Ranges<u32, V>, _: &'a Ranges<u128, V>) -> &'a Ranges<u32, V> {
        v4
    }

    #[inline(always)]
    fn swap(addresses: [u64; 1]) -> [u64; 1] {
        [addresses[0].rotate_left(32)]
    }

    fn translate(from: &[u64; 2], to: &[u64; 2]) -> Translation<1> {
        let (from, to) = (Self::split(from), Self::split(to));
        Translation::between((from.0, from.1), (to.0, to.1))
    }

    fn translate_both(from: &[u64; 2], to: &[u64; 2]) -> [Translation<1>; 2] {
        let (from, to) = (Self::split(from), Self::split(to));
        let answer = (Self::swap(from.0), swap_ports(from.1));
        Translation::there_and_back((from.0, from.1), (to.0, to.1), answer)
    }

    #[inline(always)]
    fn rewrite(bytes: &mut [u8], parsed: &Parsed, translation: &Translation<1>) {
        rewrite4(bytes, parsed, translation);
    }

    fn rewrite_later(bytes: &mut [u8], parsed: &Parsed, translation: &Self::Translation) {
        rewrite_later4(bytes, parsed, translation);
    }

    #[inline(always)]
    fn plain(bytes: &[u8], start: &Start) -> Option<Plain<Self::Key>> {
        plain::key4(bytes, start)
    }

    fn plain_parsed(bytes: &[u8]) -> Parsed {
        plain::parsed4(bytes)
    }

    #[inline(always)]
    fn right_segment(bytes: &[u8]) -> Option<u8> {
        plain::is_segment_right4(bytes).then(|| plain::flags4(bytes))
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
    type Address = u128;
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
    fn ends(addresses: &[u64; 4]) -> (u128, u128) {
        let [a, b, c, d] = addresses.map(u128::from);
        ((a << 64) | b, (c << 64) | d)
    }

    #[inline(always)]
    fn words(source: u128, destination: u128) -> [u64; 4] {
        [
            (source >> 64) as u64,
            source as u64,
            (destination >> 64) as u64,
            destination as u64,
        ]
    }

    #[inline(always)]
    fn number(address: IpAddr) -> Option<u128> {
        match address {
            IpAddr::V6(address) => Some(address.to_bits()),
            IpAddr::V4(_) => None,
        }
    }

    #[inline(always)]
    fn address(number: u128) -> IpAddr {
        Ipv6Addr::from(number).into()
    }

    #[inline(always)]
    fn widen(number: u128) -> u128 {
        number
    }

    #[inline(always)]
    fn ranges<'a, V>(_: &'a Ranges<u32, V>, v6: &'a Ranges<u128, V>) -> &'a Ranges<u128, V> {
        v6
    }

    #[inline(always)]
    fn swap(addresses: [u64; 4]) -> [u64; 4] {
        let [a, b, c, d] = addresses;
        [c, d, a, b]
    }

    fn translate(from: &[u64; 5], to: &[u64; 5]) -> Translation<4> {
        let (from, to) = (Self::split(from), Self::split(to));
        Translation::between((from.0, from.1), (to.0, to.1))
    }

    fn translate_both(from: &[u64; 5], to: &[u64; 5]) -> [Translation<4>; 2] {
        let (from, to) = (Self::split(from), Self::split(to));
        let answer = (Self::swap(from.0), swap_ports(from.1));
        Translation::there_and_back((from.0, from.1), (to.0, to.1), answer)
    }

    #[inline(always)]
    fn rewrite(bytes: &mut [u8], parsed: &Parsed, translation: &Translation<4>) {
        rewrite6(bytes, parsed, translation);
    }

    fn rewrite_later(bytes: &mut [u8], parsed: &Parsed, translation: &Self::Translation) {
        rewrite_later6(bytes, parsed, translation);
    }

    #[inline(always)]
    fn plain(bytes: &[u8], start: &Start) -> Option<Plain<Self::Key>> {
        plain::key6(bytes, start)
    }

    fn plain_parsed(bytes: &[u8]) -> Parsed {
        plain::parsed6(bytes)
    }

    #[inline(always)]
    fn right_segment(bytes: &[u8]) -> Option<u8> {
        plain::is_segment_right6(bytes).then(|| plain::flags6(bytes))
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
