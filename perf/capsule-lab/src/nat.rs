//! One translation, written in three ways: as capsule's examples are, as a pipeline of one's own over capsule's
//! buffers, and over DPDK's.

use std::net::Ipv4Addr;

use anyhow::Result;
use capsule::Mbuf;
use capsule::net::MacAddr;
use capsule::packets::ip::v4::Ipv4;
use capsule::packets::{Ethernet, Packet, Tcp4};
use packet::build::FrameSpec;
use packet::ethernet::Mac;
use packet::parse::parse;
use packet::plain::{HEAD4, rewrite4};
use packet::rewrite::Translation;
use packet::tuple::words4;

/// MAC addresses: of the client, the gateway, the next hop.
const MACS: [[u8; 6]; 3] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 0, 1], [2, 1, 0, 0, 0, 2]];
const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 18, 0, 1), 1024);
const SERVICE: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 10), 80);
const GATEWAY: (Ipv4Addr, u16) = (Ipv4Addr::new(100, 64, 0, 1), 20_000);
const BACKEND: (Ipv4Addr, u16) = (Ipv4Addr::new(100, 96, 2, 2), 8080);

/// The frame as it comes, and as it must leave.
#[derive(Debug, Clone)]
pub struct Task {
    /// From the client to the service.
    pub received: Vec<u8>,
    /// From the gateway to the backend.
    pub sent: Vec<u8>,
    translation: Translation<1>,
}

impl Task {
    /// For TCP frames of so many bytes without FCS, 54 at least: no padding, which capsule would take for payload.
    pub fn new(size: usize) -> Result<Self> {
        let frame = |[from, to]: [(Ipv4Addr, u16); 2], [source, destination]: [usize; 2], ttl| {
            let payload = vec![0x5a; size.saturating_sub(HEAD4)];
            let mut spec = FrameSpec::tcp(from.into(), to.into(), packet::tcp::ACK);
            spec.source_mac = Mac(MACS[source]);
            spec.destination_mac = Mac(MACS[destination]);
            spec.ttl = ttl;
            spec.payload = payload;
            spec.pad_to = 0;
            spec.bytes().map_err(|error| anyhow::anyhow!("{error}"))
        };
        let received = frame([CLIENT, SERVICE], [0, 1], 64)?;
        let sent = frame([GATEWAY, BACKEND], [1, 2], 63)?;
        let tuple = |bytes: &[u8]| {
            let parsed = parse(bytes).map_err(|error| anyhow::anyhow!("{error:?}"))?;
            let [addresses, ports] = words4(bytes, &parsed);
            anyhow::Ok(([addresses], (ports >> 32) as u32))
        };
        let translation = Translation::between(tuple(&received)?, tuple(&sent)?);
        Ok(Self {
            received,
            sent,
            translation,
        })
    }

    /// On the bytes: the gateway's own rewrite, by difference.
    #[inline(always)]
    pub fn rewrite(&self, bytes: &mut [u8]) {
        rewrite4(bytes, &self.translation);
        bytes[..6].copy_from_slice(&MACS[2]);
        bytes[6..12].copy_from_slice(&MACS[1]);
    }

    /// On capsule's buffer.
    #[inline(always)]
    pub fn rewrite_mbuf(&self, mbuf: &mut Mbuf) -> Result<()> {
        let mut bytes = mbuf.read_data_slice::<u8>(0, mbuf.data_len())?;
        // SAFETY: these bytes are the buffer's, which is borrowed mutably here.
        self.rewrite(unsafe { bytes.as_mut() });
        Ok(())
    }
}

/// The first steps of the pipeline.
pub fn ethernet(mbuf: Mbuf) -> Result<Ethernet> {
    mbuf.parse::<Ethernet>()
}

/// See [`ethernet`].
pub fn ipv4(ethernet: Ethernet) -> Result<Ipv4> {
    ethernet.parse::<Ipv4>()
}

/// See [`ethernet`].
pub fn tcp(ipv4: Ipv4) -> Result<Tcp4> {
    ipv4.parse::<Tcp4>()
}

/// On capsule's packet types; `reconcile_all` computes lengths and checksums anew.
pub fn translate(mut tcp: Tcp4) -> Result<Tcp4> {
    tcp.set_src_port(GATEWAY.1);
    tcp.set_dst_port(BACKEND.1);
    let ip = tcp.envelope_mut();
    ip.set_src(GATEWAY.0);
    ip.set_dst(BACKEND.0);
    ip.set_ttl(ip.ttl() - 1);
    let ethernet = ip.envelope_mut();
    ethernet.set_dst(MacAddr::from(MACS[2]));
    ethernet.set_src(MacAddr::from(MACS[1]));
    tcp.reconcile_all();
    Ok(tcp)
}
