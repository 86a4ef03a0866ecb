/* Everything the bindings are generated from: DPDK's headers, and plain functions around what its
 * headers offer only as inline functions, macros, thread-local variables or changing structs. */
#ifndef PORTGATE_DPDK_SHIM_H
#define PORTGATE_DPDK_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_alarm.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_hash.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* RTE_ETH_RSS_IP | _TCP | _UDP | _SCTP: made of RTE_BIT64, which bindgen does not evaluate. */
extern const uint64_t shim_rss_flows;

/* LCORE_ID_ANY: a cast in the headers. */
extern const uint32_t shim_lcore_id_any;

int shim_errno(void);
unsigned int shim_lcore_id(void);
const char *shim_version(void);
int shim_log_to_stderr(void);

struct rte_mbuf *shim_pktmbuf_alloc(struct rte_mempool *pool);
int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);
void shim_pktmbuf_free(struct rte_mbuf *mbuf);

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

/* rte_eth_link is a struct of bit-fields or a union, depending on the version. Speed in Mbit/s. */
int shim_link_get_nowait(uint16_t port, uint32_t *speed, bool *up);

#endif
