//! The operator's command: what was typed ([`args`]), and a module for each thing it can do.
//!
//! `services`, `flows`, `counters`, `links` and `latency` read the region of a running gateway through a
//! read-only mapping ([`observe`], [`installed`]), and `services` and `latency` ask the control plane for what is not
//! in there ([`controlplane`], [`unproxied`]); `trace` asks the data plane; `explain` and `check` need no gateway.
//!
//! Who may call whom: the commands call `observe`, `installed`, `unproxied`, `words` and `table`; these call none
//! of them. Everything may call `failure`.
#![forbid(unsafe_code)]

pub mod args;
mod check;
mod controlplane;
mod counters;
mod endpoints;
mod explain;
mod failure;
mod flows;
mod generate;
mod help;
mod installed;
mod latency;
mod links;
mod manifests;
mod observe;
mod rates;
mod services;
mod table;
mod top;
mod trace;
mod unproxied;
mod version;
mod words;

use std::io::Write;

use settings::Settings;

pub use args::Arguments;
use args::Command;
pub use failure::Failure;

/// Does what the arguments ask for and prints the result on standard output.
///
/// # Errors
///
/// [`Failure`] holds the sentence to say and the exit code.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let result = dispatch(arguments, &mut out);
    // What was found before a failure is shown; the failure counts more than a full disk.
    let flushed = out.flush();
    result?;
    Ok(flushed?)
}

fn dispatch(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let json = arguments.json;
    let settings = || -> Result<Settings, Failure> { Ok(settings::load(&arguments.config)?) };
    match &arguments.command {
        Command::Services(options) => services::run(&settings()?, options, json, out),
        Command::Flows(options) => flows::run(&settings()?, options, json, out),
        Command::Counters(options) => counters::run(&settings()?, options, json, out),
        Command::Links => links::run(&settings()?, json, out),
        Command::Latency(options) => latency::run(&settings()?, options, json, out),
        Command::Top(options) => top::run(&settings()?, options, json, out),
        Command::Trace(options) => trace::run(&settings()?, options, json, out),
        Command::Explain(options) => explain::run(&settings()?, options, json, out),
        Command::Check(options) => check::run(&arguments.config, options, json, out),
        Command::Version => version::run(json, out),
        Command::Generate(what) => generate::run(what, out),
    }
}
