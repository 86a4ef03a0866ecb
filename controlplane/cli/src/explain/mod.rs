//! `portgate explain`: what becomes of a packet, and why.
//!
//! The way is that of production: manifests are converted and judged as the control plane does it,
//! the objects are encoded to records and decoded again, installed as the data plane does it, and a
//! real first frame goes through a worker's pipeline ([`gateway`]). What that decides is told as
//! JSON ([`answer`]) or in prose ([`prose`], [`why`]).

mod answer;
mod gateway;
mod prose;
mod question;
mod story;
mod why;

use std::io::Write;
use std::path::Path;

use hugepages::object::Object;
use portgate_controlplane::model::{ClusterObject, ServiceObject};
use portgate_controlplane::{judge, load_dir};
use settings::Settings;

use crate::args::{ExplainOptions, Transport};
use crate::failure::Failure;
use crate::manifests;

use answer::Answer;
use gateway::MemoryGateway;
use question::Question;
use story::{Context, Story};

/// Answers every packet of a file, or one question.
pub(crate) fn run(
    settings: &Settings,
    options: &ExplainOptions,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let questions = questions(options)?;
    let cluster = Cluster::load(settings, options.manifests.as_deref())?;
    let mut gateway = MemoryGateway::new(settings, cluster.objects)?;
    for question in &questions {
        let seen = gateway.put(question)?;
        if json || options.packets.is_some() {
            serde_json::to_writer(&mut *out, &Answer::new(question, &seen))?;
            writeln!(out)?;
        } else {
            let context = Context {
                gateway: &settings.gateway,
                services: &cluster.services,
            };
            let story = Story {
                context: &context,
                question,
                seen: &seen,
            };
            prose::write(&story, out)?;
        }
    }
    Ok(())
}

fn questions(options: &ExplainOptions) -> Result<Vec<Question>, Failure> {
    if let Some(path) = &options.packets {
        return question::read(path);
    }
    // The definition of the arguments demands both unless there are packets.
    let (Some(from), Some(to)) = (options.from, options.to) else {
        return Err(Failure::Wrong(
            "--from and --to are needed, or --packets".to_owned(),
        ));
    };
    if from.is_ipv4() != to.is_ipv4() {
        return Err(Failure::Wrong(format!(
            "--from is {from} and --to is {to}: both must be of the same address family"
        )));
    }
    Ok(vec![Question {
        id: serde_json::Value::Null,
        protocol: options.protocol.unwrap_or(Transport::Tcp).number(),
        from,
        to,
    }])
}

/// What the manifests say, and what follows from it for this gateway.
struct Cluster {
    services: Vec<ServiceObject>,
    objects: Vec<Object>,
}

impl Cluster {
    /// Loads the manifests; what in them is not served goes to standard error.
    fn load(settings: &Settings, typed: Option<&Path>) -> Result<Self, Failure> {
        let Some(directory) = manifests::directory(settings, typed) else {
            return Err(Failure::Wrong(
                "the configuration takes its services from a cluster (source.kind = \
                 \"kubernetes\"): name a directory of manifests with --manifests"
                    .to_owned(),
            ));
        };
        let report = load_dir(&directory)?;
        let services = report.objects.iter().filter_map(|object| match object {
            ClusterObject::Service(service) => Some(service.clone()),
            ClusterObject::Slice(_) | ClusterObject::Node(_) | ClusterObject::ServiceCidr(_) => {
                None
            }
        });
        let services = services.collect();
        let (objects, warnings) = judge(&settings.gateway, report.objects);
        let mut errors = std::io::stderr().lock();
        for warning in report.warnings.iter().chain(&warnings) {
            // Whoever closed standard error does not want to know.
            let _ = writeln!(errors, "portgate: warning: {warning}");
        }
        Ok(Self { services, objects })
    }
}
