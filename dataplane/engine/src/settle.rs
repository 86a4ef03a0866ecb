//! The counters of a gateway whose data plane was killed, made even again.

use crate::counters::{Counters, Total};
use crate::reason::Reason;

/// Books what a process that was killed left open, in the counters of all its workers and of its main core, the last: frames that
/// one had in hand, or that were on their way from one to another, are drops ([`Reason::Restart`]). Only while no worker runs.
pub fn settle(all: &[Counters]) {
    let sum = |total| -> u64 { all.iter().map(|counters| counters.total(total)).sum() };
    let mut uncounted = sum(Total::TakenOver).saturating_sub(sum(Total::HandedOver));
    // Who handed these over was killed before it counted them; so it has them open.
    for counters in all {
        let own = counters.open().min(uncounted);
        counters.add(Total::HandedOver, own);
        uncounted -= own;
    }
    all.iter().for_each(Counters::settle);
    let on_their_way = sum(Total::HandedOver).saturating_sub(sum(Total::TakenOver));
    if let Some(main_core) = all.last() {
        lose(main_core, on_their_way);
    }
}

/// Counts frames that were handed over and that nobody takes any more.
pub fn lose(counters: &Counters, frames: u64) {
    counters.add(Total::TakenOver, frames);
    counters.drop_many(Reason::Restart, frames);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn balance(all: &[Counters]) {
        let sum = |total| -> u64 { all.iter().map(|counters| counters.total(total)).sum() };
        assert!(all.iter().all(|counters| counters.open() == 0));
        assert_eq!(sum(Total::HandedOver), sum(Total::TakenOver));
        let drops = all.iter().map(|each| each.drops(Reason::Restart));
        assert_eq!(
            sum(Total::Received),
            sum(Total::Sent) + drops.sum::<u64>(),
            "every frame is sent or dropped, once"
        );
    }

    #[test]
    fn frames_in_rings_and_in_hand_are_dropped_once() {
        let all: Vec<_> = (0..3).map(|_| Counters::heap(1)).collect();
        all[0].add(Total::Received, 100);
        all[0].add(Total::HandedOver, 60);
        all[0].add(Total::Sent, 35);
        all[1].add(Total::TakenOver, 40);
        all[1].add(Total::Sent, 38);
        settle(&all);
        balance(&all);
        let drops = |at: usize| all[at].drops(Reason::Restart);
        assert_eq!([drops(0), drops(1), drops(2)], [5, 2, 20]);
    }

    proptest! {
        /// Worker 0 receives and hands over, worker 1 takes and sends; each may die before any count.
        #[test]
        fn a_kill_between_any_two_counts_leaves_the_books_even(
            received in 0u64..100, to_be_handed: u64, to_be_taken: u64, to_be_sent: u64, is_counted: bool,
        ) {
            let all: Vec<_> = (0..3).map(|_| Counters::heap(1)).collect();
            let handed = to_be_handed % (received + 1);
            let taken = to_be_taken % (handed + 1);
            all[0].add(Total::Received, received);
            if is_counted {
                all[0].add(Total::HandedOver, handed);
            }
            all[1].add(Total::TakenOver, taken);
            all[1].add(Total::Sent, to_be_sent % (taken + 1));
            settle(&all);
            balance(&all);
        }
    }
}
