//! Generator and sink on their devices, and the gateway's counters beside theirs.

use std::sync::Arc;
use std::time::Duration;

use dpdk::{LocalPool, Queue};
use packet::ethernet::Mac;

use crate::Error;
use crate::lab::ledger::{GatewayCounts, Ledger};
use crate::options::{Links, Load};
use crate::ports::{Device, PortCounts, Ports, Seat};
use crate::record::traffic::Balance;
use crate::traffic::choice::Sizes;
use crate::traffic::client::Client;
use crate::traffic::progress::Progress;
use crate::traffic::server::Server;
use crate::traffic::station::Station;
use crate::traffic::tally::Tally;
use crate::traffic::trial;
use crate::traffic::writer::FCS;

/// Both ends over DPDK.
pub type Ends = trial::Ends<Queue, LocalPool>;

/// Between two looks at a gateway's counters that must be the same: it looks at its devices' every
/// 250 ms and believes what it saw twice.
const STILL: Duration = Duration::from_millis(600);

/// Looks after which counters that still move are taken as they are.
const LOOKS: u32 = 10;

/// An opened tester.
pub struct Tester {
    ports: Ports,
    ends: Option<Ends>,
    progress: Arc<Progress>,
    huge_pages: bool,
}

/// All counters at a moment of rest.
#[derive(Debug, Clone)]
pub struct Counts {
    sent: u64,
    received: u64,
    ports: Vec<PortCounts>,
    gateway: Option<GatewayCounts>,
}

/// What both ends and the gateway counted between two moments of rest.
#[derive(Debug, Clone)]
pub struct Account {
    /// The gateway's own counters, if they are known.
    pub gateway: Option<GatewayCounts>,
    /// All of it, set against each other.
    pub balance: Option<Balance>,
    /// The devices' counters since they were opened.
    pub ports: Vec<PortCounts>,
}

impl Tester {
    /// Opens the devices and waits until their links are up.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] names the option, [`Error::Run`] the device.
    pub fn open(load: &Load, links: &Links, sizes: &Sizes) -> Result<Self, Error> {
        let traffic = load.traffic(sizes)?;
        let gateway = links.gateway()?;
        let Some(device) = &links.device else {
            return Err(Error::Usage(
                "--device is missing: where to send".to_owned(),
            ));
        };
        let devices: Vec<&Device> = [Some(device), links.sink.as_ref()]
            .into_iter()
            .flatten()
            .collect();
        let mtu = mtu(sizes);
        let mut ports = Ports::start(&devices, links.cpu, links.huge_pages, mtu)?;
        let Seat { link, pool, mac } = ports.open(device, mtu)?;
        let station = Station::new(Mac(mac), links.address.clone());
        let client = Client::new((link, pool), station, traffic, gateway)?;
        let server = match &links.sink {
            None => None,
            Some(device) => {
                let seat = ports.open(device, mtu)?;
                let station = Station::new(Mac(seat.mac), links.sink_address.clone());
                let tally = Tally::new(Some(0), None);
                Some(Server::new(seat.link, station, links.echo, tally))
            }
        };
        ports.wait_up()?;
        let progress = Arc::new(Progress::default());
        stop_on_signals(&progress)?;
        Ok(Self {
            ports,
            ends: Some(trial::Ends {
                client,
                server,
                polite: links.polite,
            }),
            progress,
            huge_pages: links.huge_pages,
        })
    }

    /// Runs `work` with both ends on the CPU that is for it, showing how it goes on.
    ///
    /// # Errors
    ///
    /// What `work` returns; a panic in it.
    pub fn work<T: Send + 'static>(
        &mut self,
        label: &str,
        work: impl FnOnce(&mut Ends, &Progress) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let mut ends = self
            .ends
            .take()
            .ok_or_else(|| Error::Run("the ends were lost in a panic".to_owned()))?;
        let progress = self.progress.clone();
        let worker = self.ports.launch(move || {
            let result = work(&mut ends, &progress);
            (ends, result)
        })?;
        self.progress.show_until(label, || worker.is_finished());
        let (ends, result) = worker.join()?;
        self.ends = Some(ends);
        result
    }

    /// Whether packet memory is on huge pages.
    #[must_use]
    pub fn huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// All counters, once those of the gateway rest. Meanwhile both ends are turned, so that what is on
    /// its way arrives.
    ///
    /// # Errors
    ///
    /// As [`Tester::work`].
    pub fn counts(&mut self, ledger: Option<&Ledger>) -> Result<Counts, Error> {
        let mut gateway = None;
        if let Some(ledger) = ledger {
            for _ in 0..LOOKS {
                let before = ledger.counts();
                self.work("", |ends, progress| {
                    ends.rest(STILL, progress);
                    Ok(())
                })?;
                let now = ledger.counts();
                let is_still = now == before;
                gateway = Some(now);
                if is_still {
                    break;
                }
            }
        }
        let frames = self.ends.as_ref().map_or((0, 0), |ends| {
            let server = ends.server.as_ref().map_or((0, 0), Server::frames);
            let client = ends.client.frames();
            (client.0 + server.0, client.1 + server.1)
        });
        Ok(Counts {
            received: frames.0,
            sent: frames.1,
            ports: self.ports.counts(),
            gateway,
        })
    }

    /// What was counted since `before`.
    ///
    /// # Errors
    ///
    /// As [`Tester::work`].
    pub fn account(&mut self, before: &Counts, ledger: Option<&Ledger>) -> Result<Account, Error> {
        let now = self.counts(ledger)?;
        let gateway = match (&now.gateway, &before.gateway) {
            (Some(now), Some(before)) => Some(now.since(before)),
            _ => None,
        };
        let missed = |counts: &Counts| counts.ports.iter().map(|port| port.missed).sum::<u64>();
        // Only with both ends here are all of the gateway's frames ours.
        let is_whole = self.ends.as_ref().is_some_and(|ends| ends.server.is_some());
        let balance = gateway.as_ref().filter(|_| is_whole).map(|gateway| {
            Balance::new(
                now.sent - before.sent,
                now.received - before.received,
                missed(&now).saturating_sub(missed(before)),
                gateway,
            )
        });
        Ok(Account {
            gateway,
            balance,
            ports: now.ports,
        })
    }
}

/// Bytes of the largest IP packet that frames of these sizes hold.
fn mtu(sizes: &Sizes) -> u16 {
    let longest = sizes.all().into_iter().max().unwrap_or(0);
    longest.saturating_sub(14 + FCS as u16).max(1500)
}

/// Ctrl-C and SIGTERM end a run in order, so that a lab is taken down.
///
/// # Errors
///
/// [`Error::Run`] if they cannot be caught.
pub fn stop_on_signals(progress: &Progress) -> Result<(), Error> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, progress.stop_flag())
            .map_err(|error| Error::Run(format!("cannot catch signals: {error}")))?;
    }
    Ok(())
}
