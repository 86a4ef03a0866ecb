//! Large clusters: nothing may take time that grows with the square of anything.
//!
//! The bounds are an order of magnitude above what an unoptimised build needs, and an order below what a quadratic step would
//! take. Time is that of the thread on a CPU: how busy the machine is does not matter.

use std::net::IpAddr;
use std::time::Duration;

use portgate_controlplane::index::Index;
use portgate_controlplane::model::{ClusterObject, ObjectKind, SliceObject};
use portgate_controlplane::policy::Desired;
use serde_json::json;

use crate::world::{NODE, World, ready, service, slice};

fn desired() -> Desired {
    let settings = settings::load_str(&format!("[gateway]\n{NODE}")).unwrap();
    Desired::new(settings.gateway)
}

fn address(base: [u8; 2], number: u32) -> IpAddr {
    let [_, _, high, low] = number.to_be_bytes();
    IpAddr::from([base[0], base[1], high, low])
}

/// How long this thread has been on a CPU.
fn on_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

fn timed<T>(what: &str, most: Duration, work: impl FnOnce() -> T) -> T {
    let start = on_cpu();
    let result = work();
    let took = on_cpu() - start;
    println!("{what}: {took:?}");
    assert!(took < most, "{what} took {took:?}");
    result
}

/// `count` services of ten endpoints each.
fn many_services(count: u32) -> Vec<ClusterObject> {
    let mut objects = Vec::new();
    for number in 0..count {
        let name = format!("s{number}");
        let spec = json!({
            "clusterIP": address([10, 96], number).to_string(),
            "ports": [{"port": 80, "nodePort": 1 + number}],
        });
        let endpoints: Vec<_> = (0..10)
            .map(|last| ready(&address([10, 100 + last], number + 1).to_string(), "node-b"))
            .collect();
        let world = World::of(&[service(&name, spec), slice(&name, &endpoints)]);
        assert_eq!(world.warned(), [""; 0]);
        objects.extend(world.objects);
    }
    objects
}

#[test]
fn ten_thousand_services_of_ten_endpoints() {
    let objects = many_services(10_000);
    let (mut index, mut desired) = (Index::new(), desired());
    timed("first state", Duration::from_secs(20), || {
        for object in objects.iter().cloned() {
            index.apply(object);
        }
        assert_eq!(desired.refresh(&mut index), []);
    });
    assert_eq!(desired.tally().endpoints, 100_000);
    desired.take_all();

    let slices: Vec<ClusterObject> = objects
        .iter()
        .filter(|object| object.kind() == ObjectKind::Slice)
        .cloned()
        .collect();
    timed("the same list again", Duration::from_secs(10), || {
        index.replace(ObjectKind::Slice, slices.clone());
        desired.refresh(&mut index);
    });
    assert!(desired.take_changes().is_empty());

    let ClusterObject::Slice(mut changed) = slices[77].clone() else {
        panic!("a slice")
    };
    changed.endpoints.pop();
    timed("one endpoint", Duration::from_millis(50), || {
        index.apply(ClusterObject::Slice(changed));
        desired.refresh(&mut index);
        assert!(desired.take_changes().puts.len() < 10);
    });
}

#[test]
fn a_hundred_thousand_endpoints_of_one_service() {
    let template = World::of(&[
        service("large", json!({"externalTrafficPolicy": "Local"})),
        slice("large", &[ready("10.244.1.1", "node-b")]),
    ]);
    let [
        ClusterObject::Service(_),
        ClusterObject::Slice(template_slice),
    ] = &template.objects[..]
    else {
        panic!("a service and a slice");
    };
    let slices: Vec<SliceObject> = (0..1000u32)
        .map(|number| {
            let mut made = template_slice.clone();
            made.name.name = format!("large-{number}");
            made.endpoints = (0..100)
                .map(|last| {
                    let mut endpoint = template_slice.endpoints[0].clone();
                    let [_, b, c, d] = (number * 100 + last + 1).to_be_bytes();
                    endpoint.address = IpAddr::from([10, 100 + b, c, d]);
                    endpoint
                })
                .collect();
            made
        })
        .collect();
    let (mut index, mut desired) = (Index::new(), desired());
    timed("first state", Duration::from_secs(10), || {
        index.apply(template.objects[0].clone());
        for slice in slices.iter().cloned() {
            index.apply(ClusterObject::Slice(slice));
        }
        assert_eq!(desired.refresh(&mut index), []);
    });
    assert_eq!(desired.tally().endpoints, 100_000);
    let mut changed = slices[500].clone();
    changed.endpoints[3].ready = false;
    timed("one endpoint", Duration::from_secs(3), || {
        index.apply(ClusterObject::Slice(changed));
        desired.refresh(&mut index);
    });
}
