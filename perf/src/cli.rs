//! Verbs, and from results to exit codes.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    Error, capsule, compare, controlplane, engine, generate, import, kernel, report, search, sink,
    suite,
};

mod examples;

/// Measures Portgate.
#[derive(Debug, Parser)]
#[command(name = "perf", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The pipeline in process, over scenarios, against floors of the same run.
    #[command(after_help = examples::ENGINE)]
    Engine(engine::Options),
    /// What a worker loses while `portgate flows` walks through its table.
    #[command(after_help = examples::WALK)]
    Walk(engine::walk::Options),
    /// What dealing frames out to another worker by software costs and brings.
    #[command(after_help = examples::FAN_OUT)]
    FanOut(engine::fan_out::Options),
    /// The kernel as kube-proxy programs it, and the gateway between the same veths (root).
    #[command(after_help = examples::KERNEL)]
    Kernel(kernel::Options),
    #[command(hide = true)]
    KernelSender(kernel::SenderOptions),
    /// The crate capsule, in turns with the gateway's pipeline and its floors.
    #[command(after_help = examples::CAPSULE)]
    Capsule(capsule::Options),
    /// From a cluster's objects to a worker's snapshot, at the size of large clusters.
    #[command(name = "controlplane")]
    ControlPlane(controlplane::Options),
    #[command(name = "controlplane-feeder", hide = true)]
    ControlPlaneFeeder(controlplane::FeederOptions),
    #[command(name = "controlplane-gateway", hide = true)]
    ControlPlaneGateway(controlplane::GatewayOptions),
    /// The whole table of figures: measured, recorded, written up.
    #[command(after_help = examples::FIGURES)]
    Figures(suite::Options),
    /// Two sets of records: ratios, with what noise may make of them.
    #[command(after_help = examples::COMPARE)]
    Compare(compare::Options),
    /// A page with plots and tables of a set of records, as HTML and as Markdown.
    #[command(after_help = examples::REPORT)]
    Report(report::Options),
    /// Output of Pktgen-DPDK, driven by perf/pktgen/portgate.lua, as records.
    #[command(after_help = examples::IMPORT)]
    ImportPktgen(import::Options),
    /// Test traffic into a gateway, and out of it again.
    #[command(after_help = examples::GEN)]
    Gen(generate::Options),
    /// Receives what `perf gen` sends from elsewhere.
    #[command(after_help = examples::SINK)]
    Sink(sink::Options),
    /// The highest rate without loss (RFC 2544), and latency at parts of it.
    #[command(after_help = examples::SEARCH)]
    Search(search::Options),
}

/// Runs the verb of the command line. 0: measured; 1: failed; 2: wrong use.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Engine(options) => engine::run(&options),
        Verb::Walk(options) => engine::walk::run(&options),
        Verb::FanOut(options) => engine::fan_out::run(&options),
        Verb::Kernel(options) => kernel::run(&options),
        Verb::KernelSender(options) => kernel::run_sender(&options),
        Verb::Capsule(options) => capsule::run(&options),
        Verb::ControlPlane(options) => controlplane::run(&options),
        Verb::ControlPlaneFeeder(options) => controlplane::run_feeder(&options),
        Verb::ControlPlaneGateway(options) => controlplane::run_gateway(&options),
        Verb::Figures(options) => suite::run(&options),
        Verb::Compare(options) => compare::run(&options),
        Verb::Report(options) => report::run(&options),
        Verb::ImportPktgen(options) => import::run(&options),
        Verb::Gen(options) => generate::run(&options),
        Verb::Sink(options) => sink::run(&options),
        Verb::Search(options) => search::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let verb = match error {
                Error::Usage(_) => "perf: wrong use",
                Error::Run(_) => "perf",
            };
            eprintln!("{verb}: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
