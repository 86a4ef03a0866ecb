//! A region's data file in which anything may stand, as each of those who map it takes it. (What a
//! control plane may write into the other file: `ci/tests/compromised.rs`.)

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use engine::endpoints::EndpointSlots;
use engine::family::{Family, V4, V6};
use engine::flow::{FlowTable, Timeouts};
use engine::neighbour::Neighbours;
use engine::slots::ServiceSlots;
use hugepages::codec::{Assembler, decode_reply};
use hugepages::layout::Section;
use hugepages::object::Backend;
use hugepages::region::Family as RegionFamily;
use hugepages::{Geometry, LinkInfo, Region, RegionError};

use crate::input::Input;

/// Bytes at the front of the file that are always restored: header, rings' cursors and more.
const FRONT: usize = 64 * 1024;

/// Changes of the file that an input makes.
const CHANGES: usize = 64;

/// Records of a ring or a journal that are looked at.
const RECORDS: usize = 4096;

const SECTIONS: [Section; 16] = [
    Section::Header,
    Section::CommandsReader,
    Section::Replies,
    Section::Journal,
    Section::WorkerCounters,
    Section::ServiceKeys,
    Section::EndpointIndex,
    Section::EndpointKeys,
    Section::ServiceCounters,
    Section::Links,
    Section::Neighbours,
    Section::Affinity,
    Section::FlowBucketsV4,
    Section::FlowEntriesV4,
    Section::FlowBucketsV6,
    Section::FlowEntriesV6,
];

struct Template {
    path: PathBuf,
    front: Vec<u8>,
    length: u64,
    /// Where sections begin: what is worth changing.
    places: [usize; SECTIONS.len()],
}

thread_local! {
    static TEMPLATE: Template = Template::new();
}

/// Runs an input: changes of the file, then everything that reads it.
pub fn run(bytes: &[u8]) {
    TEMPLATE.with(|template| {
        template.restore();
        let mut input = Input(bytes);
        let how = input.byte();
        template.change(&mut input);
        if how & 1 == 0 {
            if let Ok(region) = Region::observe(&template.path) {
                observe(&region);
            }
            if let Ok(region) = Region::attach(&template.path) {
                control(&region);
            }
        }
        match Region::create(&template.path, &geometry()) {
            Ok((region, _)) => data(&region),
            Err(RegionError::Flawed { .. }) => {}
            Err(error) => panic!("a flawed region, or one to take over or to replace: {error}"),
        }
    });
}

fn geometry() -> Geometry {
    Geometry {
        command_records: 64,
        reply_records: 64,
        journal_records: 256,
        ..Geometry::new(1, 2, 64, 64)
    }
}

impl Template {
    fn new() -> Self {
        let path = crate::scratch().join("region");
        let (region, _) = Region::create(&path, &geometry()).expect("a region can be made");
        let places = SECTIONS.map(|section| region.layout().offset(section));
        drop(region);
        let file = File::open(&path).expect("it is there");
        let length = file.metadata().expect("it has a length").len();
        let mut front = vec![0; FRONT.min(length as usize)];
        file.read_exact_at(&mut front, 0).expect("it has a front");
        Self {
            path,
            front,
            length,
            places,
        }
    }

    fn restore(&self) {
        // Another file may be in its place.
        let file = self.file();
        file.set_len(0).expect("it can be emptied");
        file.write_all_at(&self.front, 0)
            .expect("it can be written");
        file.set_len(self.length).expect("it can be lengthened");
    }

    fn change(&self, input: &mut Input<'_>) {
        let file = self.file();
        for _ in 0..CHANGES {
            if input.is_empty() {
                return;
            }
            let (place, offset, length) = (input.byte(), input.word(), input.byte());
            if place == 0xff {
                let shorter = self.length.saturating_sub(u64::from(offset));
                file.set_len(shorter).expect("it can be cut");
                continue;
            }
            let start = self.places[usize::from(place) % self.places.len()];
            let bytes = input.take(usize::from(length));
            file.write_all_at(bytes, (start + usize::from(offset)) as u64)
                .expect("it can be written");
            if place & 0x80 == 0 {
                continue;
            }
            // The same again and again: many records or entries.
            for again in 1..32 {
                let at = start + usize::from(offset) + again * 64;
                if at + bytes.len() < self.length as usize {
                    file.write_all_at(bytes, at as u64).expect("as above");
                }
            }
        }
    }

