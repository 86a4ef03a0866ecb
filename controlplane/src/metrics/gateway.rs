//! Metrics of the gateway itself, read from the region when somebody asks.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use engine::counters::{LinkCounter, ServiceCounter, Total};
use engine::reason::Reason;
use hugepages::{LinkErrors, LinkInfo};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeMetric, MetricEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::observe::{FamilySurvey, Histogram, InstalledService, Observer, STATES, View, drops};

/// Labels of one series.
type Labels = Vec<(&'static str, String)>;

/// What a link's counter counts.
const fn link_help(counter: LinkCounter) -> &'static str {
    match counter {
        LinkCounter::RxFrames => "Frames received",
        LinkCounter::RxBytes => "Bytes received",
        LinkCounter::TxFrames => "Frames sent",
        LinkCounter::TxBytes => "Bytes sent",
        LinkCounter::UnfinishedChecksums => {
            "First frames of flows whose sender left the checksum to hardware that is not there"
        }
        LinkCounter::Truncated => "Frames cut short by the device",
        LinkCounter::Dropped => "Frames dropped for any other reason",
        LinkCounter::DealtOut => "Received frames that went to a worker without an rx queue",
    }
}

/// What a service's counter counts.
const fn service_help(counter: ServiceCounter) -> &'static str {
    match counter {
        ServiceCounter::Frames => "Frames translated, both directions",
        ServiceCounter::Bytes => "Bytes of frames translated, both directions",
        ServiceCounter::Flows => "Flows created",
        ServiceCounter::Refused => "Flows refused or dropped, whatever the reason",
        ServiceCounter::HalfOpenEvicted => "Half-open flows removed to make room for newer ones",
        ServiceCounter::Limited => "Flows dropped by a limit of new flows a second",
        ServiceCounter::SnatExhausted => {
            "Flows dropped because every masquerade port tried was taken"
        }
        ServiceCounter::EndpointResets => "TCP resets sent because an endpoint is gone",
    }
}

/// Reads the region at each scrape.
#[derive(Debug)]
pub(super) struct Gateway {
    /// What it reads.
    pub(super) observer: Observer,
    /// Most series of a family with a label of a service or an endpoint.
    pub(super) most_series: usize,
    /// Ports of a masquerade address towards one endpoint.
    pub(super) snat_ports: u32,
}

impl Collector for Gateway {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut sheet = Sheet {
            encoder,
            most: self.most_series,
            left_out: Vec::new(),
        };
        // Why there is nothing to see is in the log of the main loop, which needs the region more.
        let view = self.observer.look().ok();
        let running = view.as_ref().is_some_and(View::is_running);
        let help = "Whether a data plane runs";
        sheet.gauge("dataplane_up", help, u64::from(running))?;
        let Some(view) = view else { return Ok(()) };
        process(&view, &mut sheet)?;
        workers(&view, &mut sheet)?;
        links(&view, &mut sheet)?;
        tables(&view, self.snat_ports, &mut sheet)?;
        services(&view, &mut sheet)?;
        endpoints(&view, &mut sheet)?;
        sheet.finish()
    }
}

fn process(view: &View, sheet: &mut Sheet<'_>) -> fmt::Result {
    let help = "Time since the data plane was last heard of";
    sheet.gauge(
        "dataplane_silent_seconds",
        help,
        view.silence().as_secs_f64(),
    )?;
    if let Some(same) = view.is_as_wanted() {
        let help = "Whether the digest of the installed state is that of the wanted one";
        sheet.gauge("state_as_wanted", help, u64::from(same))?;
    }
    if let Some(rings) = view.rings() {
        let named = ["commands", "replies"].into_iter().zip(rings);
        let named: Vec<_> = named
            .map(|(name, fill)| (vec![("ring", name.to_owned())], fill))
            .collect();
        let each = |count: fn(&hugepages::RingFill) -> usize| {
            let counted = named
                .iter()
                .map(move |(labels, fill)| (labels.clone(), count(fill)));
            counted.collect::<Vec<_>>()
        };
        let help = "Records that wait in a ring of the region";
        sheet.gauges("ring_records", help, each(|fill| fill.waiting))?;
        let help = "Records that a ring can hold";
        sheet.gauges("ring_capacity_records", help, each(|fill| fill.capacity))?;
    }
    Ok(())
}

