use super::*;
use proptest::prelude::*;

fn geometry() -> impl Strategy<Value = Geometry> {
    (
        1u16..=64,
        6u32..=22,
        6u32..=22,
        64u32..=1 << 24,
        1u32..=1 << 17,
        0u16..=64,
        16u32..=1 << 26,
        16u32..=1 << 26,
    )
        .prop_map(
            |(workers, commands, replies, journal_records, slots, links, flows, flows_v6)| {
                Geometry {
                    workers,
                    command_records: 1 << commands,
                    reply_records: 1 << replies,
                    journal_records,
                    service_slots: slots * 8,
                    links,
                    flows,
                    flows_v6,
                }
            },
        )
}

proptest! {
    #[test]
    fn sections_are_apart_aligned_and_inside(geometry in geometry()) {
        let layout = Layout::new(&geometry).unwrap();
        let totals = [layout.total(), layout.control_total()];
        for (is_control, total) in [false, true].into_iter().zip(totals) {
            let mut end = 0;
            for section in Section::ALL {
                if section.is_control() != is_control {
                    continue;
                }
                let bytes = layout.bytes(section);
                prop_assert!(bytes.start >= end && bytes.start.is_multiple_of(64));
                if section.is_flow_table() {
                    prop_assert_eq!(bytes.start % (2 << 20), 0);
                }
                end = bytes.end;
            }
            prop_assert!(total >= end && total.is_multiple_of(2 << 20));
        }
        prop_assert!(
            layout.lines(Section::FlowEntriesV4) == 16 * layout.lines(Section::FlowBucketsV4)
        );
    }

    #[test]
    fn another_geometry_has_another_digest(left in geometry(), right in geometry()) {
        let digest = |geometry| Layout::new(&geometry).unwrap().digest();
        prop_assert_eq!(digest(left) == digest(right), left == right);
    }
}

#[test]
fn usual_geometries_are_valid_and_bad_ones_name_their_rule() {
    let usual = Geometry::new(4, 2, 1 << 20, 1 << 18);
    assert!(Layout::new(&usual).unwrap().total() < 1 << 30);
    assert!(
        Layout::new(&Geometry::new(1, 0, 1024, 1024))
            .unwrap()
            .total()
            < 32 << 20
    );
    let bad = Geometry {
        command_records: 100,
        ..usual
    };
    assert!(Layout::new(&bad).unwrap_err().contains("power of two"));
    let bad = Geometry {
        workers: 0,
        ..usual
    };
    assert_eq!(Layout::new(&bad), Err("1 to 64 workers"));
}
