//! What the region of the running gateway shows: counters, links, flow tables, what is installed.
//!
//! An [`Observer`] maps the region read-only, beside the main loop, for metrics and the status page. A
//! worker notices nothing of it but cache lines that it shares. The flow tables are counted ([`Survey`]) only
//! when somebody asks, and seldom enough to use a tenth of one CPU at most, however large they are.

mod contents;
mod counters;
mod histogram;
mod installed;
mod survey;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hugepages::{LinkInfo, Region, RingFill, State};

pub use contents::Contents;
pub use counters::{AllCounters, drops, total};
pub use histogram::{Histogram, QUANTILES};
pub use installed::{Installed, InstalledEndpoint, InstalledService};
pub use survey::{FamilySurvey, STATES, SnatUse, Survey};

/// A data plane that has not been heard of for this long does not run: it beats at least every few hundred
/// microseconds, but installing a hundred thousand services keeps it busy for seconds.
pub const SILENCE: Duration = Duration::from_secs(10);

/// The flow tables are counted again after this time, or ten times what counting took, if that is longer.
const SURVEY_REST: Duration = Duration::from_secs(2);

/// Looks at one region; clones share what they have found.
#[derive(Debug, Clone)]
pub struct Observer {
    path: PathBuf,
    kept: Arc<Mutex<Kept>>,
}

/// What is good for more than one look.
#[derive(Debug, Default)]
struct Kept {
    region: Option<Arc<Region>>,
    installed: Option<(State, Arc<Installed>)>,
    survey: Option<(Instant, Arc<Survey>)>,
}

/// The gateway at one moment.
#[derive(Debug)]
pub struct View {
    region: Arc<Region>,
    /// What the workers and the main core have counted.
    pub counters: AllCounters,
    /// What is installed.
    pub installed: Arc<Installed>,
    /// What the flow tables held a moment ago.
    pub survey: Arc<Survey>,
    /// How long ago that was.
    pub survey_age: Duration,
}

impl Observer {
    /// For the region at this path, whether or not it exists yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            kept: Arc::default(),
        }
    }

    /// Looks at the gateway. It may take as long as counting all flows does.
    ///
    /// # Errors
    ///
    /// A sentence: there is no region, or it cannot be used.
    pub fn look(&self) -> Result<View, String> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let region = kept.region(&self.path)?;
        let installed = kept.installed(&region)?;
        let (taken, survey) = kept.survey(&region);
        Ok(View {
            counters: AllCounters::of(&region),
            installed,
            survey,
            survey_age: taken.elapsed(),
            region,
        })
    }
}

impl Kept {
    /// The region, mapped anew when a data plane has put another one in its place.
    fn region(&mut self, path: &Path) -> Result<Arc<Region>, String> {
        if let Some(region) = self.region.as_ref().filter(|region| region.is_current()) {
            return Ok(region.clone());
        }
        *self = Self::default();
        let region = Region::observe(path).map_err(|error| error.to_string())?;
        let region = Arc::new(region);
        self.region = Some(region.clone());
        Ok(region)
    }

    /// What is installed; read again when it is another state.
    fn installed(&mut self, region: &Region) -> Result<Arc<Installed>, String> {
        let state = region.installed();
        match (&self.installed, state) {
            (Some((read, installed)), Some(state)) if *read == state => {
                return Ok(installed.clone());
            }
            _ => {}
        }
        // The state was read first: should a newer one be read now, the next look reads it once more.
        match Installed::read(region) {
            Ok(installed) => {
                let installed = Arc::new(installed);
                self.installed = state.map(|state| (state, installed.clone()));
                Ok(installed)
            }
            // It is being written this moment; what was installed before will do.
            Err(error) => match &self.installed {
                Some((_, installed)) => Ok(installed.clone()),
                None => Err(error),
            },
        }
    }

    fn survey(&mut self, region: &Region) -> (Instant, Arc<Survey>) {
        if let Some((taken, survey)) = &self.survey {
            let rest = SURVEY_REST.max(survey.took * 10);
            if taken.elapsed() < rest {
                return (*taken, survey.clone());
            }
        }
        let survey = Arc::new(Survey::of(region));
        let taken = Instant::now();
        self.survey = Some((taken, survey.clone()));
        (taken, survey)
    }
}

impl View {
    /// How long nothing has been heard of the data plane.
    #[must_use]
    pub fn silence(&self) -> Duration {
        silence(&self.region)
    }

    /// Whether a data plane runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.silence() < SILENCE
    }

    /// Whether what the data plane has installed is what the control plane wants; `None` for the moment
    /// when either is writing.
    #[must_use]
    pub fn is_as_wanted(&self) -> Option<bool> {
        let (installed, wanted) = (self.region.installed()?, self.region.wanted()?);
        Some(installed.digest == wanted.digest)
    }

    /// The command ring and the reply ring; `None` when their positions are impossible.
    #[must_use]
    pub fn rings(&self) -> Option<[RingFill; 2]> {
        self.region.ring_fill().ok()
    }

    /// The links that have a description, by their number.
    #[must_use]
    pub fn links(&self) -> Vec<(usize, LinkInfo)> {
        links(&self.region)
    }
}

/// The links of this region that have a description, by their number.
#[must_use]
pub fn links(region: &Region) -> Vec<(usize, LinkInfo)> {
    let read = |at: u16| Some((usize::from(at), LinkInfo::read(&region.link(at))?));
    (0..region.geometry().links).filter_map(read).collect()
}

/// How long nothing has been heard of the data plane of this region.
#[must_use]
pub fn silence(region: &Region) -> Duration {
    let now = hugepages::region::monotonic_nanos();
    Duration::from_nanos(now.saturating_sub(region.data_plane().heartbeat))
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