fn workers(view: &View, sheet: &mut Sheet<'_>) -> fmt::Result {
    for total in Total::ALL {
        let name = format!("worker_{}", total.name());
        let help = format!("Counter {} of `portgate counters`, by worker", total.name());
        let series = view
            .counters
            .named()
            .map(|(worker, block)| (vec![("worker", worker)], block.total(total)));
        sheet.counters(&name, &help, series)?;
    }
    let drops = Reason::ALL.iter().map(|reason| {
        let labels = vec![("reason", reason.name().to_owned())];
        (labels, drops(view.counters.blocks(), *reason))
    });
    sheet.counters("drops", "Frames dropped, by reason", drops)?;
    let help = "Time of a burst from rx to tx, of one in 64, by worker; the sum is right to 6 %";
    let workers = view.counters.named().zip(view.counters.workers());
    let times = workers.map(|((worker, block), _)| {
        let labels = vec![("worker", worker)];
        (labels, Histogram::of_bursts(block))
    });
    sheet.histograms("worker_burst_seconds", help, &burst_bounds(), times)
}

/// From half a microsecond to an eighth of a second, each twice the one before: bounds of the region's own buckets.
fn burst_bounds() -> Vec<f64> {
    (9..=27)
        .map(|power| f64::from(1u32 << power) / 1e9)
        .collect()
}

fn links(view: &View, sheet: &mut Sheet<'_>) -> fmt::Result {
    let links = view.links();
    let label = |info: &LinkInfo| vec![("link", info.name.clone())];
    for (counter, name) in LinkCounter::ALL {
        let series = links
            .iter()
            .map(|(at, info)| (label(info), view.counters.link(*at, counter)));
        sheet.counters(&format!("link_{name}"), link_help(counter), series)?;
    }
    let drops = links.iter().flat_map(|(at, info)| {
        Reason::ALL.iter().map(|reason| {
            let mut labels = label(info);
            labels.push(("reason", reason.name().to_owned()));
            (labels, view.counters.link_drops(*at, *reason))
        })
    });
    let help =
        "Frames dropped where they came in, or were to go out if that is why, by link and reason";
    sheet.counters("link_drops", help, drops)?;
    let help = "Frames that the device had no room for";
    let missed = links.iter().map(|(_, info)| (label(info), info.missed));
    sheet.counters("link_missed", help, missed)?;
    let errors = |count: fn(&LinkErrors) -> u64| {
        let each = links.iter();
        each.map(move |(_, info)| (label(info), count(&info.errors)))
    };
    let help = "Frames received with errors";
    sheet.counters("link_rx_errors", help, errors(|errors| errors.rx))?;
    let help = "Frames that could not be sent";
    sheet.counters("link_tx_errors", help, errors(|errors| errors.tx))?;
    let help = "Frames that there was no buffer for";
    sheet.counters("link_no_buffer", help, errors(|errors| errors.no_buffer))?;
    let up = links
        .iter()
        .map(|(_, info)| (label(info), u64::from(info.up)));
    sheet.gauges("link_up", "Whether the link is up", up)?;
    let speed = links.iter().filter(|(_, info)| info.speed_mbps > 0);
    let speed = speed.map(|(_, info)| (label(info), u64::from(info.speed_mbps) * 1_000_000));
    let help = "Speed of the link in bits a second, if the device tells";
    sheet.gauges("link_speed_bits", help, speed)?;
    let info = links.iter().map(|(_, info)| {
        let mut labels = label(info);
        labels.push(("device", info.device.clone()));
        labels.push(("driver", info.driver.clone()));
        (labels, 1_u64)
    });
    sheet.gauges("link_info", "Device and driver of the link", info)
}

