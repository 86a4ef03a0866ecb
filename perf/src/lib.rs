//! The lab: what Portgate costs, measured on the machine at hand and set against floors measured in
//! the same run.
//!
//! Layers, from the top; each calls only those below it:
//!
//! | module | |
//! |---|---|
//! | [`cli`] | verbs and their options |
//! | [`engine`](mod@engine) | `perf engine`: the pipeline in process, over scenarios |
//! | [`controlplane`] | `perf controlplane`: from a cluster's objects to a worker's snapshot |
//! | [`generate`], [`sink`], [`search`] | `perf gen`, `sink`, `search`: traffic through a gateway |
//! | [`options`], [`session`], [`tester`] | what these have in common |
//! | [`lab`], [`ports`], [`netns`] | a gateway of our own; devices; network namespaces |
//! | [`traffic`] | test traffic over any link |
//! | [`kernel`] | `perf kernel`: kube-proxy's rules in the kernel, and the gateway between the same veths |
//! | [`capsule`] | `perf capsule`: the crate capsule, in turns with the gateway |
//! | [`import`] | `perf import-pktgen`: records of what Pktgen-DPDK counted |
//! | [`floors`] | what the same frames cost with less done to them |
//! | [`bench`](mod@bench) | the loop that all of these are timed in, and its frames and links |
//! | [`suite`] | `perf figures`: all of them |
//! | [`compare`], [`report`] | `perf compare`, `perf report` |
//! | [`figures`] | the table of figures: what is measured, what was asked for |
//! | [`set`] | records read back |
//! | [`child`] | programs that print records |
//! | [`record`], [`host`], [`priority`], [`pages`], [`stats`] | results, and the machine |

pub mod bench;
pub mod capsule;
pub mod child;
pub mod cli;
pub mod compare;
pub mod controlplane;
pub mod engine;
pub mod figures;
pub mod floors;
pub mod generate;
pub mod host;
pub mod import;
pub mod kernel;
pub mod lab;
pub mod netns;
pub mod options;
pub mod pages;
pub mod ports;
pub mod priority;
pub mod record;
pub mod report;
pub mod search;
pub mod session;
pub mod set;
pub mod sink;
pub mod stats;
pub mod suite;
pub mod tester;
pub mod traffic;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Options that contradict each other or the machine: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A run that failed, or whose result would be no result: exit code 1.
    #[error("{0}")]
    Run(String),
}

impl Error {
    /// The exit code that tells them apart.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Run(_) => 1,
        }
    }
}

impl From<dpdk::Error> for Error {
    fn from(error: dpdk::Error) -> Self {
        Self::Run(error.to_string())
    }
}
