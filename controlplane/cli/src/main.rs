//! `portgate`: look into a running gateway, explain what it does, check what it is to be.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use portgate_cli::Arguments;

fn main() -> ExitCode {
    match portgate_cli::run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(sentence) = failure.sentence() {
                // Whoever closed standard error does not want to know.
                let _ = writeln!(std::io::stderr(), "portgate: {sentence}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
