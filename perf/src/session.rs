//! What `perf gen` and `perf search` begin and end with: priority, a lab if there is to be one, the gateway's counters,
//! and generator and sink on their devices.

use crate::Error;
use crate::lab::Lab;
use crate::lab::ledger::Ledger;
use crate::options::{LabOptions, Links, Load};
use crate::priority::Raised;
use crate::tester::Tester;
use crate::traffic::choice::Sizes;

/// Everything that is open; closed on drop, the devices first.
pub struct Session {
    tester: Tester,
    region: Option<Ledger>,
    lab: Option<Lab>,
    _raised: Option<Raised>,
}

impl Session {
    /// Opens it for frames of these sizes. In a lab, `load` and `links` say afterwards where that is.
    ///
    /// # Errors
    ///
    /// As [`LabOptions::start`], [`Ledger::open`] and [`Tester::open`].
    pub fn open(
        load: &mut Load,
        links: &mut Links,
        lab: &LabOptions,
        sizes: &Sizes,
    ) -> Result<Self, Error> {
        let raised = (!links.polite).then(Raised::now);
        let lab = lab.start(load, links)?;
        let region = match &links.gateway_region {
            Some(path) => Some(Ledger::open(path)?),
            None => None,
        };
        Ok(Self {
            tester: Tester::open(load, links, sizes)?,
            region,
            lab,
            _raised: raised,
        })
    }

    /// Both ends, and the gateway's counters where they are known.
    pub fn parts(&mut self) -> (&mut Tester, Option<&Ledger>) {
        let ledger = self.lab.as_ref().map(Lab::ledger);
        (&mut self.tester, ledger.or(self.region.as_ref()))
    }

    /// Fails if the lab's gateway has ended meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Lab::check`].
    pub fn check(&mut self) -> Result<(), Error> {
        self.lab.as_mut().map_or(Ok(()), Lab::check)
    }
}
