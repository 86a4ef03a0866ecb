//! Test traffic: what is sent, by whom, when, and what is counted where it arrives.
//!
//! | module | |
//! |---|---|
//! | [`trial`], [`progress`] | a run with both ends; what is shown of it |
//! | [`client`], [`server`] | the two ends, each on its link |
//! | [`connections`], [`station`] | TCP as the client sees it; ARP and neighbour discovery |
//! | [`tally`] | the receiver's account |
//! | [`flows`], [`choice`], [`pace`] | who, which and how large, when |
//! | [`writer`], [`payload`], [`outbox`] | frames |
//!
//! Both ends are generic over the link, so that tests run them in memory and everything else over
//! DPDK.

pub mod choice;
pub mod client;
pub mod connections;
pub mod flows;
pub mod outbox;
pub mod pace;
pub mod payload;
pub mod progress;
pub mod server;
pub mod station;
pub mod tally;
pub mod trial;
pub mod writer;
