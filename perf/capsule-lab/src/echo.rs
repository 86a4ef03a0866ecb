//! `capsule-lab echo`: a UDP echo server and ARP responder for one IPv4 address, over AF_PACKET.
//!
//! Addresses and ports are exchanged in place, which leaves every checksum as it was. What capsule's types accept though
//! it is no datagram of ours (options, fragments, a wrong version) is dropped here.

use std::error::Error;
use std::net::Ipv4Addr;

use anyhow::Result;
use capsule::PortQueue;
use capsule::batch::{Batch, Either, Pipeline, Poll};
use capsule::net::MacAddr;
use capsule::packets::arp::{Arp4, OperationCodes};
use capsule::packets::ip::ProtocolNumbers;
use capsule::packets::ip::v4::Ipv4;
use capsule::packets::{EtherTypes, Ethernet, Packet, Udp4};

use crate::start::{PORT, Wanted, last_cpu, runtime};

/// As typed.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Kernel interface, without addresses of its own: the kernel would answer as well.
    #[arg(long)]
    interface: String,
    /// Address to answer for, on every UDP port.
    #[arg(long)]
    address: Ipv4Addr,
    /// CPU to poll on [default: the last].
    #[arg(long)]
    cpu: Option<usize>,
}

/// Answers until a signal comes.
pub fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    if !std::path::Path::new("/sys/class/net")
        .join(&options.interface)
        .exists()
    {
        return Err(format!(
            "--interface {}: there is none of that name",
            options.interface
        )
        .into());
    }
    let mut runtime = runtime(&Wanted {
        device: "net_af_packet0",
        arguments: &format!("iface={}", options.interface),
        cpu: options.cpu.unwrap_or_else(last_cpu),
        mbufs: 4096,
        memory: 64,
        huge_pages: false,
        brief: false,
    })?;
    let options = options.clone();
    runtime.add_pipeline_to_port(PORT, move |queue| {
        // The port is started by now.
        println!(
            "capsule-lab echo ready {} on {}",
            options.address, options.interface
        );
        pipeline(queue, options.address)
    })?;
    runtime.execute()?;
    Ok(())
}

fn pipeline(queue: PortQueue, address: Ipv4Addr) -> impl Pipeline {
    let mac = queue.mac_addr();
    Poll::new(queue.clone())
        .map(|mbuf| mbuf.parse::<Ethernet>())
        .filter_map(move |ethernet| match ethernet.ether_type() {
            EtherTypes::Arp => arp(ethernet, mac, address),
            EtherTypes::Ipv4 if ethernet.dst() == mac => datagram(ethernet, address),
            _ => Ok(Either::Drop(ethernet.reset())),
        })
        .send(queue)
}

/// Answers who asks for the address (RFC 826).
fn arp(ethernet: Ethernet, mac: MacAddr, address: Ipv4Addr) -> Result<Either<Ethernet>> {
    let mut arp = ethernet.parse::<Arp4>()?;
    let asks = arp.operation_code() == OperationCodes::Request;
    if !asks || arp.target_protocol_addr() != address {
        return Ok(Either::Drop(arp.reset()));
    }
    let (asker, from) = (arp.sender_hardware_addr(), arp.sender_protocol_addr());
    arp.set_operation_code(OperationCodes::Reply);
    arp.set_target_hardware_addr(asker);
    arp.set_target_protocol_addr(from);
    arp.set_sender_hardware_addr(mac);
    arp.set_sender_protocol_addr(address);
    let mut ethernet = arp.deparse();
    ethernet.set_dst(asker);
    ethernet.set_src(mac);
    Ok(Either::Keep(ethernet))
}

/// Sends a datagram back.
fn datagram(ethernet: Ethernet, address: Ipv4Addr) -> Result<Either<Ethernet>> {
    let ip = ethernet.parse::<Ipv4>()?;
    let is_plain = ip.version() == 4 && ip.ihl() == 5 && ip.fragment_offset() == 0;
    let is_ours = ip.dst() == address && ip.protocol() == ProtocolNumbers::Udp;
    if !is_plain || ip.more_fragments() || !is_ours {
        return Ok(Either::Drop(ip.reset()));
    }
    let mut udp = ip.parse::<Udp4>()?;
    let (source, destination) = (udp.src_port(), udp.dst_port());
    udp.set_src_port(destination);
    udp.set_dst_port(source);
    let mut ip = udp.deparse();
    let client = ip.src();
    ip.set_src(address);
    ip.set_dst(client);
    let mut ethernet = ip.deparse();
    ethernet.swap_addresses();
    Ok(Either::Keep(ethernet))
}
