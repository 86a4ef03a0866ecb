//! Giving a NIC to a program (vfio-pci), and back to the kernel.
//!
//! The device is told which driver may have it (`driver_override`), so nothing happens to other devices
//! of the same kind, neither now nor when one is plugged in.

use super::iommu::{self, NO_IOMMU, Presence, VFIO_PCI};
use super::nics::{self, Nic};
use super::routes::Use;
use super::undo::{Before, NicBefore};
use super::{HostError, Kernel, Root, Step};

/// What is allowed although it may hurt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Consent {
    /// To take a NIC that carries the default route or the session.
    pub force: bool,
    /// To do without an IOMMU: the NIC can then write to any memory, and so can whoever drives it.
    pub no_iommu: bool,
}

/// The steps that give a NIC to vfio-pci; none if it has it.
///
/// # Errors
///
/// [`HostError::Refused`] with the reason, and with what to do.
pub fn plan(root: &Root, nic: &Nic, consent: Consent) -> Result<Vec<Step>, HostError> {
    if nic.is_bound() {
        return Ok(Vec::new());
    }
    check_use(nic, consent)?;
    let iommu = iommu::iommu(root);
    if iommu.vfio_pci == Presence::Missing {
        let release = root.text("/proc/sys/kernel/osrelease").unwrap_or_default();
        return refuse(format!(
            "this kernel ({release}) has no vfio-pci, neither built in nor as a module: boot one that has, as \
             Debian's have"
        ));
    }
    let mut steps = Vec::new();
    if iommu.vfio_pci == Presence::Module {
        steps.push(Step::Load {
            module: VFIO_PCI.to_owned(),
        });
    }
    steps.extend(without_iommu(nic, &iommu, consent)?);
    let folder = nic.folder();
    steps.push(Step::write(format!("{folder}/driver_override"), VFIO_PCI));
    steps.extend(nic.driver.as_deref().map(|driver| unbind_from(nic, driver)));
    steps.push(probe(nic));
    Ok(steps)
}

/// Binds the NIC, and keeps what was before. If the kernel does not do it, the NIC gets its driver back.
///
/// # Errors
///
/// [`HostError`] as [`plan`], or with what the kernel said.
pub fn bind(
    root: &Root,
    kernel: &mut dyn Kernel,
    nic: &Nic,
    consent: Consent,
) -> Result<(), HostError> {
    let steps = plan(root, nic, consent)?;
    if steps.is_empty() {
        return Ok(());
    }
    let mut before = Before::load(root)?;
    let had_no_iommu = iommu::iommu(root).unsafe_no_iommu == Some(true);
    let done = steps.iter().try_for_each(|step| step.apply(kernel));
    let done = done.and_then(|()| expect(root, nic, Some(VFIO_PCI)));
    if let Err(error) = done {
        for step in back(root, nic, Home::was(nic.driver.as_deref())) {
            // As far as it goes: the first error is the one to tell.
            let _ = step.apply(kernel);
        }
        let state = match expect(root, nic, nic.driver.as_deref()) {
            Ok(()) => "it has its driver back",
            Err(_) => "and it did not get its driver back",
        };
        return Err(HostError::Failed(format!("{error}; {state}")));
    }
    before.nics.retain(|known| known.address != nic.address);
    before.nics.push(NicBefore {
        address: nic.address.clone(),
        driver: nic.driver.clone(),
    });
    let is_on = iommu::iommu(root).unsafe_no_iommu == Some(true);
    before.no_iommu |= is_on && !had_no_iommu;
    before.save(root)
}

/// The steps that give a NIC back to the kernel; none if the kernel has it.
///
/// # Errors
///
/// [`HostError::Failed`] if what was before cannot be read.
pub fn plan_unbind(root: &Root, nic: &Nic) -> Result<Vec<Step>, HostError> {
    if !nic.is_bound() {
        return Ok(Vec::new());
    }
    let before = Before::load(root)?;
    let known = before.nic(&nic.address);
    let home = known.map_or(Home::Whichever, |nic| Home::was(nic.driver.as_deref()));
    let mut steps = back(root, nic, home);
    let is_last = before.nics.iter().all(|known| known.address == nic.address);
    if before.no_iommu && is_last {
        steps.push(Step::write(NO_IOMMU, "N"));
    }
    Ok(steps)
}

/// Gives the NIC back to the driver that had it, or, if that is not known, to whichever wants it.
///
/// # Errors
///
/// [`HostError::Failed`] with what the kernel said.
pub fn unbind(root: &Root, kernel: &mut dyn Kernel, nic: &Nic) -> Result<(), HostError> {
    for step in plan_unbind(root, nic)? {
        step.apply(kernel)?;
    }
    let mut before = Before::load(root)?;
    let known = before.nic(&nic.address).cloned();
    before.nics.retain(|known| known.address != nic.address);
    before.no_iommu &= !before.nics.is_empty();
    before.save(root)?;
    match known {
        Some(known) => expect(root, nic, known.driver.as_deref()),
        None => match driver(root, nic) {
            Some(driver) if driver != VFIO_PCI => Ok(()),
            _ => Err(HostError::Failed(format!(
                "no driver of the kernel took {}: load the one for {} (modprobe)",
                nic.address, nic.id
            ))),
        },
    }
}

