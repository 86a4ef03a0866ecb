//! `portgate-controlplane`: follows a cluster and tells the data plane what to do.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use portgate_controlplane::process::{Failure, run};

/// Follows a cluster's Services and tells the data plane what to do.
///
/// It needs no privilege: run it as a user of its own, in the group that region.group names.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = settings::DEFAULT_PATH)]
    config: PathBuf,
    /// Check the configuration and exit: 0 if it can be used, 2 if not.
    #[arg(long)]
    check: bool,
    /// Say nothing about being run as root.
    #[arg(long)]
    allow_root: bool,
}

/// The client's own errors are told by the source, with what follows from them.
const LOG: &str = ",kube_client=off";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let settings = match settings::load(&arguments.config) {
        Ok(settings) => settings,
        Err(error) => return fail(2, &error.to_string()),
    };
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    settings::log::start(settings.log, LOG);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %arguments.config.display(),
        region = %settings.region.path.display(),
        "starting"
    );
    if rustix::process::geteuid().is_root() && !arguments.allow_root {
        tracing::warn!(
            "running as root, which is not needed: start it as a user of the group that \
             region.group names (systemd: User=, Group=), or say --allow-root"
        );
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &error.to_string()),
    };
    let result = runtime.block_on(run(settings));
    // The source's thread may be waiting for the directory; nothing of it needs to end in order.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(why)) => fail(2, &why),
        Err(Failure::Runtime(why)) => fail(1, &why),
    }
}

fn fail(code: u8, why: &str) -> ExitCode {
    eprintln!("portgate-controlplane: {why}");
    ExitCode::from(code)
}
