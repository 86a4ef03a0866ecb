//! `portgate counters`.

use std::io::Write;

use engine::counters::{Counters, LinkCounter, Total};
use engine::reason::Reason;
use hugepages::{LinkInfo, Region};
use serde_json::{Map, Value, json};
use settings::Settings;

use crate::args::CountersOptions;
use crate::failure::Failure;
use crate::observe::{self, AllCounters, LINK_COUNTERS, drops, numbers, total};
use crate::table::Table;

/// Shows the counters.
pub(crate) fn run(
    settings: &Settings,
    options: &CountersOptions,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let region = observe::open(settings)?;
    let counters = AllCounters::of(&region);
    let names = link_names(&region);
    if json {
        writeln!(out, "{}", document(&counters, &names))?;
        return Ok(());
    }
    let columns = columns(&counters, options.workers);
    let heading = |first: &str| {
        let names = columns.iter().map(|(name, _)| format!(">{name}"));
        std::iter::once(first.to_owned())
            .chain(names)
            .collect::<Vec<_>>()
    };
    let mut table = Table::new(&heading("FRAMES AND FLOWS"));
    for each in Total::ALL {
        row(&mut table, each.name(), &columns, |blocks| {
            total(blocks, each)
        });
    }
    table.flush(out)?;
    writeln!(out)?;
    let mut table = Table::new(&heading("DROPPED FRAMES BY REASON"));
    for reason in Reason::ALL {
        if options.all || drops(counters.blocks(), *reason) > 0 {
            row(&mut table, reason.name(), &columns, |blocks| {
                drops(blocks, *reason)
            });
        }
    }
    if table.pending() == 0 {
        table.push(["none"]);
    }
    table.flush(out)?;
    writeln!(out)?;
    links(&counters, &names, out)
}

/// A heading and the blocks whose sum stands under it.
type Columns<'a> = Vec<(String, &'a [Counters])>;

fn columns(counters: &AllCounters, workers: bool) -> Columns<'_> {
    let mut columns = vec![("TOTAL".to_owned(), counters.blocks())];
    if workers {
        let each = counters.workers().chunks(1).enumerate();
        columns.extend(each.map(|(number, block)| (format!("WORKER {number}"), block)));
        let main = &counters.blocks()[counters.workers().len()..];
        columns.push(("MAIN".to_owned(), main));
    }
    columns
}

fn row(table: &mut Table, name: &str, columns: &Columns<'_>, count: impl Fn(&[Counters]) -> u64) {
    let counts = columns.iter().map(|(_, blocks)| count(blocks).to_string());
    table.push(std::iter::once(name.to_owned()).chain(counts));
}

fn links(counters: &AllCounters, names: &[String], out: &mut dyn Write) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "LINK",
        ">RX FRAMES",
        ">RX BYTES",
        ">TX FRAMES",
        ">TX BYTES",
        ">UNFINISHED CHECKSUMS",
        ">TRUNCATED",
        ">DROPPED",
    ]);
    for (at, name) in names.iter().enumerate() {
        let counts = LINK_COUNTERS.map(|(counter, _)| counters.link(at, counter).to_string());
        table.push(std::iter::once(name.clone()).chain(counts));
    }
    Ok(table.flush(out)?)
}

/// The links' names, those that say nothing of themselves by their number.
fn link_names(region: &Region) -> Vec<String> {
    let name = |at: u16| {
        LinkInfo::read(&region.link(at)).map_or_else(|| format!("#{at}"), |info| info.name)
    };
    (0..region.geometry().links).map(name).collect()
}

fn document(counters: &AllCounters, names: &[String]) -> Value {
    let links = names.iter().enumerate().map(|(at, name)| {
        let count = |(counter, name): (LinkCounter, _)| (name, counters.link(at, counter));
        let mut link = numbers(LINK_COUNTERS.map(count));
        link.insert("name".to_owned(), name.clone().into());
        link
    });
    let workers = counters
        .workers()
        .chunks(1)
        .enumerate()
        .map(|(number, block)| {
            let mut worker = group(block);
            worker.insert("worker".to_owned(), number.into());
            worker
        });
    let mut document = group(counters.blocks());
    document.insert("links".to_owned(), links.collect());
    document.insert("workers".to_owned(), workers.collect());
    Value::Object(document)
}

fn group(blocks: &[Counters]) -> Map<String, Value> {
    let totals = numbers(Total::ALL.map(|each| (each.name(), total(blocks, each))));
    let drops = Reason::ALL
        .iter()
        .map(|reason| (reason.name(), drops(blocks, *reason)));
    let group = json!({"totals": totals, "drops": numbers(drops)});
    match group {
        Value::Object(group) => group,
        _ => Map::new(),
    }
}
