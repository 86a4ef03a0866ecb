//! Commands of the page on installation, typed where they belong.

use std::fs;
use std::net::IpAddr;
use std::time::Instant;

use ci::book::blocks::{Block, Place, blocks};
use ci::book::{root, text};
use ci::topology::{OUTSIDE, Topology};
use ci::vm::{Machine, Model};

/// The page that is followed.
pub const PAGE: &str = "docs/install.md";

/// Where the page begins to take everything away again.
const AWAY: &str = "## Taking it away again";

/// Where the page begins with the kernel: before that it is about the package alone.
const IOMMU: &str = "## The IOMMU";

/// Where the page begins with what depends on the NICs.
const CONFIGURATION: &str = "## The configuration";

/// Where the page begins to start the gateway.
const STARTING: &str = "## Starting";

/// The page in its parts.
pub struct Page {
    text: String,
}

impl Page {
    pub fn read() -> Self {
        Self { text: text(PAGE) }
    }

    /// Up to a gateway that serves.
    pub fn install(&self) -> &str {
        self.at(AWAY).0
    }

    /// The same without what is done once on a machine.
    pub fn after_the_package(&self) -> &str {
        let install = self.install();
        let (_, part) = install.split_once(CONFIGURATION).expect("that part");
        part
    }

    /// Until there is a package on the machine.
    pub fn package(&self) -> &str {
        self.at(IOMMU).0
    }

    /// From the configuration to NICs that vfio-pci has.
    pub fn preparation(&self) -> &str {
        let part = self.after_the_package();
        part.split_once(STARTING).expect("that part").0
    }

    /// The way back.
    pub fn away(&self) -> &str {
        self.at(AWAY).1
    }

    fn at(&self, heading: &str) -> (&str, &str) {
        let parts = self.text.split_once(heading);
        parts.unwrap_or_else(|| panic!("{PAGE} has no {heading:?}"))
    }
}

/// Types the commands of a page, each where it belongs, and writes the NICs' addresses into the configuration where the page
/// says so.
pub fn follow(net: &Topology, machine: &Machine<'_>, model: Model, page: &str) {
    let blocks = commands(page);
    assert!(!blocks.is_empty(), "no commands in {page:?}");
    for block in blocks {
        let started = Instant::now();
        match block.place {
            Place::Gateway => machine.run(&block.text),
            Place::Operator => machine.run_beside(&block.text, &root()),
            Place::Client => {
                let mut shell = net.client.command("sh");
                shell.args(["-e", "-c", &block.text]);
                ci::netns::finish(&mut shell)
            }
        };
        let first = block.text.lines().next().unwrap_or_default();
        println!("{:>8.1?} {first}", started.elapsed());
        if first.starts_with("cp ") {
            write_addresses(machine, model);
        }
    }
}

fn commands(page: &str) -> Vec<Block> {
    let blocks = blocks(page).unwrap_or_else(|why| panic!("{PAGE}, {why}"));
    blocks.into_iter().filter(Block::has_commands).collect()
}

/// Writes the NICs' addresses into the configuration that is the example's.
pub fn write_addresses(machine: &Machine<'_>, model: Model) {
    for (example, own) in Model::PLAIN[0].addresses().iter().zip(model.addresses()) {
        machine.run(&format!(
            "sed -i 's/pci:{example}/pci:{own}/' /etc/portgate/portgate.toml"
        ));
    }
}

/// The page is checked in the ordinary run, too: its addresses are those of the topology.
#[test]
fn the_page_on_installation_has_commands_for_every_place_and_the_addresses_of_the_test() {
    let page = Page::read();
    let places: Vec<_> = commands(page.install())
        .iter()
        .map(|block| block.place)
        .collect();
    for place in [Place::Operator, Place::Gateway, Place::Client] {
        assert!(places.contains(&place), "no commands for {place:?}");
    }
    for part in [page.package(), page.preparation(), page.away()] {
        assert!(!commands(part).is_empty());
    }
    let example =
        fs::read_to_string(root().join("ci/package/examples/edge.toml")).expect("the example");
    for address in OUTSIDE.iter().map(IpAddr::to_string) {
        assert!(
            example.contains(&format!("\"{address}/")),
            "{address} is not in edge.toml"
        );
    }
}
