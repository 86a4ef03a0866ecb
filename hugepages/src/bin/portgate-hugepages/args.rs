//! What was typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use hugepages::host::pages::{ONE_GIB, TWO_MIB};

/// Prepare a machine for portgate-dataplane: huge pages, and NICs bound to vfio-pci.
///
/// `status` changes nothing and needs no root. `reserve`, `bind` and `unbind` print what they do, one step a
/// line, as a person would type it; with --dry-run they print it and do nothing. What was before is kept in
/// /run/portgate until the next boot, so `reserve --undo` and `unbind` lead back to it.
///
/// Exit status: 0 done (or nothing to do), 1 the kernel did not do it, 2 wrong use, or refused.
#[derive(Debug, Parser)]
#[command(name = "portgate-hugepages", version, propagate_version = true)]
#[command(
    after_help = "Example:\n  portgate-hugepages bind --links --dry-run\n  portgate-hugepages bind --links"
)]
pub(crate) struct Arguments {
    /// Configuration file [default: /etc/portgate/portgate.toml, if it exists].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Take this folder for the machine's root: /sys, /proc, /etc and /run are looked for in it.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/",
        hide = true
    )]
    pub(crate) root: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show huge pages, mounts, limits, IOMMU, vfio and NICs, and what the configuration lacks.
    Status,
    /// Set huge pages aside: as many as the configuration needs, or as many as are named.
    ///
    /// Pages of 2 MiB are set aside at once. Memory in pieces of 1 GiB is there for sure at boot alone, so for these
    /// the line of the boot loader's configuration is printed.
    Reserve(Reserve),
    /// Give NICs to vfio-pci, so that DPDK can drive them.
    ///
    /// A NIC that carries the default route or the session of the caller is refused, and so is one that no IOMMU keeps
    /// apart, unless an option says so.
    Bind(Bind),
    /// Give NICs back to the drivers that had them.
    Unbind(Unbind),
}

/// Options of `reserve`.
#[derive(Debug, Args)]
pub(crate) struct Reserve {
    /// Free pages wanted [default: what the configuration needs].
    #[arg(long, value_name = "N")]
    pub(crate) pages: Option<u64>,
    /// Size of a page: 2M or 1G.
    #[arg(long, default_value = "2M", value_parser = size, requires = "pages")]
    pub(crate) size: u64,
    /// NUMA node to take them from [default: all, as the kernel spreads them].
    #[arg(long, value_name = "NODE", requires = "pages")]
    pub(crate) node: Option<u32>,
    /// Set the pools to what they had before the first `reserve`.
    #[arg(long, conflicts_with_all = ["pages", "size", "node"])]
    pub(crate) undo: bool,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Which NICs.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Nics {
    /// PCI addresses or interfaces: 0000:00:05.0, eth1.
    #[arg(value_name = "NIC")]
    pub(crate) names: Vec<String>,
    /// All NICs that the configuration's links name (device = "pci:...").
    #[arg(long)]
    pub(crate) links: bool,
}

/// Options of `bind`.
#[derive(Debug, Args)]
pub(crate) struct Bind {
    #[command(flatten)]
    pub(crate) nics: Nics,
    /// Take NICs even if they carry the default route or this session.
    #[arg(long)]
    pub(crate) force: bool,
    /// Do without an IOMMU: the NIC, and whoever drives it, can then write to any memory of this machine.
    #[arg(long)]
    pub(crate) no_iommu: bool,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `unbind`.
#[derive(Debug, Args)]
pub(crate) struct Unbind {
    #[command(flatten)]
    pub(crate) nics: Nics,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// KiB of a page of this name.
fn size(text: &str) -> Result<u64, &'static str> {
    match text.to_ascii_uppercase().as_str() {
        "2M" | "2MB" | "2MIB" => Ok(TWO_MIB),
        "1G" | "1GB" | "1GIB" => Ok(ONE_GIB),
        _ => Err("it is 2M or 1G"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn nics_are_named_or_those_of_the_links() {
        let parse = |text: &str| Arguments::try_parse_from(text.split_whitespace());
        assert!(parse("portgate-hugepages bind").is_err());
        assert!(parse("portgate-hugepages bind --links").is_ok());
        assert!(parse("portgate-hugepages bind eth1 0000:00:05.0 --force").is_ok());
        assert!(parse("portgate-hugepages reserve --size 3M --pages 1").is_err());
        assert!(parse("portgate-hugepages reserve --undo --pages 3").is_err());
    }
}
