//! `portgate-dataplane`: forwards packets by what the control plane has installed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use portgate_dataplane::Mode;

/// Forward packets to Kubernetes Services' endpoints.
///
/// Reads links, routes, workers and the region from the configuration; which Services there are, it is
/// told by portgate-controlplane through the region. Prints one line beginning with
/// "portgate-dataplane ready" when it forwards. SIGTERM and SIGINT end it; flows stay in the
/// region for the next start.
///
/// Exit status: 0 ended by a signal, 1 failed at run time, 2 wrong use or configuration.
#[derive(Debug, Parser)]
#[command(name = "portgate-dataplane", version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE", default_value = settings::DEFAULT_PATH)]
    config: PathBuf,
    /// Check the configuration and end: status 0 if it is right, 2 if not.
    #[arg(long)]
    check: bool,
    /// Take over from the data plane that serves the same region, if there is one: a hot upgrade. It goes on
    /// if this one fails, and ends with status 0 once this one forwards.
    #[arg(long)]
    takeover: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mode = match (arguments.check, arguments.takeover) {
        (true, _) => Mode::Check,
        (false, true) => Mode::TakeOver,
        (false, false) => Mode::Start,
    };
    match portgate_dataplane::run(&arguments.config, mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portgate-dataplane: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
