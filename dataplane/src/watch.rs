//! Watching the links: what the region says of them, and warnings about what goes wrong there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dpdk::{Port, PortStats};
use engine::counters::{Counters, LinkCounter};
use hugepages::{LinkErrors, LinkInfo, Region};

use crate::recall::Recall;
use crate::reconnect::{Reconnect, Subject};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(250);

/// How long a link's status must stay another before it is told: the kernel itself reports a change up to
/// a second late, one interface after the other.
const SETTLED: Duration = Duration::from_secs(2);

/// Between two warnings of one kind about one link.
const QUIET: Duration = Duration::from_secs(30);

/// One link under watch.
pub(crate) struct WatchedLink {
    /// `None` once its device has left.
    pub(crate) port: Option<Port>,
    pub(crate) info: LinkInfo,
    /// Name of the kernel's interface behind it, if there is one.
    pub(crate) interface: Option<String>,
}

/// All links under watch.
pub(crate) struct Watch {
    region: Arc<Region>,
    links: Vec<Watched>,
    /// Every worker's counters.
    counters: Vec<Counters>,
    recall: Arc<Recall>,
    last: Option<Instant>,
}

struct Watched {
    link: WatchedLink,
    /// Brings it back, and tells of it, if its server may go.
    reconnect: Option<Reconnect>,
    unfinished: Trouble,
    truncated: Trouble,
    replaced: bool,
    leaves: bool,
    /// Link status as last told, and since when it has been another.
    told_up: bool,
    changed: Option<Instant>,
    /// Frames that the interface received and the device did not deliver, as of the last look.
    undelivered: u64,
    /// What the interface had counted before the device was opened.
    base: u64,
}

#[derive(Default)]
struct Trouble {
    seen: u64,
    warned: Option<Instant>,
}

impl Trouble {
    /// What a taken-over region has counted before is no news.
    fn start(counters: &[Counters], link: usize, counter: LinkCounter) -> Self {
        let seen = counters
            .iter()
            .map(|counters| counters.link(link, counter))
            .sum();
        Self { seen, warned: None }
    }

    /// How many more there are since the last warning, if it is time for one.
    fn news(&mut self, total: u64, now: Instant) -> Option<u64> {
        let is_quiet = self.warned.is_some_and(|warned| now - warned < QUIET);
        if total <= self.seen || is_quiet {
            return None;
        }
        let news = total - self.seen;
        self.seen = total;
        self.warned = Some(now);
        Some(news)
    }
}

impl Watch {
    pub(crate) fn new(
        region: Arc<Region>,
        links: Vec<WatchedLink>,
        counters: Vec<Counters>,
        recall: Arc<Recall>,
    ) -> Self {
        let links = links
            .into_iter()
            .enumerate()
            .map(|(at, link)| Watched {
                unfinished: Trouble::start(&counters, at, LinkCounter::UnfinishedChecksums),
                truncated: Trouble::start(&counters, at, LinkCounter::Truncated),
                replaced: false,
                leaves: false,
                told_up: true,
                reconnect: link.port.as_ref().and_then(Reconnect::new),
                changed: None,
                undelivered: 0,
                base: link.port.as_ref().map_or(0, |port| {
                    let stats = port.stats();
                    interface_frames(&stats).saturating_sub(stats.rx_frames)
                }),
                link,
            })
            .collect();
        let mut watch = Self {
            region,
            links,
            counters,
            recall,
            last: None,
        };
        watch.look();
        watch
    }

    /// Looks when it is time to.
    pub(crate) fn poll(&mut self) {
        let now = Instant::now();
        for (number, watched) in self.links.iter_mut().enumerate() {
            watched.reconnect(number, &self.recall, now);
        }
        if self.last.is_none_or(|last| now - last >= PERIOD) {
            self.look();
        }
    }

    fn look(&mut self) {
        let now = Instant::now();
        self.last = Some(now);
        settings::log::tell_held_back();
        for (at, watched) in self.links.iter_mut().enumerate() {
            let sum = |counter| -> u64 {
                self.counters
                    .iter()
                    .map(|counters| counters.link(at, counter))
                    .sum()
            };
            if watched.leaves() {
                self.recall.link(at);
                watched.let_go();
            } else {
                watched.update_info(now);
            }
            watched.link.info.write(&self.region.link(at as u16));
            let name = &watched.link.info.name;
            let device = &watched.link.info.device;
            if let Some(news) = watched
                .unfinished
                .news(sum(LinkCounter::UnfinishedChecksums), now)
            {
                tracing::warn!(
                    link = name,
                    device,
                    frames = news,
                    "frames arrive on link {name} ({device}) with unfinished TCP or UDP checksums, \
                     left to hardware that is not there, and are dropped: on the machine or \
                     namespace that sends them run `ethtool -K <interface> tx off`"
                );
            }
            if let Some(news) = watched.truncated.news(sum(LinkCounter::Truncated), now) {
                let interface = watched.link.interface.as_deref().unwrap_or("<interface>");
                tracing::warn!(
                    link = name,
                    device,
                    frames = news,
                    "frames arrive on link {name} ({device}) longer than its buffers, cut short, \
                     and are dropped: run `ethtool -K {interface} gro off lro off` here and \
                     `ethtool -K <interface> tso off gso off` where they are sent"
                );
            }
        }
    }
}

