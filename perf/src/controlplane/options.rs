//! `perf controlplane`'s options.

use std::str::FromStr;

use clap::Args;

use crate::Error;

/// Services, and endpoints of each: typed `10000x10`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Services.
    pub services: usize,
    /// Endpoints of each.
    pub endpoints: usize,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('x').and_then(|(services, endpoints)| {
            Some(Self {
                services: services.parse().ok()?,
                endpoints: endpoints.parse().ok()?,
            })
        });
        let rule = "must be SERVICESxENDPOINTS, like 10000x10";
        let size = parsed.ok_or_else(|| rule.to_owned())?;
        let all = size.services.saturating_mul(size.endpoints);
        if (1..=60_000).contains(&size.services) && (1..=1_000_000).contains(&all) {
            Ok(size)
        } else {
            Err("at most 60,000 services and 1,000,000 endpoints in all".to_owned())
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}x{}", self.services, self.endpoints)
    }
}

/// As typed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Sizes of clusters: services x endpoints of each. One ten times another's services is compared with it.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000x10,10000x10,500x50,5000x50,1x100000"
    )]
    pub sizes: Vec<Size>,
    /// Changes of one endpoint, of each size.
    #[arg(long, default_value_t = 600)]
    pub changes: usize,
    /// Of these, what a service with more than 1,000 endpoints gets.
    #[arg(long, default_value_t = 60)]
    pub changes_large: usize,
    /// Established flows whose frames are carried meanwhile.
    #[arg(long, default_value_t = 65_536)]
    pub flows: usize,
    /// Flows that the region's table is made for; the journal's size follows from it.
    #[arg(long, default_value_t = 1 << 20)]
    pub capacity: u32,
    /// Turns of carrying frames without changes and with them.
    #[arg(long, default_value_t = 6)]
    pub turns: usize,
    /// Milliseconds of each turn without changes.
    #[arg(long, default_value_t = 300)]
    pub quiet: u64,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print JSON, an object a line.
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// Checks what was typed.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] that names the option and the rule.
    pub fn check(&self) -> Result<(), Error> {
        let rules = [
            (!self.sizes.is_empty(), "--sizes names one at least"),
            (self.turns >= 1, "--turns is at least 1"),
            (self.changes >= self.turns, "--changes is at least --turns"),
            (
                self.changes_large >= self.turns,
                "--changes-large is at least --turns",
            ),
            (
                (1..=self.capacity as usize).contains(&self.flows),
                "--flows is 1 to --capacity",
            ),
            (
                (1024..=1 << 26).contains(&self.capacity),
                "--capacity is 1024 to 67108864",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(Error::Usage((*rule).to_owned())),
            None => Ok(()),
        }
    }

    /// Changes for this size.
    #[must_use]
    pub fn changes_of(&self, size: Size) -> usize {
        if size.endpoints > 1_000 {
            self.changes_large
        } else {
            self.changes
        }
    }
}
