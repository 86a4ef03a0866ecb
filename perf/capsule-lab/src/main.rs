//! `capsule-lab`: the crate capsule put to use beside the gateway. Nothing of the product is built with it.

mod bench;
mod echo;
mod nat;
mod start;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The crate capsule 0.1.5 as a peer to be measured and as an echo server.
#[derive(Debug, Parser)]
#[command(name = "capsule-lab", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// A NAT by one fixed translation over net_ring, written in three ways; JSON lines. `perf capsule`
    /// runs it in turns with the gateway's own pipeline.
    Bench(bench::Options),
    /// Answers ARP and echoes UDP for an address on a kernel interface (root).
    Echo(echo::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Bench(options) => bench::run(&options),
        Verb::Echo(options) => echo::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capsule-lab: {error}");
            ExitCode::FAILURE
        }
    }
}
