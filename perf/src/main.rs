//! `perf`: measures Portgate. Each verb prints a table, or JSON lines with `--json`.

use std::process::ExitCode;

fn main() -> ExitCode {
    perf::cli::main()
}
