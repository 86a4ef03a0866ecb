//! Frames written byte by byte, independent of the code under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// The Ethernet broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// A frame with the given addresses, EtherType and payload.
pub fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// EtherType of a frame; 0 if it is too short to have one.
pub fn kind(frame: &[u8]) -> u16 {
    frame
        .get(12..ETHERNET)
        .map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Destination address of a frame; zeros if it is too short.
pub fn destination(frame: &[u8]) -> [u8; 6] {
    frame
        .get(..6)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or_default()
}

/// What an ARP request for `target` asks (RFC 826), without the Ethernet header.
pub fn arp_request(sender: [u8; 6], source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [
        &head[..],
        &sender,
        &source.octets(),
        &[0; 6],
        &target.octets(),
    ]
    .concat()
}

/// Sender's MAC and IP address if the frame is an ARP reply.
pub fn arp_reply(frame: &[u8]) -> Option<([u8; 6], Ipv4Addr)> {
    let arp = frame.get(ETHERNET..).filter(|_| kind(frame) == ARP)?;
    (arp.get(6..8)? == [0, 2]).then_some(())?;
    let mac = arp.get(8..14)?.try_into().ok()?;
    let address: [u8; 4] = arp.get(14..18)?.try_into().ok()?;
    Some((mac, address.into()))
}

/// An IP packet of the family of the addresses, with a UDP datagram and right checksums.
///
/// # Panics
/// If the addresses are of two families.
pub fn udp(from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8]) -> (u16, Vec<u8>) {
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let mut datagram = Vec::new();
    for field in [from.1, to.1, length, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    match (from.0, to.0) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            seal(
                &mut datagram,
                &[&from.octets()[..], &to.octets(), &[0, UDP]].concat(),
            );
            (IPV4, ipv4(from, to, UDP, &datagram))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            seal(
                &mut datagram,
                &[&from.octets()[..], &to.octets(), &[0, UDP]].concat(),
            );
            (IPV6, ipv6(from, to, UDP, &datagram))
        }
        _ => panic!("{} and {} are of two families", from.0, to.0),
    }
}

/// An IPv4 packet with the SYN that opens a connection (RFC 9293), without options.
pub fn syn(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Vec<u8> {
    tcp(from, to, 2)
}

/// An IPv4 packet with a TCP segment without data or options (RFC 9293), with these flags and number 1.
pub fn tcp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: u8) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.1.to_be_bytes());
    segment.extend(to.1.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags]);
    segment.extend([0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = [&from.0.octets()[..], &to.0.octets(), &[0, TCP, 0, 20]].concat();
    let sum = checksum(&[&pseudo[..], &segment].concat());
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ipv4(from.0, to.0, TCP, &segment)
}

/// The fragments of a packet of [`udp`], each with at most `most` bytes (a multiple of 8) behind its headers
/// (RFC 791, section 3.2; RFC 8200, section 4.5).
pub fn fragments(kind: u16, packet: &[u8], id: u16, most: usize) -> Vec<Vec<u8>> {
    let header = if kind == IPV4 { 20 } else { 40 };
    let payload = &packet[header..];
    let parts = payload.chunks(most).enumerate();
    parts
        .map(|(at, part)| {
            let offset = (at * most) as u16;
            let more = usize::from(offset) + part.len() < payload.len();
            let mut head = packet[..header].to_vec();
            if kind == IPV4 {
                let length = (header + part.len()) as u16;
                head[2..4].copy_from_slice(&length.to_be_bytes());
                head[4..6].copy_from_slice(&id.to_be_bytes());
                let word = (offset / 8) | (u16::from(more) << 13);
                head[6..8].copy_from_slice(&word.to_be_bytes());
                head[10..12].fill(0);
                let sum = checksum(&head);
                head[10..12].copy_from_slice(&sum.to_be_bytes());
            } else {
                let length = (8 + part.len()) as u16;
                head[4..6].copy_from_slice(&length.to_be_bytes());
                let next = std::mem::replace(&mut head[6], 44);
                head.extend([next, 0]);
                head.extend((offset | u16::from(more)).to_be_bytes());
                head.extend(u32::from(id).to_be_bytes());
            }
            [head, part.to_vec()].concat()
        })
        .collect()
}

/// An IPv4 packet (RFC 791) with a time to live of 64 and no options.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [header, payload.to_vec()].concat()
}

/// An IPv6 packet (RFC 8200) with a hop limit of 64 and no extension headers.
pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let head = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[next, 64]].concat();
    [&head[..], &from.octets(), &to.octets(), payload].concat()
}

/// The Internet checksum of `bytes` (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Whether the frame holds `needle` anywhere.
pub fn contains(frame: &[u8], needle: &[u8]) -> bool {
    frame.windows(needle.len()).any(|window| window == needle)
}

/// Writes the UDP checksum (RFC 768; zero means none, so it is sent as ones). `pseudo` is the
/// pseudo header without the length.
fn seal(datagram: &mut [u8], pseudo: &[u8]) {
    let length = (datagram.len() as u32).to_be_bytes();
    let sum = match checksum(&[pseudo, &length, datagram].concat()) {
        0 => 0xffff,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_matches_the_example_of_rfc_1071() {
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
    }

    #[test]
    fn an_ipv4_header_sums_to_zero() {
        let packet = ipv4(
            Ipv4Addr::new(203, 0, 113, 50),
            Ipv4Addr::new(203, 0, 113, 10),
            6,
            b"x",
        );
        assert_eq!(checksum(&packet[..20]), 0);
    }

    #[test]
    fn an_arp_reply_is_told_from_a_request() {
        let request = arp_request([1; 6], Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST);
        let mut frame = ethernet(BROADCAST, [1; 6], ARP, &request);
        assert_eq!(arp_reply(&frame), None);
        frame[ETHERNET + 7] = 2;
        assert_eq!(arp_reply(&frame), Some(([1; 6], Ipv4Addr::LOCALHOST)));
    }
}
