//! Names of the offloads that a device has, by DPDK's bits (`RTE_ETH_RX_OFFLOAD_*`, `RTE_ETH_TX_OFFLOAD_*`).
//!
//! The region has the bits, and those who read it have no DPDK; the data plane's tests compare the names with DPDK's own.

/// Names of rx offloads, by the numbers of their bits; empty where there is none.
pub const RX: [&str; 21] = [
    "VLAN_STRIP",
    "IPV4_CKSUM",
    "UDP_CKSUM",
    "TCP_CKSUM",
    "TCP_LRO",
    "QINQ_STRIP",
    "OUTER_IPV4_CKSUM",
    "MACSEC_STRIP",
    "",
    "VLAN_FILTER",
    "VLAN_EXTEND",
    "",
    "",
    "SCATTER",
    "TIMESTAMP",
    "SECURITY",
    "KEEP_CRC",
    "SCTP_CKSUM",
    "OUTER_UDP_CKSUM",
    "RSS_HASH",
    "BUFFER_SPLIT",
];

/// Names of tx offloads, likewise.
pub const TX: [&str; 22] = [
    "VLAN_INSERT",
    "IPV4_CKSUM",
    "UDP_CKSUM",
    "TCP_CKSUM",
    "SCTP_CKSUM",
    "TCP_TSO",
    "UDP_TSO",
    "OUTER_IPV4_CKSUM",
    "QINQ_INSERT",
    "VXLAN_TNL_TSO",
    "GRE_TNL_TSO",
    "IPIP_TNL_TSO",
    "GENEVE_TNL_TSO",
    "MACSEC_INSERT",
    "MT_LOCKFREE",
    "MULTI_SEGS",
    "MBUF_FAST_FREE",
    "SECURITY",
    "UDP_TNL_TSO",
    "IP_TNL_TSO",
    "OUTER_UDP_CKSUM",
    "SEND_ON_TIMESTAMP",
];

/// Names of the bits that are set, of `names`; a bit without a name is shown by its number.
#[must_use]
pub fn named(bits: u64, names: &[&str]) -> Vec<String> {
    let set = (0..u64::BITS as usize).filter(|bit| bits >> bit & 1 == 1);
    let name = |bit: usize| match names.get(bit) {
        Some(&name) if !name.is_empty() => name.to_owned(),
        _ => format!("bit {bit}"),
    };
    set.map(name).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn set_bits_have_names() {
        assert_eq!(named(0, &RX), [""; 0]);
        assert_eq!(named(1 << 13 | 2, &RX), ["IPV4_CKSUM", "SCATTER"]);
        assert_eq!(named(1 << 15 | 1 << 63, &TX), ["MULTI_SEGS", "bit 63"]);
    }
}
