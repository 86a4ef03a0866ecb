//! The commands.

use std::path::Path;

use hugepages::host::bind::{self, Consent};
use hugepages::host::nics::{self, Nic};
use hugepages::host::reserve::{self, Want};
use hugepages::host::routes::Session;
use hugepages::host::status::status;
use hugepages::host::{HostError, Linux, Root, Step, need};
use serde::Serialize;
use settings::Settings;

use crate::args::{Arguments, Bind, Command, Nics, Reserve, Unbind};
use crate::show;

/// Why nothing, or not everything, was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Settings(#[from] settings::Error),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("{0}")]
    Usage(String),
    /// What was done before it.
    #[error("{failure}\ndone before it:\n{done}")]
    Halfway { failure: Box<Failure>, done: String },
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Usage(_) => 2,
            Self::Host(error) => error.exit_code(),
            Self::Halfway { .. } => 1,
        }
    }
}

/// Does what was typed, and returns what is to be printed.
pub(crate) fn run(arguments: &Arguments) -> Result<String, Failure> {
    let root = Root::new(&arguments.root);
    let settings = load(arguments.config.as_deref(), &root)?;
    let session = session(&root);
    let work = Work {
        root,
        settings,
        session,
    };
    let report = match &arguments.command {
        Command::Status => {
            let status = status(&work.root, work.settings.as_ref(), work.session.as_ref());
            return Ok(if arguments.json {
                json(&status)
            } else {
                show::status(&status)
            });
        }
        Command::Reserve(options) => work.reserve(options)?,
        Command::Bind(options) => work.bind(options)?,
        Command::Unbind(options) => work.unbind(options)?,
    };
    Ok(if arguments.json {
        json(&report)
    } else {
        report.text()
    })
}

/// What was, or would be, done.
#[derive(Debug, Default, Serialize)]
struct Report {
    dry_run: bool,
    steps: Vec<Step>,
}

impl Report {
    fn new(dry_run: bool) -> Self {
        Self {
            dry_run,
            steps: Vec::new(),
        }
    }

    fn text(&self) -> String {
        if self.steps.is_empty() {
            return "nothing to do\n".to_owned();
        }
        self.steps.iter().map(|step| format!("{step}\n")).collect()
    }

    /// Adds steps that are done by `act`, unless this is a dry run.
    fn add(
        &mut self,
        steps: Vec<Step>,
        act: impl FnOnce() -> Result<(), HostError>,
    ) -> Result<(), Failure> {
        if steps.is_empty() {
            return Ok(());
        }
        if !self.dry_run {
            act().map_err(|error| self.halfway(error.into()))?;
        }
        self.steps.extend(steps);
        Ok(())
    }

    fn halfway(&self, failure: Failure) -> Failure {
        if self.steps.is_empty() || self.dry_run {
            return failure;
        }
        Failure::Halfway {
            failure: Box::new(failure),
            done: self.text().trim_end().to_owned(),
        }
    }
}

struct Work {
    root: Root,
    settings: Option<Settings>,
    session: Option<Session>,
}

impl Work {
    fn reserve(&self, options: &Reserve) -> Result<Report, Failure> {
        let mut report = Report::new(options.dry_run);
        if options.undo {
            let steps = reserve::plan_undo(&self.root)?;
            report.add(steps, || reserve::undo(&self.root, &mut Linux(&self.root)))?;
            return Ok(report);
        }
        for want in self.wants(options)? {
            let plan = reserve::plan(&self.root, want);
            let step = plan.map_err(|error| report.halfway(error.into()))?;
            report.add(step.into_iter().collect(), || {
                reserve::reserve(&self.root, &mut Linux(&self.root), want)
            })?;
        }
        Ok(report)
    }

    fn wants(&self, options: &Reserve) -> Result<Vec<Want>, Failure> {
        if let Some(pages) = options.pages {
            return Ok(vec![Want {
                node: options.node,
                size_kib: options.size,
                pages,
            }]);
        }
        let settings = self.settings("reserve: name --pages, or")?;
        let nics = nics::nics(&self.root, None);
        Ok(reserve::wants(&need::needs(&self.root, settings, &nics)))
    }

    fn bind(&self, options: &Bind) -> Result<Report, Failure> {
        let consent = Consent {
            force: options.force,
            no_iommu: options.no_iommu,
        };
        let mut report = Report::new(options.dry_run);
        // All plans first: one that is refused leaves the others as they are.
        let mut plans = Vec::new();
        for nic in self.nics(&options.nics)? {
            plans.push((bind::plan(&self.root, &nic, consent)?, nic));
        }
        for (steps, nic) in plans {
            report.add(steps, || {
                bind::bind(&self.root, &mut Linux(&self.root), &nic, consent)
            })?;
        }
        Ok(report)
    }

    fn unbind(&self, options: &Unbind) -> Result<Report, Failure> {
        let mut report = Report::new(options.dry_run);
        for nic in self.nics(&options.nics)? {
            let steps = bind::plan_unbind(&self.root, &nic)?;
            report.add(steps, || {
                bind::unbind(&self.root, &mut Linux(&self.root), &nic)
            })?;
        }
        Ok(report)
    }

    fn nics(&self, wanted: &Nics) -> Result<Vec<Nic>, Failure> {
        let all = nics::nics(&self.root, self.session.as_ref());
        let mut names = wanted.names.clone();
        if wanted.links {
            let settings = self.settings("--links:")?;
            let links = settings.links.iter();
            names.extend(links.flat_map(|link| link.device.pci_addresses()));
        }
        let mut found: Vec<Nic> = Vec::new();
        for name in &names {
            let nic = nics::find(&all, name)?;
            if !found.contains(nic) {
                found.push(nic.clone());
            }
        }
        Ok(found)
    }

    fn settings(&self, why: &str) -> Result<&Settings, Failure> {
        let missing = || {
            let path = settings::DEFAULT_PATH;
            Failure::Usage(format!(
                "{why} a configuration is needed: {path} does not exist, and no --config is given"
            ))
        };
        self.settings.as_ref().ok_or_else(missing)
    }
}

/// The configuration that was named, or that is in its place.
fn load(named: Option<&Path>, root: &Root) -> Result<Option<Settings>, Failure> {
    match named {
        Some(file) => Ok(Some(settings::load(file)?)),
        None if root.has(settings::DEFAULT_PATH) => {
            Ok(Some(settings::load(&root.path(settings::DEFAULT_PATH))?))
        }
        None => Ok(None),
    }
}

/// The remote session that this program was started from. `sudo` takes the variable away from
/// its children, so those that started it are asked, too.
fn session(root: &Root) -> Option<Session> {
    if let Ok(text) = std::env::var("SSH_CONNECTION") {
        return Session::parse(&text);
    }
    let mut process = "self".to_owned();
    // As deep as shells may be nested.
    for _ in 0..32 {
        let environment = root
            .text(&format!("/proc/{process}/environ"))
            .unwrap_or_default();
        let variable = environment
            .split('\0')
            .find_map(|variable| variable.strip_prefix("SSH_CONNECTION="));
        if let Some(text) = variable {
            return Session::parse(text);
        }
        let status = root.text(&format!("/proc/{process}/status"))?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        process = parent.trim().to_owned();
        if process == "0" {
            return None;
        }
    }
    None
}

fn json(value: &impl Serialize) -> String {
    // These types have no map with keys that are not text, the one thing that cannot be written.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    format!("{text}\n")
}
