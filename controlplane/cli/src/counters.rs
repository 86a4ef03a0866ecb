//! `portgate counters`.

use std::io::Write;

use engine::counters::{Counters, LinkCounter, Total};
use engine::reason::Reason;
use portgate_controlplane::observe::{AllCounters, drops, total};
use serde_json::{Map, Value, json};
use settings::Settings;

use crate::args::CountersOptions;
use crate::failure::Failure;
use crate::observe::{self, numbers};
use crate::rates::{self, Reading};
use crate::table::Table;

/// Shows the counters.
pub(crate) fn run(
    settings: &Settings,
    options: &CountersOptions,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let read = || {
        let region = observe::open(settings)?;
        let (counters, names) = (AllCounters::of(&region), observe::link_names(&region));
        Ok((document(&counters, &names), ()))
    };
    let show = |reading: &Reading, (): &(), out: &mut dyn Write| {
        if json {
            let mut shown = reading.now.clone();
            if let Some(rates) = &reading.rates {
                shown["rates"] = rates.clone();
            }
            writeln!(out, "{shown}")?;
            return Ok(());
        }
        tables(reading, options, out)
    };
    rates::watch(&options.rates, !json, out, read, show)
}

fn tables(
    reading: &Reading,
    options: &CountersOptions,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let columns = columns(reading, options);
    let heading = |first: &str| {
        let names = columns.iter().map(|column| format!(">{}", column.name));
        std::iter::once(first.to_owned())
            .chain(names)
            .collect::<Vec<_>>()
    };
    let mut table = Table::new(&heading("FRAMES AND FLOWS"));
    for each in Total::ALL {
        row(&mut table, &columns, "totals", each.name());
    }
    table.flush(out)?;
    writeln!(out)?;
    let mut table = Table::new(&heading("DROPPED FRAMES BY REASON"));
    for reason in Reason::ALL.iter().map(|reason| reason.name()) {
        if options.all || reading.now["drops"][reason] != 0 {
            row(&mut table, &columns, "drops", reason);
        }
    }
    if table.pending() == 0 {
        table.push(["none"]);
    }
    table.flush(out)?;
    writeln!(out)?;
    links(reading, out)
}

/// A column: groups of numbers, by their names.
struct Column<'a> {
    name: String,
    groups: &'a Value,
    is_rate: bool,
}

fn columns<'a>(reading: &'a Reading, options: &CountersOptions) -> Vec<Column<'a>> {
    let column = |name: &str, groups, is_rate| Column {
        name: name.to_owned(),
        groups,
        is_rate,
    };
    let mut columns = vec![column("TOTAL", &reading.now, false)];
    if let Some(rates) = &reading.rates {
        columns.push(column("PER SECOND", rates, true));
    }
    if options.workers {
        let each = reading.now["workers"].as_array().into_iter().flatten();
        for (number, worker) in each.enumerate() {
            columns.push(column(&format!("WORKER {number}"), worker, false));
        }
        columns.push(column("MAIN", &reading.now["main"], false));
    }
    if options.links {
        let each = reading.now["links"].as_array().into_iter().flatten();
        columns.extend(each.map(|link| {
            let name = link["name"].as_str().unwrap_or_default();
            column(&format!("ON {}", name.to_uppercase()), link, false)
        }));
    }
    columns
}

fn row(table: &mut Table, columns: &[Column<'_>], group: &str, name: &str) {
    let cells = columns.iter().map(|column| {
        let number = &column.groups[group][name];
        match number {
            _ if column.is_rate => rates::text(number),
            // Of a link there are drops alone.
            Value::Null => "-".to_owned(),
            number => number.to_string(),
        }
    });
    table.push(std::iter::once(name.to_owned()).chain(cells));
}

fn links(reading: &Reading, out: &mut dyn Write) -> Result<(), Failure> {
    let names = LinkCounter::ALL.iter();
    let names = names.map(|(_, name)| format!(">{}", name.to_uppercase().replace('_', " ")));
    let headings: Vec<_> = std::iter::once("LINK".to_owned()).chain(names).collect();
    let mut table = Table::new(&headings);
    let mut rows = |links: &Value, mark: &str, text: fn(&Value) -> String| {
        for link in links.as_array().into_iter().flatten() {
            let name = link["name"].as_str().unwrap_or_default();
            let counts = LinkCounter::ALL.map(|(_, counter)| text(&link[counter]));
            table.push(std::iter::once(format!("{name}{mark}")).chain(counts));
        }
    };
    rows(&reading.now["links"], "", Value::to_string);
    if let Some(rates) = &reading.rates {
        rows(&rates["links"], " per second", rates::text);
    }
    Ok(table.flush(out)?)
}

fn document(counters: &AllCounters, names: &[String]) -> Value {
    let links = names.iter().enumerate().map(|(at, name)| {
        let count = |(counter, name): (LinkCounter, _)| (name, counters.link(at, counter));
        let mut link = numbers(LinkCounter::ALL.map(count));
        let drops = Reason::ALL
            .iter()
            .map(|reason| (reason.name(), counters.link_drops(at, *reason)));
        link.insert("drops".to_owned(), numbers(drops).into());
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
    let main = &counters.blocks()[counters.workers().len()..];
    let mut document = group(counters.blocks());
    document.insert("links".to_owned(), links.collect());
    document.insert("workers".to_owned(), workers.collect());
    document.insert("main".to_owned(), group(main).into());
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
