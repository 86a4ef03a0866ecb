use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::record::{RecordKind, record};

fn numbered(number: u64) -> Record {
    record(
        RecordKind::Begin,
        number,
        &[number as u8; crate::record::BODY],
    )
}

fn ring(records: usize, start: u64) -> (Producer, Consumer, Memory) {
    let memory = Memory::heap(records);
    memory.sent[0].0[0].store(start, Ordering::Relaxed);
    memory.read[0].0[0].store(start, Ordering::Relaxed);
    let producer = Producer::attach(memory.clone()).unwrap();
    let consumer = Consumer::attach(memory.clone()).unwrap();
    (producer, consumer, memory)
}

proptest! {
    /// Any number of pushes, pops and restarts of either side, across the wrap of the positions:
    /// what comes out is what went in.
    #[test]
    fn agrees_with_a_queue(
        power in 0u32..5,
        before_wrap in 0u64..40,
        steps in prop::collection::vec((0u8..4, 0usize..20), 0..100),
    ) {
        let (mut producer, mut consumer, memory) = ring(1 << power, 0u64.wrapping_sub(before_wrap));
        let mut queue = VecDeque::new();
        let mut next = 0;
        for (step, count) in steps {
            match step {
                0 => {
                    let records: Vec<_> = (next..).take(count).map(numbered).collect();
                    let fitted = producer.push_all(&records);
                    prop_assert_eq!(fitted, count.min((1 << power) - queue.len()));
                    queue.extend(next..next + fitted as u64);
                    next += fitted as u64;
                }
                1 => for _ in 0..count {
                    prop_assert_eq!(consumer.pop(), Ok(queue.pop_front().map(numbered)));
                },
                2 => producer = Producer::attach(memory.clone()).unwrap(),
                _ => consumer = Consumer::attach(memory.clone()).unwrap(),
            }
            prop_assert_eq!(consumer.waiting(), Ok(queue.len()));
        }
    }
}

#[test]
fn an_impossible_tail_is_an_error_until_cleared() {
    let (mut producer, mut consumer, memory) = ring(4, 0);
    producer.push_all(&[numbered(1)]);
    memory.sent[0].0[0].store(5, Ordering::Relaxed);
    let overrun = RingError::Overrun(Overrun {
        used: 5,
        capacity: 4,
    });
    assert_eq!(consumer.pop(), Err(overrun));
    assert_eq!(consumer.pop(), Err(overrun), "an error consumes nothing");
    consumer.clear();
    assert_eq!(consumer.pop(), Ok(None));
    let mut producer = Producer::attach(memory).unwrap();
    assert_eq!(producer.push_all(&[numbered(2)]), 1);
    assert_eq!(consumer.pop(), Ok(Some(numbered(2))));
}

#[test]
fn an_impossible_head_is_no_room() {
    let (mut producer, _, memory) = ring(4, 0);
    memory.read[0].0[0].store(1, Ordering::Relaxed);
    assert_eq!(producer.push_all(&[numbered(1)]), 0);
    assert!(matches!(producer.room(), Err(RingError::Overrun(_))));
}

#[test]
fn memory_of_another_size_is_no_ring() {
    for bad in [0, 1, 2, 4, lines(3), lines(4) + 1] {
        let memory = Memory {
            sent: Slab::heap(bad),
            read: Slab::heap(READER_LINES),
        };
        assert!(
            matches!(Consumer::attach(memory), Err(RingError::Size { lines }) if lines == bad),
            "{bad} lines"
        );
    }
    let without_reader = Memory {
        read: Slab::heap(0),
        ..Memory::heap(8)
    };
    assert!(Producer::attach(without_reader).is_err());
    assert_eq!(Producer::attach(Memory::heap(8)).unwrap().capacity(), 8);
}

#[test]
fn two_threads_lose_and_change_nothing() {
    const RECORDS: u64 = 100_000;
    let (mut producer, mut consumer, _) = ring(16, u64::MAX - 7);
    let sender = std::thread::spawn(move || {
        let mut next = 0;
        while next < RECORDS {
            let batch: Vec<_> = (next..RECORDS.min(next + 5)).map(numbered).collect();
            match producer.push_all(&batch) {
                0 => std::thread::yield_now(),
                sent => next += sent as u64,
            }
        }
    });
    let mut expected = 0;
    while expected < RECORDS {
        match consumer.pop().unwrap() {
            Some(record) => {
                assert_eq!(record, numbered(expected));
                expected += 1;
            }
            None => std::thread::yield_now(),
        }
    }
    sender.join().unwrap();
    assert_eq!(consumer.pop(), Ok(None));
}
