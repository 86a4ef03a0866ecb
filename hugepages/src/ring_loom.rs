//! Every interleaving of a producer and a consumer on a ring of one slot.
//!
//! Run: `RUSTFLAGS="--cfg loom" cargo test -p hugepages --lib loom_ --release`
//!
//! Each of these changes, made one at a time, makes it fail: the producer's tail store Relaxed, the
//! consumer's tail load Relaxed, the consumer's head stored before the words are copied. Weakening
//! the head's pair is not seen: the model never lets a load return a value that is stored later,
//! which is just what that pair forbids the processor to do.

use loom::thread;

use super::*;
use crate::record::{BODY, RecordKind, record};

fn numbered(number: u8) -> Record {
    record(RecordKind::Begin, u64::from(number), &[number; BODY])
}

fn model(start: u64, check: impl Fn(Producer, Consumer) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let memory = Memory::heap(1);
        memory.sent[0].0[0].store(start, Ordering::Relaxed);
        memory.read[0].0[0].store(start, Ordering::Relaxed);
        let producer = Producer::attach(memory.clone()).unwrap();
        let consumer = Consumer::attach(memory).unwrap();
        check(producer, consumer);
    });
}

#[test]
fn loom_records_arrive_whole_and_in_order() {
    model(u64::MAX, |mut producer, mut consumer| {
        let sender = thread::spawn(move || {
            for number in 1..=2 {
                while producer.push_all(&[numbered(number)]) == 0 {
                    thread::yield_now();
                }
            }
        });
        for number in 1..=2 {
            let record = loop {
                match consumer.pop().unwrap() {
                    Some(record) => break record,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(record, numbered(number));
        }
        sender.join().unwrap();
        assert_eq!(consumer.pop(), Ok(None));
    });
}
