//! One frame of any bytes at a time, through a gateway with flows: the shortest way to its parsers.
//!
//! What [`crate::pipeline`] says of each step holds here too. Nothing is tidied up between inputs, so that an
//! input costs little more than its frame's way.

use std::cell::RefCell;

use packet::Burst;

use crate::checksum;
use crate::input::Input;
use crate::pipeline::chain::Chain;
use crate::pipeline::frame::Frame;
use crate::pipeline::gateway::{Gateway, WORKERS};
use crate::pipeline::{script, world};

/// Inputs that a gateway serves.
const LIFE: usize = 20_000;

/// Steps of [`script`]: a request, an answer to what the gateway sent to the pods.
const REQUEST: u8 = 0;
const ANSWER: u8 = 3;
const PODS: u8 = 1;

thread_local! {
    static CHAIN: RefCell<Chain> = const { RefCell::new(Chain::new(LIFE, open, serve)) };
}

/// Runs an input, or a file of several: a byte that says how, then the frame.
pub fn run(bytes: &[u8]) {
    CHAIN.with_borrow_mut(|chain| chain.run(bytes));
}

/// A gateway with a flow of most services, some of them answered.
fn open() -> Gateway {
    let mut gateway = Gateway::new();
    for family in [0, 0x80] {
        for service in 0..world::SERVICES as u8 {
            let syn = packet::tcp::SYN;
            let steps = [REQUEST, family, service, syn, 8, ANSWER, PODS, 0xc0];
            script::run(&mut gateway, &steps);
        }
    }
    gateway
}

/// Bits 0–1 of the first byte: link; bit 2: worker; bit 3: checksums are put right; bit 4: a second passes.
fn serve(gateway: &mut Gateway, bytes: &[u8]) {
    let mut input = Input(bytes);
    let how = input.byte();
    let (link, worker) = (usize::from(how & 3) % 3, usize::from(how >> 2 & 1));
    let mut frame = Frame::new(input.0, 128, true);
    if how & 8 != 0 {
        checksum::set(packet::Buffer::bytes_mut(&mut frame));
    }
    let mut burst = Burst::new();
    burst.push(frame);
    gateway.put(worker % WORKERS, link, &mut burst);
    if how & 0x10 != 0 {
        gateway.second += 1;
        gateway.upkeep(worker % WORKERS, 1);
    }
}
