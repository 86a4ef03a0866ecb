//! `portgate-hugepages`: what a machine must give a data plane, looked at, set up and taken back.

mod args;
mod show;
mod work;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match work::run(&args::Arguments::parse()) {
        Ok(text) => {
            // Whoever closed standard output does not want to know.
            let _ = write!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("portgate-hugepages: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
