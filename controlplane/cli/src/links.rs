//! `portgate links`.

use std::io::Write;

use engine::counters::LinkCounter;
use hugepages::{FanOut, LinkInfo, offloads};
use portgate_controlplane::observe::{AllCounters, links};
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
    ]);
    for (at, info) in &links {
        table.push(row(*at, info, &counters));
    }
    table.flush(out)?;
    writeln!(out)?;
    devices(&links, out)?;
    writeln!(out)?;
    for (_, info) in &links {
        let found = |bits, names: &[&str]| match offloads::named(bits, names).join(" ") {
            none if none.is_empty() => "none".to_owned(),
            found => found,
        };
        let rx = found(info.rx_offloads, &offloads::RX);
        let tx = found(info.tx_offloads, &offloads::TX);
        writeln!(
            out,
            "{}: offloads found: rx {rx}; tx {tx}; none is used",
            info.name
        )?;
    }
    for (at, info) in &links {
        for note in notes(*at, info, &counters) {
            writeln!(out, "{}: {note}", info.name)?;
        }
    }
    Ok(())
}

/// What each device is made of, and what went wrong there.
fn devices(links: &[(usize, LinkInfo)], out: &mut dyn Write) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "LINK",
        ">RX QUEUES",
        ">OF FRAMES",
        ">TX QUEUES",
        ">OF FRAMES",
        "RSS",
        "ALL MACS",
        ">RX ERRORS",
        ">TX ERRORS",
        ">NO BUFFER",
        ">MISSED",
    ]);
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    for (_, info) in links {
        let (queues, errors) = (info.queues, info.errors);
        table.push([
            info.name.clone(),
            queues.rx.to_string(),
            queues.rx_descriptors.to_string(),
            queues.tx.to_string(),
            queues.tx_descriptors.to_string(),
            yes(info.rss),
            yes(info.promiscuous),
            errors.rx.to_string(),
            errors.tx.to_string(),
            errors.no_buffer.to_string(),
            info.missed.to_string(),
        ]);
    }
    Ok(table.flush(out)?)
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
        "mtu_asked": info.mtu_asked,
        "interface_mtu": (info.interface_mtu > 0).then_some(info.interface_mtu),
        "rx_queues": info.queues.rx,
        "tx_queues": info.queues.tx,
        "rx_descriptors": info.queues.rx_descriptors,
        "tx_descriptors": info.queues.tx_descriptors,
        "rss": info.rss,
        "promiscuous": info.promiscuous,
        "fan_out": match info.fan_out {
            FanOut::Off => "off",
            FanOut::Auto => "auto",
            FanOut::Even => "even",
        },
        "rx_offloads_found": offloads::named(info.rx_offloads, &offloads::RX),
        "tx_offloads_found": offloads::named(info.tx_offloads, &offloads::TX),
        "rx_offloads_used": [],
        "tx_offloads_used": [],
        "missed": info.missed,
        "rx_errors": info.errors.rx,
        "tx_errors": info.errors.tx,
        "no_buffer": info.errors.no_buffer,
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
    let dealt_out = counters.link(at, LinkCounter::DealtOut);
    notes.extend(refused(at, info, counters.workers().len()));
    if dealt_out > 0 {
        notes.push(format!(
            "{dealt_out} frames went to a worker without an rx queue"
        ));
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
    let counted = [
        (
            info.missed,
            "frames came while the device had no room for them: the workers are too slow, or too few",
        ),
        (
            info.errors.rx,
            "frames came with errors: look at the cable and at the other end",
        ),
        (
            info.errors.tx,
            "frames could not be sent: the device refused them",
        ),
        (
            info.errors.no_buffer,
            "frames came while there was no buffer for them: raise region.packet_memory_mb",
        ),
    ];
    let counted = counted.iter().filter(|(count, _)| *count > 0);
    notes.extend(counted.map(|(count, what)| format!("{count} {what}")));
    notes
}

/// What was asked of the device and is not there.
fn refused(at: usize, info: &LinkInfo, workers: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let LinkInfo { mtu, mtu_asked, .. } = info;
    if mtu < mtu_asked {
        notes.push(format!(
            "the MTU is {mtu}, not the {mtu_asked} that links.mtu asks for: the device has no more"
        ));
    }
    let queues = |count: u16, direction: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!("the device has {count} {direction} queue{plural} for {workers} workers")
    };
    if usize::from(info.queues.rx) < workers {
        let who = info.dealing(at, workers);
        let who = who.unwrap_or_else(|| "the others receive nothing (links.fan_out)".to_owned());
        notes.push(format!("{}: {who}", queues(info.queues.rx, "rx")));
    }
    if usize::from(info.queues.tx) < workers {
        notes.push(format!(
            "{}: the others hand their frames to one that has one",
            queues(info.queues.tx, "tx")
        ));
    }
    if info.queues.rx > 1 && !info.rss && !info.device.starts_with("af_packet:") {
        notes.push(
            "the device does not spread flows over its rx queues (no RSS): one worker may do all the \
             work"
                .to_owned(),
        );
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
    fn what_the_device_did_not_grant_is_said() {
        let queues = hugepages::Queues {
            rx: 2,
            tx: 1,
            ..hugepages::Queues::default()
        };
        let mut info = LinkInfo {
            mtu: 1400,
            mtu_asked: 9000,
            queues,
            ..LinkInfo::default()
        };
        let notes = refused(0, &info, 2);
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(notes[0].contains("1400, not the 9000"), "{notes:?}");
        assert!(notes[1].contains("1 tx queue for 2 workers"), "{notes:?}");
        assert!(notes[2].contains("no RSS"), "{notes:?}");
        info.queues.rx = 1;
        info.fan_out = hugepages::FanOut::Auto;
        let notes = refused(1, &info, 2);
        let dealt = "1 rx queue for 2 workers: worker 0 gets frames from worker 1 by software";
        assert!(notes[1].contains(dealt), "{notes:?}");
        info.rss = true;
        info.mtu_asked = 1400;
        assert_eq!(refused(0, &info, 1), [""; 0]);
    }

    #[test]
    fn speeds_and_macs_are_written_as_people_do() {
        assert_eq!(speed(0), "-");
        assert_eq!(speed(100), "100 Mbit/s");
        assert_eq!(speed(2500), "2500 Mbit/s");
        assert_eq!(speed(25_000), "25 Gbit/s");
        assert_eq!(mac([2, 0, 0xab, 0, 0, 1]), "02:00:ab:00:00:01");
    }
}
