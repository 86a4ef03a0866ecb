//! What was typed. What it means is found out by the commands.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::flow::State;

use crate::help;

/// Look into a running Portgate gateway, explain what it does with a packet, check its
/// configuration.
///
/// `services`, `flows`, `counters`, `links` and `latency` read the shared memory of the running data plane and
/// cost its workers nothing; `trace` asks the data plane itself. `explain` and `check` need no gateway and no root.
///
/// Exit status: 0 done, 1 failed at run time, 2 wrong use or configuration.
#[derive(Debug, Parser)]
#[command(name = "portgate", version, propagate_version = true)]
#[command(
    after_help = "Example:\n  portgate explain --protocol tcp --from 203.0.113.50:40000 --to 203.0.113.10:30379"
)]
pub struct Arguments {
    /// Configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = settings::DEFAULT_PATH)]
    pub config: PathBuf,
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the services that are installed: addresses, rules, endpoints, counters.
    #[command(after_long_help = help::SERVICES)]
    Services(ServicesOptions),
    /// List flows, all or those that match.
    #[command(after_long_help = help::FLOWS)]
    Flows(FlowsOptions),
    /// Show the counters: frames received, sent, answered, and dropped by reason.
    #[command(after_long_help = help::COUNTERS)]
    Counters(CountersOptions),
    /// Show the links: device, driver, state, counters, and what is wrong with them.
    #[command(after_long_help = help::LINKS)]
    Links,
    /// Show how long bursts take in the workers, and changes until workers have them.
    #[command(after_long_help = help::LATENCY)]
    Latency(LatencyOptions),
    /// Show the running gateway on a screen: services by rate, drops, flows, load of the workers.
    #[command(after_long_help = help::TOP)]
    Top(TopOptions),
    /// Show frames of the running gateway, each with what every stage of its way decided. Root only.
    ///
    /// Workers send the frames that match through the same code as all others, one by one, and write down what
    /// happens. How many they look at is bounded, so that a trace cannot slow them down.
    #[command(after_long_help = help::TRACE)]
    Trace(TraceOptions),
    /// Say what becomes of a packet, and why; no gateway needs to run.
    ///
    /// Converts the manifests as the control plane does, installs the result as the data plane does,
    /// and puts the first frame of the flow through the same code as a worker. Neither root nor a
    /// network device is needed, and a configuration with [gateway] alone will do.
    #[command(after_long_help = help::EXPLAIN)]
    Explain(ExplainOptions),
    /// Check the configuration and the manifests; every problem is named.
    ///
    /// Exit status: 0 all is well, 2 there are problems.
    #[command(after_long_help = help::CHECK)]
    Check(CheckOptions),
    /// Show the version of this program and of what it shares with a gateway.
    #[command(after_long_help = help::VERSION)]
    Version,
    /// Make completions, man pages and the reference of all settings, for packages and documentation.
    #[command(hide = true, subcommand)]
    Generate(Generate),
}