    fn file(&self) -> File {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        options.open(&self.path).expect("the file is ours")
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        let _ = self.path.parent().map(fs::remove_dir_all);
    }
}

/// What the operator's command reads.
fn observe(region: &Region) {
    let _ = (region.installed(), region.wanted(), region.seeds());
    let _ = (region.data_plane(), region.control_plane());
    for link in 0..region.geometry().links {
        let _ = LinkInfo::read(&region.link(link));
    }
    let slots = ServiceSlots::new(region.service_keys());
    for slot in 0..region.geometry().service_slots {
        let _ = slots.key(slot);
    }
    let endpoints = EndpointSlots::of(region);
    for one in endpoints.all() {
        assert_eq!(endpoints.service(one.slot), one.service);
    }
    if let Ok(journal) = region.journal() {
        let mut assembler = Assembler::new();
        for record in journal.replay().take(RECORDS) {
            let Ok(record) = record else { break };
            if assembler.push(&record).is_err() {
                break;
            }
        }
    }
    flows::<V4>(region, RegionFamily::V4);
    flows::<V6>(region, RegionFamily::V6);
}

fn control(region: &Region) {
    if let Ok(mut replies) = region.replies_consumer() {
        for _ in 0..RECORDS {
            match replies.pop() {
                Ok(Some(record)) => drop(decode_reply(&record)),
                Ok(None) => break,
                Err(_) => {
                    replies.clear();
                    assert_eq!(replies.waiting(), Ok(0), "a cleared ring is usable");
                }
            }
        }
    }
    if let Ok(commands) = region.commands_producer() {
        let _ = commands.room();
    }
    region.beat();
}

/// What a data plane does that takes the region over.
fn data(region: &Region) {
    observe(region);
    if let Ok(mut commands) = region.commands_consumer() {
        let mut assembler = Assembler::new();
        for _ in 0..RECORDS {
            match commands.pop() {
                Ok(Some(record)) => drop(assembler.push(&record)),
                Ok(None) => break,
                Err(_) => {
                    commands.clear();
                    assert_eq!(commands.waiting(), Ok(0), "a cleared ring is usable");
                }
            }
        }
    }
    let endpoints = EndpointSlots::of(region);
    let backend = Backend {
        address: [10, 0, 0, 1].into(),
        port: 80,
    };
    let slot = endpoints.slot(1, &backend);
    assert_eq!(endpoints.service(slot), 1);
    let neighbours = Neighbours::new(region.neighbours());
    neighbours.recover();
    for index in 0..neighbours.capacity() {
        let _ = neighbours.identity(index as u16);
    }
    let _ = neighbours.index(0, [10, 0, 0, 1].into(), 1000);
    take_over::<V4>(region, RegionFamily::V4);
    take_over::<V6>(region, RegionFamily::V6);
}

fn table<F: Family>(region: &Region, family: RegionFamily) -> FlowTable<F> {
    FlowTable::new(
        region.flow_buckets(family),
        region.flow_entries(family),
        region.seeds(),
    )
}

fn flows<F: Family>(region: &Region, family: RegionFamily) {
    let table = table::<F>(region, family);
    for flow in table.flows() {
        let _ = (F::tuple(&flow.forward), F::tuple(&flow.translated));
    }
}

fn take_over<F: Family>(region: &Region, family: RegionFamily) {
    let table = table::<F>(region, family);
    let live = table.recover();
    assert_eq!(table.recover(), live, "once is enough");
    for flow in table.flows() {
        let _ = table.find(&flow.forward, table.place(&flow.forward));
    }
    let all = table.bucket_count();
    for second in [0, 1000, 2_000_000] {
        table.age(&mut 0, all, second, &Timeouts::default(), |_| {});
    }
}
