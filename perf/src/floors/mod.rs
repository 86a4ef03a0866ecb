//! What the same machine does at best, in the same run: the same frames, links and table sizes with
//! less work done.
//!
//! | floor | a packet costs |
//! |---|---|
//! | `rx_tx` | receiving, sending, moving its pointer: the loop itself |
//! | `nat` | also rewriting it in place by one fixed translation |
//! | `staged_nat` | also finding its translation in a table of tag buckets and entries, staged: no checks, no counters, no state |
//! | `one_line_nat` | the same in a table without tags, where most entries are found at once |
//! | `rte_hash_bulk` | nothing; its tuple is looked up in DPDK's own hash table, 32 in a call |
//! | `random_read` | nothing; a read of a random line of that table, prefetched in batches of 32 |
//! | `random_read_alone` | the same, each waiting for the one before |
//! | `testpmd_5tswap`, `testpmd_csum` | DPDK's own test program on a net_ring of its own |

mod entries;
pub mod hash;
pub mod nat;
pub mod one_line;
pub mod reads;
pub mod staged;
pub mod testpmd;
