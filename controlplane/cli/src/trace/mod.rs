//! `portgate trace`: frames, stage by stage, as the workers have seen them.

mod ask;
mod frame;
mod pcapng;
mod words;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use engine::trace::{Message, Pattern, Record, Request, Summary};
use serde_json::json;
use settings::Settings;

use crate::args::{self, TraceOptions};
use crate::failure::Failure;
use crate::installed::{Installed, is_named};
use crate::observe;
use crate::words::counted;

use self::ask::Answers;
use self::frame::Clock;
use self::pcapng::Pcapng;

/// Traces frames until the trace ends.
pub(crate) fn run(
    settings: &Settings,
    options: &TraceOptions,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let region = observe::open(settings)?;
    let names = Names {
        links: observe::link_names(&region),
        installed: Installed::of(&region)?,
    };
    let request = request(options, &names)?;
    let mut pcap = options.pcap.as_deref().map(create).transpose()?;
    let mut answers = Answers::to(&settings.region.path, &request)?;
    let clock = Clock::now();
    let mut number = 0;
    loop {
        match answers.next()? {
            // On standard error, so that nobody takes it for a frame: whoever waits for the trace to be on
            // reads it here.
            Message::Begun => {
                writeln!(std::io::stderr(), "portgate: tracing")?;
            }
            Message::Frame(record) => {
                number += 1;
                if let Some(pcap) = &mut pcap {
                    write_frames(pcap, number, &record, &names, clock)?;
                }
                if json {
                    let frame = frame::document(number, &record, &names, clock);
                    writeln!(out, "{frame}")?;
                } else {
                    frame::print(number, &record, &names, clock, out)?;
                }
                out.flush()?;
            }
            Message::Ended(summary) => {
                end(&summary, json, out)?;
                return Ok(());
            }
            Message::Refused(why) => {
                return Err(Failure::Failed(format!("the data plane refuses: {why}")));
            }
        }
    }
}

/// What numbers of a record stand for.
pub(super) struct Names {
    pub(super) links: Vec<String>,
    pub(super) installed: Installed,
}

impl Names {
    /// A link by its number.
    pub(super) fn link(&self, number: u8) -> String {
        let name = self.links.get(usize::from(number));
        name.cloned().unwrap_or_else(|| format!("#{number}"))
    }
}

fn request(options: &TraceOptions, names: &Names) -> Result<Request, Failure> {
    let one = |pattern: &args::Pattern| vec![convert(*pattern)];
    let given = [&options.from, &options.to, &options.endpoint];
    let mut ends: Vec<_> = given.into_iter().flatten().map(one).collect();
    if let Some(service) = &options.service {
        ends.push(addresses(service, &names.installed)?);
    }
    let link = match &options.link {
        Some(wanted) => Some(number(wanted, &names.links)?),
        None => None,
    };
    let only_dropped = options.dropped || !options.reason.is_empty();
    let request = Request {
        ends,
        protocol: options.protocol.map(args::Transport::number),
        link,
        dropped: only_dropped.then(|| options.reason.clone()),
        frames: options.limit,
        rate: options.rate,
        effort: options.effort,
        bytes: options.bytes,
        seconds: options.seconds,
    };
    request.check().map_err(Failure::Wrong)?;
    Ok(request)
}

const fn convert(pattern: args::Pattern) -> Pattern {
    Pattern {
        address: pattern.address,
        port: pattern.port,
    }
}

/// Every address at which a service is reached.
fn addresses(service: &str, installed: &Installed) -> Result<Vec<Pattern>, Failure> {
    let frontends = installed.contents.frontends();
    let of_services = installed
        .contents
        .services()
        .into_iter()
        .filter(|found| is_named(found, service))
        .filter_map(|found| frontends.get(&found.key))
        .flatten();
    let found: Vec<_> = of_services
        .map(|frontend| Pattern {
            address: frontend.address,
            port: Some(frontend.port),
        })
        .collect();
    if found.is_empty() {
        return Err(Failure::Wrong(format!(
            "--service {service}: no such service is installed with an address"
        )));
    }
    Ok(found)
}

fn number(wanted: &str, links: &[String]) -> Result<u8, Failure> {
    let found = links.iter().position(|name| name == wanted);
    found.map(|at| at as u8).ok_or_else(|| {
        let names = links.join(", ");
        Failure::Wrong(format!("--link {wanted}: the links are {names}"))
    })
}

fn create(path: &Path) -> Result<Pcapng<BufWriter<File>>, Failure> {
    let file = File::create(path);
    let pcap = file.and_then(|file| Pcapng::new(BufWriter::new(file)));
    pcap.map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

/// The frame as it came and what was put out for it, each with its story as a comment.
fn write_frames<W: Write>(
    pcap: &mut Pcapng<W>,
    number: u64,
    record: &Record,
    names: &Names,
    clock: Clock,
) -> std::io::Result<()> {
    let nanos = clock.since_1970(record.nanos);
    let story = words::story(record, names);
    let input = record
        .input
        .map_or("waiting".to_owned(), |at| names.link(at));
    let comment = format!("#{number} received: {story}");
    pcap.packet(
        &input,
        pcapng::Direction::In,
        nanos,
        &record.frame,
        &comment,
    )?;
    for out in &record.out {
        let link = names.link(out.link);
        let what = if out.refused {
            "dropped: tx_full"
        } else {
            "sent"
        };
        let comment = format!("#{number} {what}: {story}");
        pcap.packet(&link, pcapng::Direction::Out, nanos, &out.frame, &comment)?;
    }
    pcap.flush()
}

fn end(summary: &Summary, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let Summary {
        why,
        frames,
        examined,
        unexamined,
        missed,
    } = summary;
    if json {
        let shown = json!({
            "ended": why,
            "frames": frames,
            "examined": examined,
            "unexamined": unexamined,
            "missed": missed,
        });
        writeln!(out, "{shown}")?;
        return Ok(());
    }
    let why = match why.as_str() {
        "limit" => "as many frames as were asked for (--limit)",
        "time" => "the time is over (--seconds)",
        _ => "the data plane ends",
    };
    writeln!(out, "{}; {why}", counted(*frames, "frame"))?;
    writeln!(out, "workers looked at {}", counted(*examined, "frame"))?;
    if *unexamined > 0 {
        writeln!(
            out,
            "{unexamined} passed without a look, to spare the workers (--effort)"
        )?;
    }
    if *missed > 0 {
        writeln!(out, "{missed} matched and are not shown (--rate, --limit)")?;
    }
    Ok(())
}