/// What can be made out of the definition of the arguments.
#[derive(Debug, Subcommand)]
pub enum Generate {
    /// Print completions for a shell.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write man pages.
    Man {
        /// Where to; made if it is not there.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print the reference of all settings, in Markdown.
    Configuration,
}

/// Options of what has rates.
#[derive(Debug, Args, Default)]
pub struct RateOptions {
    /// Count for so many seconds and show rates, too.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub interval: Option<f64>,
    /// Show everything again every so many seconds, with rates, until interrupted.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "interval")]
    pub watch: Option<f64>,
}

/// Options of `services`.
#[derive(Debug, Args)]
pub struct ServicesOptions {
    /// Rates.
    #[command(flatten)]
    pub rates: RateOptions,
    /// Only this service: `namespace/name`, or a name in any namespace.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Show each endpoint with its counters and open flows, instead of the addresses. All flows are counted for it.
    #[arg(long)]
    pub endpoints: bool,
}

/// Options of `flows`. A flow is listed if it matches all that are given.
#[derive(Debug, Args, Default)]
pub struct FlowsOptions {
    /// Only flows of this service: `namespace/name`, or a name in any namespace.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only flows of this client.
    #[arg(long, value_name = "IP[:PORT]", value_parser = pattern)]
    pub from: Option<Pattern>,
    /// Only flows to this service address.
    #[arg(long, value_name = "IP[:PORT]", value_parser = pattern)]
    pub to: Option<Pattern>,
    /// Only flows to this endpoint.
    #[arg(long, value_name = "IP[:PORT]", value_parser = pattern)]
    pub endpoint: Option<Pattern>,
    /// Only flows in this state.
    #[arg(long, value_parser = state)]
    pub state: Option<State>,
    /// Only flows of this protocol.
    #[arg(long)]
    pub protocol: Option<Transport>,
    /// Stop after this many.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Options of `counters`.
#[derive(Debug, Args)]
pub struct CountersOptions {
    /// Rates.
    #[command(flatten)]
    pub rates: RateOptions,
    /// Show the drop reasons that never occurred, too.
    #[arg(long)]
    pub all: bool,
    /// Show each worker's share, too.
    #[arg(long)]
    pub workers: bool,
    /// Show the drops on each link, too.
    #[arg(long)]
    pub links: bool,
}

/// Options of `latency`.
#[derive(Debug, Args)]
pub struct LatencyOptions {
    /// Count for so many seconds, instead of since the start.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub interval: Option<f64>,
}

/// Options of `top`.
#[derive(Debug, Args)]
pub struct TopOptions {
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "1")]
    pub interval: f64,
    /// Print one screen and end; no terminal is needed.
    #[arg(long)]
    pub once: bool,
}

/// Options of `trace`. A frame is shown if it matches all that are given; of both directions, before or after its
/// translation.
#[derive(Debug, Args)]
pub struct TraceOptions {
    /// Only frames of or to this client.
    #[arg(long, value_name = "IP[:PORT]", value_parser = pattern)]
    pub from: Option<Pattern>,
    /// Only frames to this service address, and the answers.
    #[arg(long, value_name = "IP[:PORT]", value_parser = pattern)]
    pub to: Option<Pattern>,
    /// Only frames to or of this endpoint.
    #[arg(long, value_name = "IP[:PORT]", value_parser = pattern)]
    pub endpoint: Option<Pattern>,
    /// Only frames of this service: `namespace/name`, or a name in any namespace.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only frames of this protocol.
    #[arg(long)]
    pub protocol: Option<Transport>,
    /// Only frames that come in by this link, or that the gateway itself begins there.
    #[arg(long, value_name = "NAME")]
    pub link: Option<String>,
    /// Only frames that are dropped.
    #[arg(long)]
    pub dropped: bool,
    /// Only frames that are dropped for this reason, as `portgate counters` names it; may be given more
    /// than once.
    #[arg(long, value_name = "NAME")]
    pub reason: Vec<String>,
    /// Write the frames to this file too (pcapng, for Wireshark), with their stages as comments.
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Stop after this many frames.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// Stop after this many seconds.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub seconds: u32,
    /// Show no more frames a second.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub rate: u32,
    /// Let each worker look at no more frames a second.
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    pub effort: u32,
    /// Keep so many bytes of each frame.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub bytes: u16,
}

/// Options of `explain`: packets in a file, or one question.
#[derive(Debug, Args)]
pub struct ExplainOptions {
    /// Directory of Service, EndpointSlice and Node manifests (*.yaml, *.yml, *.json); default: the
    /// configuration's source, if that is a directory.
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// File with a packet a line, as JSON; prints an answer a line, as JSON.
    #[arg(long, value_name = "FILE")]
    pub packets: Option<PathBuf>,
    /// Source of the packet.
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    #[arg(required_unless_present = "packets", conflicts_with = "packets")]
    pub from: Option<SocketAddr>,
    /// Destination of the packet.
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    #[arg(required_unless_present = "packets", conflicts_with = "packets")]
    pub to: Option<SocketAddr>,
    /// Its protocol; tcp when left out.
    #[arg(long, conflicts_with = "packets")]
    pub protocol: Option<Transport>,
}

/// Options of `check`.
#[derive(Debug, Args)]
pub struct CheckOptions {
    /// Directory of manifests to check, too; default: the configuration's source, if that is a
    /// directory.
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
}