fn tables(view: &View, snat_ports: u32, sheet: &mut Sheet<'_>) -> fmt::Result {
    let survey = &view.survey;
    let families = ["ipv4", "ipv6"].into_iter().zip(&survey.families);
    let families: Vec<_> = families
        .map(|(name, table)| (vec![("family", name.to_owned())], table))
        .collect();
    let by_state = families.iter().flat_map(|(labels, table)| {
        STATES.iter().zip(table.flows).map(|(state, flows)| {
            let mut labels = labels.clone();
            labels.push(("state", state.name().to_owned()));
            (labels, flows)
        })
    });
    sheet.gauges("flows", "Flows in the table, by family and state", by_state)?;
    let made_for = families
        .iter()
        .map(|(labels, table)| (labels.clone(), table.made_for));
    let help = "Flows that the table is made for (region.flows, region.flows_v6)";
    sheet.gauges("flow_table_capacity", help, made_for)?;
    let fill = families.iter().map(|(labels, table)| {
        let fill = table.all() as f64 / table.made_for.max(1) as f64;
        (labels.clone(), fill)
    });
    let help = "Flows as a part of those that the table is made for";
    sheet.gauges("flow_table_fill_ratio", help, fill)?;
    let seconds = |of: fn(&FamilySurvey) -> Option<u32>| {
        let each = families.iter();
        each.map(move |(labels, table)| (labels.clone(), of(table).unwrap_or(0)))
    };
    let help = "Time since the oldest flow was made; 0 without flows";
    let oldest = seconds(|table| table.oldest);
    sheet.gauges("flow_table_oldest_seconds", help, oldest)?;
    let help = "Time since the last frame of the flow that has been idle longest; 0 without flows";
    let idle = seconds(|table| table.longest_idle);
    sheet.gauges("flow_table_longest_idle_seconds", help, idle)?;
    let age = view.survey_age.as_secs_f64();
    let help = "How long ago the flows were counted";
    sheet.gauge("flow_count_age_seconds", help, age)?;
    let took = survey.took.as_secs_f64();
    let help = "How long counting the flows took";
    sheet.gauge("flow_count_duration_seconds", help, took)?;

    let snat = |count: fn(&crate::observe::SnatUse) -> u64| {
        let each = survey.snat.iter();
        each.map(move |(address, used)| (vec![("address", address.to_string())], count(used)))
    };
    let help = "Masquerade ports in use, over all endpoints";
    sheet.gauges("snat_ports_in_use", help, snat(|used| used.ports))?;
    let help = "Masquerade ports in use towards the endpoint with most";
    sheet.gauges("snat_ports_in_use_most", help, snat(|used| used.most))?;
    let help = "Masquerade ports that an address has towards each endpoint";
    sheet.gauge("snat_ports_limit", help, u64::from(snat_ports))
}

fn services(view: &View, sheet: &mut Sheet<'_>) -> fmt::Result {
    let services = &view.installed.services;
    let own = services.iter().filter_map(|service| {
        let slot = service.slot?;
        Some((service, slot))
    });
    let own: Vec<_> = own.collect();
    for (counter, name) in ServiceCounter::ALL {
        let name = format!("service_{name}");
        let series = own
            .iter()
            .map(|(service, slot)| (labels(service), view.counters.service(*slot, counter)));
        let series = sheet.bounded(&name, series);
        sheet.counters(&name, service_help(counter), series)?;
    }
    let open = own
        .iter()
        .map(|(service, slot)| (labels(service), view.survey.open(*slot)));
    let open = sheet.bounded("service_open_flows", open);
    sheet.gauges("service_open_flows", "Flows in the table", open)?;
    let endpoints = services
        .iter()
        .map(|service| (labels(service), service.endpoints.len()));
    let endpoints = sheet.bounded("service_endpoints", endpoints);
    sheet.gauges("service_endpoints", "Endpoints that serve", endpoints)?;
    let shared = services.len() - own.len();
    let help = "Service ports that have no counters of their own any more: see the limits";
    sheet.gauge("services_without_counters", help, shared)
}

