//! Kept inputs to files and back: `kept unpack TARGET FOLDER`, `kept pack TARGET FOLDER` (one file an input,
//! as libFuzzer wants them). Packing replaces the target's seeds.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use fuzz::kept;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["unpack", target, folder] => unpack(target, Path::new(folder)),
        ["pack", target, folder] => pack(target, Path::new(folder)),
        _ => {
            eprintln!("usage: kept unpack|pack TARGET FOLDER");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(count) => {
            println!("{count} inputs");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kept: {error}");
            ExitCode::FAILURE
        }
    }
}

fn unpack(target: &str, folder: &Path) -> io::Result<usize> {
    fs::create_dir_all(folder)?;
    let mut count = 0;
    for kind in ["seeds", "crashes"] {
        let path = kept::path(kind, target);
        if kind == "crashes" && !path.exists() {
            continue;
        }
        for input in kept::read(&path)? {
            // Files of several inputs are for the tests: a fuzzer would only cut them up.
            if !input.starts_with(b"\xffchain") {
                fs::write(folder.join(format!("{kind}-{count}")), input)?;
                count += 1;
            }
        }
    }
    Ok(count)
}

fn pack(target: &str, folder: &Path) -> io::Result<usize> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(folder)? {
        inputs.push(fs::read(entry?.path())?);
    }
    let count = inputs.len();
    kept::write(&kept::path("seeds", target), inputs)?;
    Ok(count)
}
