//! `portgate links`.

use std::io::Write;

use engine::counters::LinkCounter;
use hugepages::{LinkInfo, Region};
use portgate_controlplane::observe::AllCounters;
use serde_json::{Value, json};
use settings::Settings;

use crate::failure::Failure;
use crate::observe;
use crate::table::Table;

/// Shows the links.
pub(crate) fn run(settings: &Settings, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let region = observe::open(settings)?;
    let counters = AllCounters::of(&region);
    let links = links(&region);
    if json {
        let links = links
            .iter()
            .map(|(at, info)| document(*at, info, &counters));
        writeln!(out, "{}", json!({"links": links.collect::<Vec<_>>()}))?;
        return Ok(());
    }
    let mut table = Table::new(&[
        "LINK",
        "STATE",
        "DEVICE",
        "DRIVER",
        "MAC",
        ">MTU",
        ">VLAN",
        ">SPEED",
        ">RX FRAMES",
        ">RX BYTES",
        ">TX FRAMES",
        ">TX BYTES",
        ">DROPPED",
        ">MISSED",
    ]);
    for (at, info) in &links {
        table.push(row(*at, info, &counters));
    }
    table.flush(out)?;
    for (at, info) in &links {
        for note in notes(*at, info, &counters) {
            writeln!(out, "{}: {note}", info.name)?;
        }
    }
    Ok(())
}

/// The links that have a description, by their number.
fn links(region: &Region) -> Vec<(usize, LinkInfo)> {
    let read = |at: u16| Some((usize::from(at), LinkInfo::read(&region.link(at))?));
    (0..region.geometry().links).filter_map(read).collect()
}

fn row(at: usize, info: &LinkInfo, counters: &AllCounters) -> Vec<String> {
    let count = |counter| counters.link(at, counter).to_string();
    let dropped = [
        LinkCounter::Dropped,
        LinkCounter::Truncated,
        LinkCounter::UnfinishedChecksums,
    ]
    .map(|counter| counters.link(at, counter));
    vec![
        info.name.clone(),
        if info.up { "up" } else { "down" }.to_owned(),
        info.device.clone(),
        info.driver.clone(),
        mac(info.mac),
        info.mtu.to_string(),
        info.vlan
            .map_or_else(|| "-".to_owned(), |id| id.to_string()),
        speed(info.speed_mbps),
        count(LinkCounter::RxFrames),
        count(LinkCounter::RxBytes),
        count(LinkCounter::TxFrames),
        count(LinkCounter::TxBytes),
        dropped.iter().sum::<u64>().to_string(),
        info.missed.to_string(),
    ]
}

fn document(at: usize, info: &LinkInfo, counters: &AllCounters) -> Value {
    let mut link = json!({
        "name": info.name,
        "device": info.device,
        "driver": info.driver,
        "mac": mac(info.mac),
        "mtu": info.mtu,
        "vlan": info.vlan,
        "up": info.up,
        "speed_mbps": (info.speed_mbps > 0).then_some(info.speed_mbps),
        "missed": info.missed,
        "notes": notes(at, info, counters),
    });
    for (counter, name) in LinkCounter::ALL {
        link[name] = counters.link(at, counter).into();
    }
    link
}

/// What is wrong with a link, and what to do about it.
fn notes(at: usize, info: &LinkInfo, counters: &AllCounters) -> Vec<String> {
    let mut notes = Vec::new();
    if !info.up {
        notes.push("the link is down".to_owned());
    }
    let unfinished = counters.link(at, LinkCounter::UnfinishedChecksums);
    if unfinished > 0 {
        notes.push(format!(
            "{unfinished} first frames had an unfinished checksum: a sender leaves checksums to \
             hardware that is not there; turn that off at the other end (ethtool -K INTERFACE tx \
             off) or use af_xdp"
        ));
    }
    let truncated = counters.link(at, LinkCounter::Truncated);
    if truncated > 0 {
        notes.push(format!(
            "{truncated} frames were cut short: they are longer than the MTU {} allows; turn off \
             gro, gso and tso at both ends (ethtool -K INTERFACE gro off gso off tso off)",
            info.mtu
        ));
    }
    if info.missed > 0 {
        notes.push(format!(
            "{} frames came while the device had no room for them: the workers are too slow, or \
             too few",
            info.missed
        ));
    }
    notes
}

fn mac(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

fn speed(mbps: u32) -> String {
    match mbps {
        0 => "-".to_owned(),
        _ if mbps.is_multiple_of(1000) => format!("{} Gbit/s", mbps / 1000),
        _ => format!("{mbps} Mbit/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_and_macs_are_written_as_people_do() {
        assert_eq!(speed(0), "-");
        assert_eq!(speed(100), "100 Mbit/s");
        assert_eq!(speed(2500), "2500 Mbit/s");
        assert_eq!(speed(25_000), "25 Gbit/s");
        assert_eq!(mac([2, 0, 0xab, 0, 0, 1]), "02:00:ab:00:00:01");
    }
}
