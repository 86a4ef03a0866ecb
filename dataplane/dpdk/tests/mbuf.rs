//! Packet buffers against the contract of `packet::Buffer`, and pools that run dry.
#![allow(clippy::unwrap_used)]

mod common;

use common::{config, pool};
use dpdk::{Eal, Mempool};
use packet::memory::HeapBuffer;
use packet::{Buffer, Burst, Pool};

#[test]
fn mbufs_keep_the_contract_of_buffers_and_come_home() {
    let eal = Eal::init(&config(false)).unwrap();
    let mempool = pool(&eal, "frames");
    an_mbuf_behaves_as_a_heap_buffer_does(&mempool);
    an_exhausted_pool_says_so(&eal);
    assert_eq!(mempool.available(), mempool.count());
}

/// The same random operations on both kinds of buffer, from fresh to exhausted and back.
fn an_mbuf_behaves_as_a_heap_buffer_does(mempool: &Mempool) {
    let mut local = mempool.local();
    let mut mbuf = local.alloc().unwrap();
    let mut heap = HeapBuffer::with_capacity(2048);
    assert_eq!((mbuf.headroom(), mbuf.tailroom()), (128, 2048));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut refused = [0; 3];
    for step in 0..20_000 {
        // xorshift64: any sequence will do, as long as it is the same every time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let count = (state >> 8) as usize % if state & 64 == 0 { 64 } else { 2400 };
        let operation = (state >> 3) as usize % 3;
        let old = heap.bytes().len();
        let (ours, theirs) = match operation {
            0 => (mbuf.grow_front(count), heap.grow_front(count)),
            1 => (mbuf.trim_front(count), heap.trim_front(count)),
            _ => (mbuf.set_len(count), heap.set_len(count)),
        };
        assert_eq!(
            ours, theirs,
            "step {step}: operation {operation} by {count}"
        );
        assert_eq!(mbuf.bytes().len(), heap.bytes().len(), "step {step}");
        refused[operation] += usize::from(!ours);
        let new = mbuf.bytes().len();
        // Added bytes have unspecified content: give them one.
        if operation == 0 && new > old {
            mbuf.bytes_mut()[..new - old].fill(step as u8);
            heap.bytes_mut()[..new - old].fill(step as u8);
        } else if operation == 2 && new > old {
            mbuf.bytes_mut()[old..].fill(step as u8);
            heap.bytes_mut()[old..].fill(step as u8);
        }
        assert_eq!(mbuf.bytes(), heap.bytes(), "step {step}");
        assert_eq!(mbuf.headroom() + new + mbuf.tailroom(), 2176);
    }
    assert!(
        refused.iter().all(|&count| count > 100),
        "limits were hit: {refused:?}"
    );
    for absurd in [
        usize::MAX,
        usize::MAX - 1,
        1 << 16,
        1 << 32,
        isize::MAX as usize,
    ] {
        assert!(!mbuf.grow_front(absurd));
        assert!(!mbuf.trim_front(absurd));
        assert!(!mbuf.set_len(absurd));
    }
    assert_eq!(mbuf.bytes(), heap.bytes());
}

fn an_exhausted_pool_says_so(eal: &Eal) {
    let small = Mempool::new(eal, "small", 63, 2176, 0).unwrap();
    let mut local = small.local();
    let mut all = Vec::new();
    while let Some(mbuf) = local.alloc() {
        all.push(mbuf);
    }
    assert_eq!((all.len(), small.available()), (63, 0));
    let mut frames = Burst::new();
    all.truncate(32 + 31);
    drop(all.split_off(32));
    assert_eq!(
        local.alloc_burst(&mut frames),
        0,
        "31 are left: all or none"
    );
    all.pop();
    assert_eq!(local.alloc_burst(&mut frames), 32);
}
