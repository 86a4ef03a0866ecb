//! Completions and man pages, out of the definition of the arguments, and the reference of all settings.

use std::io::Write;

use clap::CommandFactory;

use crate::args::{Arguments, Generate};
use crate::failure::Failure;

/// Generates what was asked for.
pub(crate) fn run(what: &Generate, out: &mut dyn Write) -> Result<(), Failure> {
    match what {
        Generate::Completions { shell } => {
            let mut text = Vec::new();
            let mut command = Arguments::command();
            clap_complete::generate(*shell, &mut command, "portgate", &mut text);
            out.write_all(&text)?;
        }
        Generate::Man { directory } => {
            std::fs::create_dir_all(directory)
                .and_then(|()| clap_mangen::generate_to(Arguments::command(), directory))
                .map_err(|error| {
                    Failure::Failed(format!("cannot write to {}: {error}", directory.display()))
                })?;
        }
        Generate::Configuration => {
            let page = settings::reference::markdown().map_err(Failure::Failed)?;
            out.write_all(page.as_bytes())?;
        }
    }
    Ok(())
}