impl Watched {
    /// Whether the machine takes the device away, or has done so.
    fn leaves(&mut self) -> bool {
        let asked = |port: &Port| port.link().leaving;
        if !self.leaves && self.link.port.as_ref().is_some_and(asked) {
            self.leaves = true;
            let (name, device) = (&self.link.info.name, &self.link.info.device);
            tracing::warn!(
                link = name,
                "the machine takes {device} away, the device of link {name}"
            );
        }
        self.leaves
    }

    /// Closes the device when every worker has given up its queues: until then the machine waits.
    fn let_go(&mut self) {
        (self.link.info.up, self.link.info.speed_mbps) = (false, 0);
        let Some(port) = self.link.port.take() else {
            return;
        };
        match port.close() {
            Ok(()) => {
                let (name, device) = (&self.link.info.name, &self.link.info.device);
                tracing::error!(
                    link = name,
                    "link {name} is down: {device} was let go and is gone; with it back in its place restart the data \
                     plane, or take the link out of the configuration"
                );
            }
            Err(port) => self.link.port = Some(port),
        }
    }

    fn reconnect(&mut self, number: usize, recall: &Recall, now: Instant) {
        if let (Some(reconnect), Some(port)) = (&mut self.reconnect, &self.link.port) {
            let name = &self.link.info.name;
            reconnect.poll(Subject { number, name, port }, recall, now);
        }
    }

    fn update_info(&mut self, now: Instant) {
        let Some(port) = &self.link.port else {
            return;
        };
        let (status, stats) = (port.link(), port.stats());
        let name = &self.link.info.name;
        if status.up == self.told_up || self.reconnect.is_some() {
            self.changed = None;
        } else if self.changed.get_or_insert(now).elapsed() >= SETTLED {
            tracing::warn!(link = name, "link {name} is {}", up_or_down(status.up));
            self.told_up = status.up;
        }
        if status.replaced && !self.replaced {
            let device = &self.link.info.device;
            tracing::error!(
                link = name,
                "the interface of link {name} ({device}) was removed or made anew: restart the \
                 data plane to open it again"
            );
        }
        self.replaced = status.replaced;
        self.link.info.up = status.up;
        self.link.info.speed_mbps = status.speed_mbps.unwrap_or(0);
        // The same frames, if the driver counts them.
        self.link.info.missed = stats.rx_missed.max(self.undelivered(&stats));
        self.link.info.errors = LinkErrors {
            rx: stats.rx_errors,
            tx: stats.tx_errors,
            no_buffer: stats.rx_no_buffer,
        };
    }

    /// AF_PACKET does not count what its ring had no room for, AF_XDP not what the kernel could not put
    /// into its ring: the interface's own counter does, minus what was delivered. Frames still in the ring
    /// look lost, so only what was missing at two looks counts.
    fn undelivered(&mut self, stats: &PortStats) -> u64 {
        if self.link.interface.is_none() {
            return 0;
        }
        let received = interface_frames(stats).saturating_sub(self.base);
        let missing = received.saturating_sub(stats.rx_frames);
        let settled = missing.min(self.undelivered);
        self.undelivered = missing;
        settled
    }
}

/// Frames that the kernel's interface behind a port has received; 0 if there is none.
fn interface_frames(stats: &PortStats) -> u64 {
    let interface = stats.interface;
    interface.map_or(0, |counters| counters.rx_packets)
}

const fn up_or_down(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_at_once_then_at_most_every_half_minute_and_only_when_it_grows() {
        let mut trouble = Trouble::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(trouble.news(0, at(0)), None);
        assert_eq!(trouble.news(5, at(1)), Some(5));
        assert_eq!(trouble.news(9, at(2)), None);
        assert_eq!(trouble.news(9, at(32)), Some(4));
        assert_eq!(trouble.news(9, at(99)), None);
    }
}
