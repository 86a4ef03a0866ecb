//! Why the process ends before it is told to.

/// A failure, said in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong.
    #[error(transparent)]
    Settings(#[from] settings::Error),
    /// The configuration is right, but not for a data plane on this machine.
    #[error("{0}")]
    Unsuitable(String),
    /// The region cannot be had.
    #[error("region.path: {0}")]
    Region(#[from] hugepages::RegionError),
    /// DPDK refuses something.
    #[error("{0}{hint}", hint = setting(.0))]
    Dpdk(#[from] dpdk::Error),
    /// A link's device refuses something.
    #[error("link {link}: {source}")]
    Link {
        /// Name of the link.
        link: String,
        /// What is wrong with it.
        source: dpdk::Error,
    },
    /// The tap interface of a link cannot be had.
    #[error("link {link}: kernel_interface {interface}: {error}")]
    Tap {
        /// Name of the link.
        link: String,
        /// Name of the interface.
        interface: String,
        /// What the kernel says.
        error: std::io::Error,
    },
    /// The data plane that serves does not let go.
    #[error("cannot take over from the data plane that serves: {0}")]
    TakeOver(std::io::Error),
    /// Privileges cannot be given up.
    #[error("cannot give up privileges: {0}")]
    Confinement(String),
    /// Signals cannot be handled.
    #[error("cannot handle signals: {0}")]
    Signals(std::io::Error),
}

impl Error {
    /// 2 for what the configuration names wrongly, 1 for what fails at run time.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Unsuitable(_) => 2,
            Self::Link { source, .. } => match source {
                dpdk::Error::NoInterface { .. }
                | dpdk::Error::InterfaceDown { .. }
                | dpdk::Error::AlreadyOpen { .. }
                | dpdk::Error::Mtu { .. }
                | dpdk::Error::Device { .. } => 2,
                _ => 1,
            },
            Self::Region(
                hugepages::RegionError::InUse { .. } | hugepages::RegionError::NoSpace { .. },
            ) => 1,
            Self::Region(_) => 2,
            Self::Dpdk(_)
            | Self::Tap { .. }
            | Self::TakeOver(_)
            | Self::Confinement(_)
            | Self::Signals(_) => 1,
        }
    }
}

/// The setting that DPDK's complaint is about, for it knows none.
fn setting(error: &dpdk::Error) -> &'static str {
    match error {
        dpdk::Error::Pool { .. } => "; raise region.packet_memory_mb",
        dpdk::Error::Config(_) => "; see workers.cores, workers.count and region.packet_memory_mb",
        _ => "",
    }
}
