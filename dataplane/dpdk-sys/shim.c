#include "shim.h"

#include <stddef.h>
#include <stdio.h>

/* The flat mirror of the mbuf in src/lib.rs relies on these; a DPDK that moves a field must fail
 * here, not corrupt frames. */
#define MBUF_FIELD_AT(field, offset) \
	_Static_assert(offsetof(struct rte_mbuf, field) == (offset), "rte_mbuf." #field " has moved")

MBUF_FIELD_AT(buf_addr, 0);
#if RTE_IOVA_AS_PA || defined(RTE_IOVA_IN_MBUF) && RTE_IOVA_IN_MBUF
MBUF_FIELD_AT(buf_iova, 8);
#endif
MBUF_FIELD_AT(data_off, 16);
MBUF_FIELD_AT(refcnt, 18);
MBUF_FIELD_AT(nb_segs, 20);
MBUF_FIELD_AT(port, 22);
MBUF_FIELD_AT(ol_flags, 24);
MBUF_FIELD_AT(packet_type, 32);
MBUF_FIELD_AT(pkt_len, 36);
MBUF_FIELD_AT(data_len, 40);
MBUF_FIELD_AT(vlan_tci, 42);
MBUF_FIELD_AT(hash, 44);
MBUF_FIELD_AT(vlan_tci_outer, 52);
MBUF_FIELD_AT(buf_len, 54);
MBUF_FIELD_AT(pool, 56);
_Static_assert(sizeof(struct rte_mbuf) == 128, "rte_mbuf is not two cache lines");
_Static_assert(sizeof(((struct rte_mbuf *)0)->data_off) == 2, "rte_mbuf.data_off is not 16 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->pkt_len) == 4, "rte_mbuf.pkt_len is not 32 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->data_len) == 2, "rte_mbuf.data_len is not 16 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->nb_segs) == 2, "rte_mbuf.nb_segs is not 16 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->buf_len) == 2, "rte_mbuf.buf_len is not 16 bits");
_Static_assert(sizeof(struct rte_ether_addr) == 6, "rte_ether_addr is not six bytes");

const uint64_t shim_rss_flows =
	RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_SCTP;

const uint32_t shim_lcore_id_any = LCORE_ID_ANY;

int shim_errno(void) { return rte_errno; }

unsigned int shim_lcore_id(void) { return rte_lcore_id(); }

const char *shim_version(void) { return rte_version(); }

int shim_log_to_stderr(void) { return rte_openlog_stream(stderr); }

struct rte_mbuf *shim_pktmbuf_alloc(struct rte_mempool *pool) { return rte_pktmbuf_alloc(pool); }

int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void shim_pktmbuf_free(struct rte_mbuf *mbuf) { rte_pktmbuf_free(mbuf); }

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

int shim_link_get_nowait(uint16_t port, uint32_t *speed, bool *up)
{
	struct rte_eth_link link = {0};
	int result = rte_eth_link_get_nowait(port, &link);

	*speed = link.link_speed;
	*up = link.link_status == RTE_ETH_LINK_UP;
	return result;
}
