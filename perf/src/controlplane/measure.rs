//! One size: everything that is measured with a cluster of it, in order.

use std::path::Path;
use std::thread;
use std::time::Duration;

use hugepages::object::Backend;

use super::child::Child;
use super::objects::{Lists, Population};
use super::options::{Options, Size};
use super::talk::{Expected, FeederNews, FeederOrder, GatewayNews, GatewayOrder, Listed, Window};
use crate::Error;
use crate::bench::Random;
use crate::engine::cluster::Cluster;
use crate::host::{Host, LoadSince};
use crate::record::controlplane::{
    Asked, Carried, Change, ControlPlaneRecord, List, Memory, Spread,
};
use crate::stats::Summary;

/// Pause after each change, microseconds: at least, and more by chance, so that changes meet the pauses of both
/// main loops at any phase.
const PAUSE: (u64, usize) = (2_500, 3_000);

/// Frames are carried for so long before any are counted.
const WARM_UP: Duration = Duration::from_millis(200);

/// Above this many endpoints of a service new flows would have to be begun by the hundred thousand until one met the new
/// endpoint: the moment at which the worker has the snapshot must do, and nothing is asked of it.
const LOOKED_FOR: usize = 1_000;

/// Limits, milliseconds: first list, change at the 99th percentile, at the median.
const LIMITS: (f64, f64, f64) = (3_000.0, 5.0, 1.0);

/// Measures a size.
pub(super) fn measure(options: &Options, size: Size) -> Result<ControlPlaneRecord, Error> {
    let since = LoadSince::now();
    let folder = folder()?;
    let region = folder.path().join("region");
    let cluster = Cluster {
        family: 4,
        services: size.services,
        endpoints: size.endpoints,
    };
    let mut population = Population::new(cluster);
    let lists = write(&population, folder.path())?;
    let stage = Stage {
        options,
        size,
        region: &region,
    };

    progress(size, "first list");
    let mut gateway = stage.gateway()?;
    ready(&mut gateway)?;
    let mut feeder = stage.feeder()?;
    let list = first_list(&mut feeder, &mut gateway, &lists, Some(size.services - 1))?;
    gateway.order(&GatewayOrder::Establish(options.flows))?;
    let flows = gateway.wait("the flows", |news| {
        established(news).map_or_else(|| failed(news), |flows| Ok(Some(flows)))
    })?;
    thread::sleep(WARM_UP);
    progress(size, "changes");
    let (change, carried) = churn(options, size, &mut population, &mut feeder, &mut gateway)?;
    feeder.order(&FeederOrder::Memory)?;
    let memory_control_plane = feeder.wait("its memory", memory_of_feeder)?;
    gateway.order(&GatewayOrder::Memory)?;
    let memory_data_plane = gateway.wait("its memory", memory_of_gateway)?;

    progress(size, "starting again");
    // The cluster as it is now: a control plane that starts again finds nothing to change.
    let lists = write(&population, folder.path())?;
    feeder.stop()?;
    gateway.forget();
    let mut feeder = stage.feeder()?;
    let replay = first_list(&mut feeder, &mut gateway, &lists, None)?;

    gateway.stop()?;
    let mut gateway = stage.gateway()?;
    let (objects, restart) = ready(&mut gateway)?;
    feeder.stop()?;
    gateway.stop()?;

    let mut asked = vec![Asked::new(
        "first list to a worker",
        LIMITS.0,
        millis(list.seen),
    )];
    if let Some(met) = &change.met {
        let what = |of| format!("one endpoint's change to a new flow's first frame, {of}");
        asked.push(Asked::new(
            &what("99th percentile"),
            LIMITS.1,
            millis(met.p99),
        ));
        asked.push(Asked::new(&what("median"), LIMITS.2, millis(met.p50)));
    }
    Ok(ControlPlaneRecord {
        verb: "controlplane".to_owned(),
        scenario: size.to_string(),
        services: size.services,
        endpoints: size.endpoints,
        flows,
        objects,
        list,
        change,
        carried,
        memory_control_plane,
        memory_data_plane,
        replay: replay.seen,
        restart,
        asked,
        growth: None,
        seed: options.seed,
        host: Host::here(),
        load: since.load(),
    })
}

/// Says on stderr what goes on, if somebody is there to read it.
fn progress(size: Size, what: &str) {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{size}: {what}\r");
    }
}

/// On memory, where the region lies in production.
fn folder() -> Result<tempfile::TempDir, Error> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("perf-controlplane-");
    let shared = Path::new("/dev/shm");
    let folder = builder.tempdir_in(shared).or_else(|_| builder.tempdir());
    folder.map_err(|error| Error::Run(format!("no temporary folder: {error}")))
}