/// A transport protocol that services use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// TCP, RFC 9293.
    Tcp,
    /// UDP, RFC 768.
    Udp,
    /// SCTP, RFC 9260.
    Sctp,
}

impl Transport {
    /// IANA protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => packet::parse::TCP,
            Self::Udp => packet::parse::UDP,
            Self::Sctp => packet::parse::SCTP,
        }
    }
}

/// An address, with a port or with any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    /// The address.
    pub address: IpAddr,
    /// The port; `None` = any.
    pub port: Option<u16>,
}

impl Pattern {
    /// Whether this is such an address.
    #[must_use]
    pub fn matches(&self, address: SocketAddr) -> bool {
        self.address == address.ip() && self.port.is_none_or(|port| port == address.port())
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Pattern {
            address: address.ip(),
            port: Some(address.port()),
        });
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    match bare.unwrap_or(text).parse() {
        Ok(address) => Ok(Pattern {
            address,
            port: None,
        }),
        Err(_) => Err(
            "must be an address, with or without a port, such as 192.0.2.1, \
                       192.0.2.1:80, 2001:db8::1 or [2001:db8::1]:80"
                .to_owned(),
        ),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let rule = "must be an address and a port, such as 192.0.2.1:80 or [2001:db8::1]:80";
    text.parse().map_err(|_| rule.to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let rule = "must be a number of seconds from 0.1 to 86400";
    let number = text.parse().ok();
    let number = number.filter(|seconds| (0.1..=86_400.0).contains(seconds));
    number.ok_or_else(|| rule.to_owned())
}

fn state(text: &str) -> Result<State, String> {
    const STATES: [State; 4] = [
        State::HalfOpen,
        State::Established,
        State::Closing,
        State::Closed,
    ];
    let found = STATES.into_iter().find(|state| state.name() == text);
    found.ok_or_else(|| {
        let names = STATES.map(State::name).join(", ");
        format!("must be one of {names}")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        let mut command = Arguments::command();
        command.build();
        for sub in command.get_subcommands_mut() {
            if sub.get_name() != "help" && !sub.is_hide_set() {
                let help = sub.render_long_help().to_string();
                let example = format!("\n  portgate {}", sub.get_name());
                assert!(help.contains(&example), "{help}");
                assert!(help.contains("JSON (one"), "{help}");
            }
        }
    }

    #[test]
    fn patterns_are_addresses_with_or_without_a_port() {
        let parsed = |text: &str| pattern(text).map(|p| (p.address.to_string(), p.port));
        let v6 = || "2001:db8::1".to_owned();
        assert_eq!(parsed("192.0.2.1"), Ok(("192.0.2.1".to_owned(), None)));
        assert_eq!(
            parsed("192.0.2.1:80"),
            Ok(("192.0.2.1".to_owned(), Some(80)))
        );
        assert_eq!(parsed("2001:db8::1"), Ok((v6(), None)));
        assert_eq!(parsed("[2001:db8::1]"), Ok((v6(), None)));
        assert_eq!(parsed("[2001:db8::1]:80"), Ok((v6(), Some(80))));
        for wrong in [
            "",
            "host",
            "192.0.2.1:",
            "192.0.2.1:99999",
            "[192.0.2.1",
            ":80",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        let any = pattern("192.0.2.1").unwrap();
        assert!(any.matches("192.0.2.1:7".parse().unwrap()));
        let one = pattern("192.0.2.1:7").unwrap();
        assert!(!one.matches("192.0.2.1:8".parse().unwrap()));
        assert!(!one.matches("192.0.2.2:7".parse().unwrap()));
    }

    #[test]
    fn packets_and_a_question_exclude_each_other() {
        let parse = |arguments: &[&str]| {
            let all = ["portgate", "explain"].iter().chain(arguments);
            Arguments::try_parse_from(all).map(|_| ())
        };
        parse(&["--packets", "p"]).unwrap();
        parse(&["--from", "192.0.2.1:1", "--to", "192.0.2.2:2"]).unwrap();
        parse(&["--from", "192.0.2.1:1"]).unwrap_err();
        parse(&["--packets", "p", "--to", "192.0.2.2:2"]).unwrap_err();
        parse(&[]).unwrap_err();
    }
}