fn check_use(nic: &Nic, consent: Consent) -> Result<(), HostError> {
    let mut uses = nic.interfaces.iter().flat_map(|interface| {
        interface
            .needed_for
            .iter()
            .map(|why| (interface.name.as_str(), *why))
    });
    match uses.next() {
        Some((name, why)) if !consent.force => {
            let why = match why {
                Use::DefaultRoute => "the default route",
                Use::Session => "the session that you are in",
            };
            refuse(format!(
                "{} ({name}) carries {why}: the machine would no longer be reached that way; \
                 --force takes it all the same",
                nic.address
            ))
        }
        _ => Ok(()),
    }
}

/// What is to be done, or to be refused, about memory protection.
fn without_iommu(
    nic: &Nic,
    iommu: &iommu::Iommu,
    consent: Consent,
) -> Result<Option<Step>, HostError> {
    if !nic.bound_beside.is_empty() {
        return refuse(format!(
            "{} shares IOMMU group {} with {}, which a driver of the kernel has: they can only be given \
             away together",
            nic.address,
            nic.group.as_deref().unwrap_or("?"),
            nic.bound_beside.join(", ")
        ));
    }
    if nic.group.is_some() && iommu.is_on() {
        return Ok(None);
    }
    if !consent.no_iommu {
        return refuse(format!(
            "no IOMMU keeps {} apart: turn it on in the firmware (VT-d, AMD-Vi; for a VM, in its host's \
             settings) and boot with intel_iommu=on or amd_iommu=on; or let the NIC write to any memory \
             of this machine: --no-iommu",
            nic.address
        ));
    }
    // Not known before vfio is loaded.
    if iommu.unsafe_no_iommu.is_none() && iommu.vfio_pci == Presence::Loaded {
        return refuse(
            "--no-iommu: this kernel cannot do that (it was built without CONFIG_VFIO_NOIOMMU, as Debian's \
             are)"
                .to_owned(),
        );
    }
    let is_on = iommu.unsafe_no_iommu == Some(true);
    Ok((!is_on).then(|| Step::write(NO_IOMMU, "Y")))
}

/// Who is to have a NIC that a program no longer needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home<'a> {
    /// The driver that had it.
    Driver(&'a str),
    /// Nobody, as before.
    Nobody,
    /// Whichever driver wants it: what was before is not known.
    Whichever,
}

impl<'a> Home<'a> {
    fn was(driver: Option<&'a str>) -> Self {
        driver.map_or(Self::Nobody, Self::Driver)
    }
}

/// From whatever has the NIC now to where it belongs.
fn back(root: &Root, nic: &Nic, home: Home<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Home::Driver(module) = home
        && !root.has(&format!("/sys/bus/pci/drivers/{module}"))
    {
        steps.push(Step::Load {
            module: module.to_owned(),
        });
    }
    steps.push(Step::write(
        format!("{}/driver_override", nic.folder()),
        "\n",
    ));
    if driver(root, nic).as_deref() == Some(VFIO_PCI) {
        steps.push(unbind_from(nic, VFIO_PCI));
    }
    if home != Home::Nobody {
        steps.push(probe(nic));
    }
    steps
}

fn unbind_from(nic: &Nic, driver: &str) -> Step {
    Step::write(
        format!("/sys/bus/pci/drivers/{driver}/unbind"),
        &nic.address,
    )
}

fn probe(nic: &Nic) -> Step {
    Step::write("/sys/bus/pci/drivers_probe", &nic.address)
}

fn driver(root: &Root, nic: &Nic) -> Option<String> {
    root.target(&format!("{}/driver", nic.folder()))
}

/// The kernel says nothing when a driver does not want a device.
fn expect(root: &Root, nic: &Nic, wanted: Option<&str>) -> Result<(), HostError> {
    let found = driver(root, nic);
    if found.as_deref() == wanted {
        return Ok(());
    }
    let name = |driver: Option<&str>| driver.unwrap_or("no driver").to_owned();
    Err(HostError::Failed(format!(
        "{} has {} and not {}: the kernel's log says why (dmesg)",
        nic.address,
        name(found.as_deref()),
        name(wanted)
    )))
}

fn refuse<T>(sentence: String) -> Result<T, HostError> {
    Err(HostError::Refused(sentence))
}

/// The NIC of this name, as it is now.
///
/// # Errors
///
/// [`HostError::Refused`] if there is none.
pub fn look_up(
    root: &Root,
    session: Option<&super::routes::Session>,
    name: &str,
) -> Result<Nic, HostError> {
    nics::find(&nics::nics(root, session), name).cloned()
}

#[cfg(test)]
#[path = "bind_tests.rs"]
mod tests;
