//! Binding and back, against a machine in a folder.

use super::super::fake::Fake;
use super::super::routes::Session;
use super::*;

const ADDRESS: &str = "0000:00:02.0";

/// A machine with an IOMMU and vfio-pci, and a NIC that nobody needs.
fn machine() -> Fake {
    let fake = Fake::new();
    fake.nic(ADDRESS, "e1000e", "eth1");
    fake.group(ADDRESS, 4);
    fake.driver(VFIO_PCI);
    fake
}

fn nic(fake: &Fake) -> Nic {
    let session = Session::parse("10.2.0.9 5 10.2.0.1 22");
    look_up(&fake.root(), session.as_ref(), ADDRESS).unwrap()
}

fn refused(fake: &Fake, consent: Consent) -> String {
    let error = plan(&fake.root(), &nic(fake), consent).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

fn bind_it(fake: &mut Fake, consent: Consent) -> Result<(), HostError> {
    let (root, nic) = (fake.root(), nic(fake));
    bind(&root, fake, &nic, consent)
}

fn unbind_it(fake: &mut Fake) -> Result<(), HostError> {
    let (root, nic) = (fake.root(), nic(fake));
    unbind(&root, fake, &nic)
}

#[test]
fn a_nic_goes_to_vfio_and_back_to_its_driver() {
    let mut fake = machine();
    bind_it(&mut fake, Consent::default()).unwrap();
    let folder = format!("/sys/bus/pci/devices/{ADDRESS}");
    let expected = [
        format!("vfio-pci > {folder}/driver_override"),
        format!("{ADDRESS} > /sys/bus/pci/drivers/e1000e/unbind"),
        format!("{ADDRESS} > /sys/bus/pci/drivers_probe"),
    ];
    assert_eq!(fake.done, expected);
    assert!(nic(&fake).is_bound());
    assert_eq!(
        plan(&fake.root(), &nic(&fake), Consent::default()).unwrap(),
        []
    );

    unbind_it(&mut fake).unwrap();
    assert_eq!(nic(&fake).driver.as_deref(), Some("e1000e"));
    let root = fake.root();
    assert_eq!(
        root.text(&format!("{folder}/driver_override")).unwrap(),
        "(null)"
    );
    assert_eq!(Before::load(&root).unwrap(), Before::default());
    assert_eq!(plan_unbind(&root, &nic(&fake)).unwrap(), []);
}

#[test]
fn a_plan_changes_nothing() {
    let fake = machine();
    let steps = plan(&fake.root(), &nic(&fake), Consent::default()).unwrap();
    assert_eq!(steps.len(), 3);
    assert_eq!(nic(&fake).driver.as_deref(), Some("e1000e"));
}

#[test]
fn the_nic_of_the_default_route_or_of_the_session_is_taken_by_force_alone() {
    let route = "eth1 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0\n";
    let network = "eth1 0000020A 00000000 0001 0 0 0 0000FFFF 0 0 0\n";
    for (routes, expected) in [(route, "the default route"), (network, "the session")] {
        let fake = machine();
        fake.file("/proc/net/route", routes);
        let said = refused(&fake, Consent::default());
        assert!(said.contains(expected) && said.contains("(eth1)"), "{said}");
        let consent = Consent {
            force: true,
            ..Consent::default()
        };
        assert_eq!(plan(&fake.root(), &nic(&fake), consent).unwrap().len(), 3);
    }
}

#[test]
fn a_kernel_without_vfio_is_told_from_one_where_it_is_a_module() {
    let mut fake = Fake::new();
    fake.nic(ADDRESS, "e1000e", "eth1");
    fake.group(ADDRESS, 4);
    fake.file("/proc/sys/kernel/osrelease", "6.1-cloud\n");
    let said = refused(&fake, Consent::default());
    assert!(
        said.contains("6.1-cloud") && said.contains("has no vfio-pci"),
        "{said}"
    );
    fake.file(
        "/lib/modules/6.1-cloud/modules.dep",
        "kernel/drivers/vfio/pci/vfio-pci.ko:\n",
    );
    fake.modules = vec![VFIO_PCI];
    bind_it(&mut fake, Consent::default()).unwrap();
    assert_eq!(fake.done[0], "modprobe vfio-pci");
    assert!(nic(&fake).is_bound());
}

#[test]
fn without_an_iommu_it_takes_a_word_more() {
    let mut fake = Fake::new();
    fake.nic(ADDRESS, "e1000e", "eth1");
    fake.driver(VFIO_PCI);
    let said = refused(&fake, Consent::default());
    assert!(
        said.contains("no IOMMU") && said.contains("--no-iommu"),
        "{said}"
    );
    let consent = Consent {
        no_iommu: true,
        ..Consent::default()
    };
    assert!(refused(&fake, consent).contains("CONFIG_VFIO_NOIOMMU"));
    fake.file(NO_IOMMU, "N\n");
    bind_it(&mut fake, consent).unwrap();
    assert!(nic(&fake).is_bound());
    assert_eq!(fake.root().text(NO_IOMMU).unwrap(), "Y");
    unbind_it(&mut fake).unwrap();
    assert_eq!(fake.root().text(NO_IOMMU).unwrap(), "N");
}

#[test]
fn a_nic_that_shares_its_group_with_a_used_device_stays() {
    let fake = machine();
    fake.nic("0000:00:02.1", "e1000e", "eth2");
    fake.group("0000:00:02.1", 4);
    let said = refused(&fake, Consent::default());
    assert!(
        said.contains("shares IOMMU group 4 with 0000:00:02.1"),
        "{said}"
    );
}

#[test]
fn a_nic_that_vfio_does_not_take_gets_its_driver_back() {
    let mut fake = machine();
    let nic = nic(&fake);
    let root = fake.root();
    // The kernel would say so when it probes.
    std::fs::remove_file(root.path(&format!("/sys/bus/pci/devices/{ADDRESS}/iommu_group")))
        .unwrap();
    let error = bind(&root, &mut fake, &nic, Consent::default()).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    let said = error.to_string();
    assert!(said.contains("has no driver and not vfio-pci"), "{said}");
    assert!(said.ends_with("it has its driver back"), "{said}");
    assert_eq!(driver(&root, &nic).as_deref(), Some("e1000e"));
    assert_eq!(Before::load(&root).unwrap(), Before::default());
}

#[test]
fn a_nic_that_had_no_driver_has_none_again() {
    let mut fake = Fake::new();
    fake.nic(ADDRESS, "", "");
    fake.group(ADDRESS, 4);
    fake.driver(VFIO_PCI);
    bind_it(&mut fake, Consent::default()).unwrap();
    assert!(nic(&fake).is_bound());
    unbind_it(&mut fake).unwrap();
    assert_eq!(nic(&fake).driver, None);
}

#[test]
fn a_nic_that_somebody_else_bound_goes_to_whichever_driver_wants_it() {
    let mut fake = machine();
    bind_it(&mut fake, Consent::default()).unwrap();
    Before::default().save(&fake.root()).unwrap();
    unbind_it(&mut fake).unwrap();
    assert_eq!(nic(&fake).driver.as_deref(), Some("e1000e"));

    let mut fake = Fake::new();
    fake.nic(ADDRESS, "vfio-pci", "");
    fake.group(ADDRESS, 4);
    let error = unbind_it(&mut fake).unwrap_err().to_string();
    assert!(
        error.contains("no driver of the kernel took 0000:00:02.0"),
        "{error}"
    );
}