fn write(population: &Population, folder: &Path) -> Result<Lists, Error> {
    let written = population.write(folder);
    written.map_err(|error| Error::Run(format!("the lists cannot be written: {error}")))
}

/// What both processes are started with.
struct Stage<'a> {
    options: &'a Options,
    size: Size,
    region: &'a Path,
}

impl Stage<'_> {
    fn gateway(&self) -> Result<Child<GatewayNews>, Error> {
        let Size {
            services,
            endpoints,
        } = self.size;
        let Options { capacity, seed, .. } = self.options;
        let numbers = [
            ("services", services as u64),
            ("endpoints", endpoints as u64),
            ("capacity", u64::from(*capacity)),
            ("seed", *seed),
        ];
        let mut arguments = self.arguments("controlplane-gateway");
        for (name, value) in numbers {
            arguments.extend([format!("--{name}"), value.to_string()]);
        }
        Child::start("the data plane", &arguments)
    }

    fn feeder(&self) -> Result<Child<FeederNews>, Error> {
        let mut feeder = Child::start("the control plane", &self.arguments("controlplane-feeder"))?;
        feeder.wait("its start", |news| match news {
            FeederNews::Ready => Ok(Some(())),
            other => of_feeder(other),
        })?;
        Ok(feeder)
    }

    fn arguments(&self, verb: &str) -> Vec<String> {
        let region = self.region.display().to_string();
        vec![verb.to_owned(), "--region".to_owned(), region]
    }
}

/// Waits for a data plane; returns the number of objects in the journal and the time that they took.
fn ready(gateway: &mut Child<GatewayNews>) -> Result<(usize, u64), Error> {
    gateway.wait("its start", |news| match news {
        GatewayNews::Ready {
            objects, restoring, ..
        } => Ok(Some((*objects, *restoring))),
        other => failed(other),
    })
}

/// Has the control plane read its lists; returns the times.
fn first_list(
    feeder: &mut Child<FeederNews>,
    gateway: &mut Child<GatewayNews>,
    lists: &Lists,
    service: Option<usize>,
) -> Result<List, Error> {
    if let Some(service) = service {
        expect(gateway, service, None, true)?;
    }
    feeder.order(&FeederOrder::List(lists.clone()))?;
    let listed = feeder.wait("the lists", |news| match news {
        FeederNews::Listed(listed) => Ok(Some(*listed)),
        other => of_feeder(other),
    })?;
    let Listed {
        begun, passed_on, ..
    } = listed;
    let (generation, at, met) = seen(gateway)?;
    let published = published(gateway, generation)?;
    feeder.wait("the first state", |news| match news {
        FeederNews::Synced { .. } => Ok(Some(())),
        other => of_feeder(other),
    })?;
    let list = List {
        bytes: listed.bytes,
        parsing: listed.parsing,
        converting: listed.converting,
        reading: passed_on - begun,
        installing: published.done.saturating_sub(passed_on),
        seen: at - begun,
        met: met.unwrap_or(at) - begun,
    };
    if service.is_some() && met.is_none() {
        return Err(Error::Run(
            "the list is installed and no new flow is translated".to_owned(),
        ));
    }
    Ok(list)
}

/// Moments of one change, nanoseconds.
struct Moments {
    handed: u64,
    passed_on: u64,
    looked: u64,
    done: u64,
    seen: u64,
    met: Option<u64>,
}

