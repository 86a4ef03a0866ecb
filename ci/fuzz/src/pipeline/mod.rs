//! The whole packet path, driven by a script: several frames, workers, links, time, changes of what is
//! installed.
//!
//! An input is a list of steps, each a byte that says which and bytes that say how ([`script`]).
//! Frames are free bytes, or such as clients, pods and routers send, or answers to what the gateway has
//! sent, cut, corrupted, repeated. Checksums are put right unless the input says otherwise, or nothing would get
//! past the first check.
//!
//! After each step:
//!
//! * received + originated = sent + drops + waiting, and received is what was given;
//! * what leaves is a whole frame of the link: its MAC address, VLAN and MTU, a right IPv4 header
//!   checksum, and no more wrong transport checksums than came in;
//!
//! and at the end: no two flows share a reply tuple, the reply of a translation is its inverse, flows made =
//! flows removed + flows there, and nothing waits for ever.
//!
//! A gateway serves many inputs ([`chain`]): it is left without flows and with its neighbours known, but not as new.

pub mod chain;
pub mod frame;
pub mod gateway;
pub mod script;
pub mod world;

use std::cell::RefCell;

use chain::Chain;
use gateway::Gateway;

/// Inputs that a gateway serves.
const LIFE: usize = 1000;

thread_local! {
    static CHAIN: RefCell<Chain> = const { RefCell::new(Chain::new(LIFE, Gateway::new, serve)) };
}

/// Runs an input, or a file of several.
pub fn run(bytes: &[u8]) {
    CHAIN.with_borrow_mut(|chain| chain.run(bytes));
}

fn serve(gateway: &mut Gateway, bytes: &[u8]) {
    script::run(gateway, bytes);
    gateway.settle();
}
