//! From wishes to EAL's command line.

use crate::error::Error;

/// How DPDK is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalConfig {
    /// Packet memory on huge pages (`--in-memory`: nothing is left behind, no mount is needed), or
    /// on ordinary ones (`--no-huge`).
    pub huge_pages: bool,
    /// Packet memory in MiB (`-m`), all of it taken at start.
    pub memory_mb: u32,
    /// The lcores; the first is the calling thread's own (`--main-lcore`), the others are for
    /// [`Eal::launch`](crate::Eal::launch).
    pub lcores: Vec<LcorePlan>,
    /// Virtual devices to create at start (`--vdev`); [`Port::open`](crate::Port::open) creates
    /// them as well, with better messages.
    pub vdevs: Vec<String>,
    /// PCI addresses that DPDK may take (`--allow`); none = the bus is not even looked at
    /// (`--no-pci`).
    pub pci_allow: Vec<String>,
    /// Tells this process from other DPDK processes of the machine (`--file-prefix`); also its
    /// name in logs.
    pub file_prefix: String,
    /// What DPDK writes to stderr. It never writes to stdout.
    pub log_level: LogLevel,
}

/// One lcore and where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LcorePlan {
    /// Number of the lcore: below 128 as DPDK is built (`RTE_MAX_LCORE`), each once.
    pub id: u32,
    /// The CPU it is pinned to; `None` = it floats over all CPUs that the process may use.
    pub cpu: Option<u16>,
}

/// Least important level that DPDK still logs (`--log-level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Errors alone.
    Error,
    /// And warnings.
    #[default]
    Warning,
    /// And notices.
    Notice,
    /// And information.
    Info,
    /// Everything.
    Debug,
}

/// EAL's arguments (22.11's names), the program's name first.
pub(crate) fn arguments(config: &EalConfig, allowed_cpus: &[u16]) -> Result<Vec<String>, Error> {
    check(config, allowed_cpus)?;
    let mut arguments = vec![config.file_prefix.clone()];
    // 22.11 refuses `--no-huge` with `--in-memory`; `--no-shconf` is the part of the latter that
    // keeps files out of /var/run. One file descriptor a page is too many: hence the single file.
    let memory: &[&str] = if config.huge_pages {
        &["--in-memory", "--single-file-segments"]
    } else {
        &["--no-huge", "--no-shconf"]
    };
    arguments.extend(memory.iter().copied().map(str::to_owned));
    arguments.extend(["-m".to_owned(), config.memory_mb.to_string()]);
    arguments.push(format!("--lcores={}", lcores(&config.lcores, allowed_cpus)));
    arguments.push(format!("--main-lcore={}", config.lcores[0].id));
    arguments.push(format!("--file-prefix={}", config.file_prefix));
    arguments.push(format!("--log-level={}", config.log_level.name()));
    if config.log_level == LogLevel::Debug {
        // The global level caps the levels of the components; it does not raise them.
        arguments.push("--log-level=*:debug".to_owned());
    }
    arguments.push("--no-telemetry".to_owned());
    if config.pci_allow.is_empty() {
        arguments.push("--no-pci".to_owned());
    }
    arguments.extend(config.pci_allow.iter().map(|pci| format!("--allow={pci}")));
    arguments.extend(config.vdevs.iter().map(|vdev| format!("--vdev={vdev}")));
    Ok(arguments)
}