/// Changes endpoints, in turns with nothing.
fn churn(
    options: &Options,
    size: Size,
    population: &mut Population,
    feeder: &mut Child<FeederNews>,
    gateway: &mut Child<GatewayNews>,
) -> Result<(Change, Carried), Error> {
    let mut random = Random::new(options.seed, 7);
    let mut all = Vec::new();
    let (mut quiet, mut busy, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut total = Window::default();
    let count = options.changes_of(size);
    for turn in 0..options.turns {
        window(gateway)?;
        thread::sleep(Duration::from_millis(options.quiet));
        let without = window(gateway)?;
        for _ in count * turn / options.turns..count * (turn + 1) / options.turns {
            let service = random.below(size.services);
            let (text, backend) = population.change(service, random.below(size.endpoints));
            let is_looked_for = size.endpoints <= LOOKED_FOR;
            all.push(change(
                feeder,
                gateway,
                service,
                text,
                backend,
                is_looked_for,
            )?);
            let pause = PAUSE.0 + random.below(PAUSE.1) as u64;
            thread::sleep(Duration::from_micros(pause));
        }
        let with = window(gateway)?;
        let nanos = |window: Window| window.nanos as f64 / window.frames.max(1) as f64;
        ratios.push(nanos(without) / nanos(with));
        quiet.push(nanos(without));
        busy.push(nanos(with));
        for window in [without, with] {
            total.frames += window.frames;
            total.hits += window.hits;
        }
    }
    let of = |values: &[f64]| {
        Summary::of(values).ok_or_else(|| Error::Run("nothing was carried".to_owned()))
    };
    let carried = Carried {
        frames: total.frames,
        missed: total.frames - total.hits,
        quiet: of(&quiet)?,
        churn: of(&busy)?,
        ratio: of(&ratios)?,
    };
    Ok((summary(&all), carried))
}

fn summary(all: &[Moments]) -> Change {
    let spread = |of: fn(&Moments) -> u64| Spread::of(all.iter().map(of));
    let met: Option<Vec<u64>> = all.iter().map(|at| Some(at.met? - at.handed)).collect();
    Change {
        count: all.len(),
        reading: spread(|at| at.passed_on - at.handed),
        publishing: spread(|at| at.looked.saturating_sub(at.passed_on)),
        installing: spread(|at| at.done - at.looked),
        seen: spread(|at| at.seen - at.handed),
        met: met.map(Spread::of),
    }
}

/// Changes one endpoint and waits until the worker knows.
fn change(
    feeder: &mut Child<FeederNews>,
    gateway: &mut Child<GatewayNews>,
    service: usize,
    text: String,
    backend: Backend,
    is_looked_for: bool,
) -> Result<Moments, Error> {
    expect(gateway, service, Some(backend), is_looked_for)?;
    feeder.order(&FeederOrder::Change(text))?;
    let (handed, passed_on) = feeder.wait("the change", |news| match news {
        FeederNews::Changed { handed, passed_on } => Ok(Some((*handed, *passed_on))),
        other => of_feeder(other),
    })?;
    let (generation, at, met) = seen(gateway)?;
    let Published { looked, done } = published(gateway, generation)?;
    if is_looked_for && met.is_none() {
        return Err(Error::Run(format!(
            "generation {generation} is with the worker and no new flow meets the new endpoint"
        )));
    }
    Ok(Moments {
        handed,
        passed_on,
        looked,
        done,
        seen: at,
        met,
    })
}

/// Has the worker watch for an endpoint of a service.
fn expect(
    gateway: &mut Child<GatewayNews>,
    service: usize,
    backend: Option<Backend>,
    is_looked_for: bool,
) -> Result<(), Error> {
    gateway.forget();
    gateway.order(&GatewayOrder::Expect(Expected {
        service,
        backend: backend.map(|Backend { address, port }| (address, port)),
        is_looked_for,
    }))?;
    gateway.wait("its attention", |news| match news {
        GatewayNews::Expecting => Ok(Some(())),
        other => failed(other),
    })
}

/// The next generation that the worker sees, when it did, and when a new flow met what was expected.
fn seen(gateway: &mut Child<GatewayNews>) -> Result<(u64, u64, Option<u64>), Error> {
    gateway.wait("a new generation", |news| match news {
        GatewayNews::Seen {
            generation,
            at,
            met,
        } => Ok(Some((*generation, *at, *met))),
        other => failed(other),
    })
}

struct Published {
    looked: u64,
    done: u64,
}

fn published(gateway: &mut Child<GatewayNews>, wanted: u64) -> Result<Published, Error> {
    gateway.wait("the main core", |news| match news {
        GatewayNews::Published {
            generation,
            looked,
            done,
        } if *generation == wanted => Ok(Some(Published {
            looked: *looked,
            done: *done,
        })),
        other => failed(other),
    })
}

fn window(gateway: &mut Child<GatewayNews>) -> Result<Window, Error> {
    gateway.order(&GatewayOrder::Window)?;
    gateway.wait("what was carried", |news| match news {
        GatewayNews::Window(window) => Ok(Some(*window)),
        other => failed(other),
    })
}

fn established(news: &GatewayNews) -> Option<usize> {
    match news {
        GatewayNews::Established(flows) => Some(*flows),
        _ => None,
    }
}

fn memory_of_gateway(news: &GatewayNews) -> Result<Option<Memory>, String> {
    match news {
        GatewayNews::Memory(memory) => Ok(Some(*memory)),
        other => failed(other),
    }
}

fn memory_of_feeder(news: &FeederNews) -> Result<Option<Memory>, String> {
    match news {
        FeederNews::Memory(memory) => Ok(Some(*memory)),
        other => of_feeder(other),
    }
}

/// Nothing that was waited for; an error if it is one.
fn failed<T>(news: &GatewayNews) -> Result<Option<T>, String> {
    match news {
        GatewayNews::Failed(why) => Err(why.clone()),
        _ => Ok(None),
    }
}

fn of_feeder<T>(news: &FeederNews) -> Result<Option<T>, String> {
    match news {
        FeederNews::Failed(why) => Err(why.clone()),
        _ => Ok(None),
    }
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}
