//! `peer tcp-echo PORT`: an echo server in a process of its own.
//!
//! Both ends of ten thousand connections do not fit into the descriptors that one process may
//! open, so the tests run the far end here. It stops when it is killed.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let port = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tcp-echo", port] => port.parse::<u16>().ok(),
        _ => None,
    };
    let Some(port) = port else {
        eprintln!("usage: peer tcp-echo PORT");
        return ExitCode::from(2);
    };
    let Err(error) = ci::echo::run_tcp(port);
    eprintln!("peer: {error}");
    ExitCode::FAILURE
}