impl LogLevel {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// `id@cpu` for the pinned ones, `id@(every allowed CPU)` for the floating ones.
fn lcores(plans: &[LcorePlan], allowed_cpus: &[u16]) -> String {
    let everywhere = join(allowed_cpus);
    let one = |plan: &LcorePlan| match plan.cpu {
        Some(cpu) => format!("{}@{cpu}", plan.id),
        None => format!("{}@({everywhere})", plan.id),
    };
    plans.iter().map(one).collect::<Vec<_>>().join(",")
}

fn check(config: &EalConfig, allowed_cpus: &[u16]) -> Result<(), Error> {
    let fail = |sentence: String| Err(Error::Config(sentence));
    if config.lcores.is_empty() {
        return fail("at least one lcore is needed, for the calling thread".to_owned());
    }
    if config.memory_mb == 0 {
        return fail("packet memory of 0 MiB is not enough".to_owned());
    }
    for (position, plan) in config.lcores.iter().enumerate() {
        if plan.id >= dpdk_sys::RTE_MAX_LCORE {
            let last = dpdk_sys::RTE_MAX_LCORE - 1;
            return fail(format!(
                "lcore {} does not exist, {last} is the last",
                plan.id
            ));
        }
        if config.lcores[..position]
            .iter()
            .any(|other| other.id == plan.id)
        {
            return fail(format!("lcore {} is given twice", plan.id));
        }
        if let Some(cpu) = plan.cpu.filter(|cpu| !allowed_cpus.contains(cpu)) {
            let allowed = join(allowed_cpus);
            return fail(format!(
                "lcore {} cannot run on CPU {cpu}: this process may use CPUs {allowed}",
                plan.id
            ));
        }
    }
    let prefix = &config.file_prefix;
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if prefix.is_empty() || !prefix.bytes().all(harmless) {
        return fail(format!(
            "file prefix {prefix:?} must be made of letters, digits, '-', '_' and '.'"
        ));
    }
    let mut texts = config.vdevs.iter().chain(&config.pci_allow);
    texts
        .find(|text| text.is_empty() || text.contains('\0'))
        .map_or(Ok(()), |text| fail(format!("device {text:?} is no device")))
}

fn join(cpus: &[u16]) -> String {
    cpus.iter()
        .map(u16::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> EalConfig {
        EalConfig {
            huge_pages: false,
            memory_mb: 64,
            lcores: vec![
                LcorePlan { id: 0, cpu: None },
                LcorePlan {
                    id: 1,
                    cpu: Some(3),
                },
            ],
            vdevs: vec![],
            pci_allow: vec![],
            file_prefix: "portgate-7".to_owned(),
            log_level: LogLevel::default(),
        }
    }

    #[test]
    fn floating_lcores_get_every_allowed_cpu_and_pinned_ones_their_own() {
        let arguments = arguments(&config(), &[2, 3]).unwrap();
        assert!(
            arguments.contains(&"--lcores=0@(2,3),1@3".to_owned()),
            "{arguments:?}"
        );
        assert!(arguments.contains(&"--main-lcore=0".to_owned()));
    }

    #[test]
    fn ordinary_and_huge_pages_take_the_arguments_that_go_together() {
        let ordinary = arguments(&config(), &[3]).unwrap();
        assert!(ordinary.contains(&"--no-huge".to_owned()));
        assert!(!ordinary.contains(&"--in-memory".to_owned()));
        let huge = EalConfig {
            huge_pages: true,
            ..config()
        };
        let huge = arguments(&huge, &[3]).unwrap();
        assert!(huge.contains(&"--in-memory".to_owned()));
        assert!(!huge.contains(&"--no-huge".to_owned()));
    }

    #[test]
    fn the_pci_bus_is_left_alone_unless_a_device_of_it_is_wanted() {
        assert!(
            arguments(&config(), &[3])
                .unwrap()
                .contains(&"--no-pci".to_owned())
        );
        let pci = EalConfig {
            pci_allow: vec!["0000:00:05.0".to_owned()],
            ..config()
        };
        let pci = arguments(&pci, &[3]).unwrap();
        assert!(!pci.contains(&"--no-pci".to_owned()));
        assert!(pci.contains(&"--allow=0000:00:05.0".to_owned()));
    }

    #[test]
    fn impossible_wishes_are_refused_in_a_sentence_that_names_them() {
        let lcore = |id, cpu| LcorePlan { id, cpu };
        let cases = [
            (
                EalConfig {
                    lcores: vec![],
                    ..config()
                },
                "at least one lcore",
            ),
            (
                EalConfig {
                    lcores: vec![lcore(1, None), lcore(1, None)],
                    ..config()
                },
                "lcore 1 is given twice",
            ),
            (
                EalConfig {
                    lcores: vec![lcore(128, None)],
                    ..config()
                },
                "lcore 128",
            ),
            (
                EalConfig {
                    lcores: vec![lcore(0, Some(9))],
                    ..config()
                },
                "CPU 9",
            ),
            (
                EalConfig {
                    memory_mb: 0,
                    ..config()
                },
                "0 MiB",
            ),
            (
                EalConfig {
                    file_prefix: "a/b".to_owned(),
                    ..config()
                },
                "\"a/b\"",
            ),
            (
                EalConfig {
                    vdevs: vec![String::new()],
                    ..config()
                },
                "\"\"",
            ),
        ];
        for (config, part) in cases {
            let text = arguments(&config, &[3]).unwrap_err().to_string();
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }
}