/// Every endpoint that is installed, and those that are not any more and still have flows.
fn endpoints(view: &View, sheet: &mut Sheet<'_>) -> fmt::Result {
    let mut with_flows: BTreeMap<u32, BTreeMap<SocketAddr, u64>> = BTreeMap::new();
    for ((slot, address), flows) in &view.survey.endpoints {
        let of_slot = with_flows.entry(*slot).or_default();
        of_slot.insert(*address, *flows);
    }
    let mut all: Vec<(Labels, (u32, SocketAddr), u64)> = Vec::new();
    for service in &view.installed.services {
        let Some(slot) = service.slot else { continue };
        let mut flows = with_flows.remove(&slot).unwrap_or_default();
        for endpoint in &service.endpoints {
            flows.entry(endpoint.address).or_default();
        }
        all.extend(flows.into_iter().map(|(address, flows)| {
            let mut labels = labels(service);
            labels.push(("endpoint", address.to_string()));
            (labels, (slot, address), flows)
        }));
    }
    let more = all.len().saturating_sub(sheet.most);
    all.truncate(sheet.most);
    for (counter, name) in ServiceCounter::OF_ENDPOINTS {
        let name = format!("endpoint_{name}");
        let help = format!("{}, by endpoint", service_help(counter));
        let series = all.iter().filter_map(|(labels, (slot, address), _)| {
            let count = view.counters.endpoint(*slot, *address, counter)?;
            Some((labels.clone(), count))
        });
        sheet.counters(&name, &help, series)?;
        sheet.left_out.push((name, more));
    }
    let (given, most) = view.counters.endpoint_slots();
    let help = "Endpoints that have counters of their own, or had, since the region was made";
    sheet.gauge("endpoint_counters_given", help, given)?;
    let help = "Endpoints that may have counters of their own: see the limits";
    sheet.gauge("endpoint_counters_limit", help, most)?;
    let open = all.into_iter().map(|(labels, _, flows)| (labels, flows));
    sheet
        .left_out
        .push(("endpoint_open_flows".to_owned(), more));
    let help = "Flows in the table, by endpoint";
    sheet.gauges("endpoint_open_flows", help, open)
}

fn labels(service: &InstalledService) -> Labels {
    vec![
        ("namespace", service.namespace.clone()),
        ("service", service.name.clone()),
        ("port", service.port_name.clone()),
        ("protocol", service.protocol.name().to_owned()),
    ]
}

/// A page of metrics being written.
struct Sheet<'a> {
    encoder: DescriptorEncoder<'a>,
    most: usize,
    /// Series that families had no room for.
    left_out: Vec<(String, usize)>,
}

impl Sheet<'_> {
    /// The first series of a family, as many as one may have; what is left out is counted. They come in
    /// the order of names, so that the same ones are left out each time.
    fn bounded<N>(
        &mut self,
        family: &str,
        series: impl IntoIterator<Item = (Labels, N)>,
    ) -> Vec<(Labels, N)> {
        let mut series = series.into_iter();
        let kept: Vec<_> = series.by_ref().take(self.most).collect();
        self.left_out.push((family.to_owned(), series.count()));
        kept
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in series {
            one(&mut family, &labels, &ConstCounter::new(value))?;
        }
        Ok(())
    }

    fn gauges<N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, N)>,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in series {
            one(&mut family, &labels, &ConstGauge::new(value))?;
        }
        Ok(())
    }

    /// With these bounds of buckets, in seconds, and one bucket more.
    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        bounds: &[f64],
        series: impl IntoIterator<Item = (Labels, Histogram)>,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, times) in series {
            let ends = bounds.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<_> = ends.zip(times.between(bounds)).collect();
            let mut encoder = family.encode_family(&labels)?;
            encoder.encode_histogram::<Labels>(times.sum(), times.count(), &buckets, None)?;
        }
        Ok(())
    }

    fn gauge<N: EncodeGaugeValue>(&mut self, name: &str, help: &str, value: N) -> fmt::Result {
        let kind = MetricType::Gauge;
        let family = self.encoder.encode_descriptor(name, help, None, kind)?;
        ConstGauge::new(value).encode(family)
    }

    fn finish(mut self) -> fmt::Result {
        let left_out = std::mem::take(&mut self.left_out);
        let help = "Series of a family that metrics.max_series left no room for";
        let series = left_out
            .into_iter()
            .map(|(family, count)| (vec![("family", format!("portgate_{family}"))], count));
        self.gauges("metrics_series_left_out", help, series)
    }
}

fn one(family: &mut MetricEncoder<'_>, labels: &Labels, metric: &impl EncodeMetric) -> fmt::Result {
    metric.encode(family.encode_family(labels)?)
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
