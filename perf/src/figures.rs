//! The table of figures: what is measured for it, and what was asked for.

use crate::record::Record;

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// In records.
    pub id: &'static str,
    /// For people.
    pub title: &'static str,
    /// Arguments of `perf engine`.
    pub arguments: &'static str,
    /// What was asked for.
    pub limit: Limit,
}

/// An upper bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// None; the figure is there to be compared with.
    None,
    /// Nanoseconds a packet.
    Nanos(f64),
    /// Nanoseconds, and times a floor of the same run.
    NanosAndFloor(f64, &'static str, f64),
    /// Times another figure.
    Times(f64, &'static str),
}

const MILLION: &str = "--flows 1000000 --capacity 1048576";

/// All rows, in order. Those that others are compared with come first.
#[must_use]
pub fn all() -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut add = |id, title, arguments, limit| {
        figures.push(Figure {
            id,
            title,
            arguments,
            limit,
        });
    };
    add(
        "established-v4-1k",
        "established, IPv4, 1,000 flows",
        "--flows 1000",
        Limit::NanosAndFloor(12.0, "testpmd_5tswap", 1.7),
    );
    add(
        "established-v4-1k-many",
        "the same, 32,768 buffers in turn",
        "--flows 1000 --mbufs 32768",
        Limit::None,
    );
    add(
        "established-v4-65k",
        "established, IPv4, 65,536 flows",
        "--flows 65536",
        Limit::Nanos(16.0),
    );
    add(
        "established-v4-65k-many",
        "the same, 32,768 buffers in turn",
        "--flows 65536 --mbufs 32768",
        Limit::None,
    );
    add(
        "established-v4-1m",
        "established, IPv4, 1,000,000 flows",
        MILLION,
        Limit::Nanos(30.0),
    );
    add(
        "established-v4-1m-many",
        "the same, 32,768 buffers in turn",
        "--flows 1000000 --capacity 1048576 --mbufs 32768",
        Limit::None,
    );
    add(
        "established-v4-4m",
        "established, IPv4, 4,000,000 flows",
        "--flows 4000000 --capacity 4194304",
        Limit::Nanos(32.0),
    );
    add(
        "established-v6-1k",
        "established, IPv6, 1,000 flows",
        "--flows 1000 --family 6",
        Limit::Times(1.5, "established-v4-1k"),
    );
    add(
        "established-v6-65k",
        "established, IPv6, 65,536 flows",
        "--flows 65536 --family 6",
        Limit::Times(1.5, "established-v4-65k"),
    );
    add(
        "established-v6-1m",
        "established, IPv6, 1,000,000 flows",
        "--flows 1000000 --capacity 1048576 --family 6",
        Limit::Times(1.5, "established-v4-1m"),
    );
    add(
        "established-10k-services",
        "established, IPv4, 65,536 flows to 10,000 services",
        "--flows 65536 --services 10000",
        Limit::Times(1.1, "established-v4-65k"),
    );
    add(
        "established-250k-endpoints",
        "established, IPv4, 65,536 flows to 250,000 endpoints of 10,000 services",
        "--flows 65536 --services 10000 --endpoints 25",
        Limit::Times(1.1, "established-v4-65k"),
    );
    add(
        "established-two-workers",
        "established, IPv4, 65,536 flows, two workers: between two packets of both",
        "--flows 65536 --workers 2",
        Limit::Times(1.0 / 1.8, "established-v4-65k"),
    );
    add(
        "established-bursts-of-one",
        "established, IPv4, 1,000 flows, bursts of one",
        "--flows 1000 --burst 1",
        Limit::Nanos(60.0),
    );
    add(
        "new-v4-65k",
        "new flow, IPv4, 65,536 in the table",
        "--scenario new --flows 65536",
        Limit::Nanos(150.0),
    );
    add(
        "new-v4-65k-many",
        "the same, 32,768 buffers in turn",
        "--scenario new --flows 65536 --mbufs 32768",
        Limit::None,
    );
    add(
        "new-v4-1m",
        "new flow, IPv4, 1,000,000 in the table",
        "--scenario new --flows 1000000 --capacity 1048576",
        Limit::Nanos(150.0),
    );
    add(
        "new-v6-65k",
        "new flow, IPv6, 65,536 in the table",
        "--scenario new --flows 65536 --family 6",
        Limit::Times(1.5, "new-v4-65k"),
    );
    add(
        "refused-v4",
        "SYN refused (no endpoint), IPv4",
        "--scenario flood --flows 65536",
        Limit::Nanos(60.0),
    );
    add(
        "refused-v6",
        "SYN refused (no endpoint), IPv6",
        "--scenario flood --flows 65536 --family 6",
        Limit::Times(1.5, "refused-v4"),
    );
    add(
        "refused-full-v4",
        "SYN refused (table full of established flows), IPv4",
        "--scenario flood --flood table-full --flows 65536",
        Limit::Nanos(60.0),
    );
    figures
}

impl Limit {
    /// Nanoseconds that this comes to for `record`, of a set in which `others` finds figures by their id.
    pub fn nanos<'a>(
        self,
        record: &Record,
        others: impl Fn(&str) -> Option<&'a Record>,
    ) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Nanos(nanos) => Some(nanos),
            Self::NanosAndFloor(nanos, floor, times) => {
                let floor = record.floors.get(floor).map(|floor| floor * times);
                Some(floor.map_or(nanos, |floor| floor.min(nanos)))
            }
            Self::Times(times, id) => Some(others(id)?.ns_per_packet * times),
        }
    }

    /// For people.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::None => String::new(),
            Self::Nanos(nanos) => format!("≤ {nanos}"),
            Self::NanosAndFloor(nanos, floor, times) => format!("≤ {nanos}, ≤ {times} × {floor}"),
            Self::Times(times, id) => {
                let title = all().into_iter().find(|figure| figure.id == id);
                let times = (times * 100.0).round() / 100.0;
                format!("≤ {times} × “{}”", title.map_or(id, |figure| figure.title))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;
    use crate::engine::Options;
    use crate::engine::options::Plan;

    #[derive(Parser)]
    struct Engine {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn every_row_can_be_measured_and_is_compared_with_an_earlier_one() {
        let mut before = BTreeSet::new();
        for figure in all() {
            let arguments = figure.arguments.split_whitespace();
            let parsed = Engine::try_parse_from(std::iter::once("engine").chain(arguments));
            let options = parsed.map(|engine| engine.options).unwrap();
            assert!(Plan::new(&options).is_ok(), "{}", figure.id);
            if let Limit::Times(_, other) = figure.limit {
                assert!(before.contains(other), "{}", figure.id);
            }
            assert!(before.insert(figure.id), "{} is there twice", figure.id);
        }
    }
}
