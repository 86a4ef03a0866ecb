use std::net::IpAddr;

use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::{Name, RecordType};
use settings::DnsPrefer;

use super::*;
use crate::index::Index;
use crate::model::{ClusterObject, ObjectKind, ObjectName, ServiceType};
use crate::policy::fixtures::{service, slice};

/// `test/web` at 10.96.1.1 with port http; headless `test/db` with hosts db-0 and 10-0-0-2 and port sql;
/// `test/far`, an alias for db.example.com; `test/near`, one for web.
fn index() -> Index {
    let mut index = Index::new();
    let mut web = service("web");
    web.cluster_ips = vec![
        "10.96.1.1".parse().unwrap(),
        "fd00:10:96::1".parse().unwrap(),
    ];
    web.ports[0].name = "http".to_owned();
    let mut db = service("db");
    db.cluster_ips.clear();
    let mut slice = slice("db", [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from));
    slice.ports[0].name = "sql".to_owned();
    slice.endpoints[0].hostname = Some("db-0".to_owned());
    let alias = |name: &str, target: &str| {
        let mut alias = service(name);
        alias.cluster_ips.clear();
        alias.service_type = ServiceType::ExternalName(target.to_owned());
        ClusterObject::Service(alias)
    };
    index.apply(ClusterObject::Service(web));
    index.apply(ClusterObject::Service(db));
    index.apply(ClusterObject::Slice(slice));
    index.apply(alias("far", "db.example.com"));
    index.apply(alias("near", "web.test.svc.cluster.local"));
    index
}

fn zone(index: &Index) -> Zone {
    let names = Names::new(DnsPrefer::ClusterIp);
    names.refresh(index);
    Zone {
        domain: domain("Cluster.Local").unwrap(),
        ttl: 5,
        own: vec![IpAddr::from([192, 0, 2, 53])],
        names,
    }
}

fn ask(zone: &Zone, name: &str, kind: RecordType) -> Answer {
    zone.answer(&Name::from_ascii(name).unwrap(), kind, 0)
}

/// The answer's records as a zone file has them, without owners.
fn data(answer: &Answer) -> Vec<String> {
    let records = answer.answers.iter();
    records.map(|record| record.data.to_string()).collect()
}

#[test]
fn a_service_has_addresses_of_both_families_and_its_ports() {
    let zone = zone(&index());
    let name = "web.test.svc.cluster.local.";
    let answer = ask(&zone, name, RecordType::A);
    assert_eq!(
        (answer.code, data(&answer)),
        (ResponseCode::NoError, vec!["10.96.1.1".to_owned()])
    );
    assert_eq!(answer.answers[0].ttl, 5);
    assert_eq!(data(&ask(&zone, name, RecordType::AAAA)), ["fd00:10:96::1"]);
    let answer = ask(&zone, &format!("_http._tcp.{name}"), RecordType::SRV);
    assert_eq!(data(&answer), [format!("0 100 80 {name}")]);
    let beside: Vec<_> = answer
        .additionals
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    assert_eq!(beside, ["10.96.1.1", "fd00:10:96::1"]);
    // Case makes no difference, and is kept in the answer.
    let answer = ask(&zone, "WEB.Test.SVC.cluster.LOCAL.", RecordType::A);
    assert_eq!(
        answer.answers[0].name.to_ascii(),
        "WEB.Test.SVC.cluster.LOCAL."
    );
}

#[test]
fn a_headless_service_leads_to_its_endpoints_and_each_has_a_name() {
    let zone = zone(&index());
    let name = "db.test.svc.cluster.local.";
    assert_eq!(
        data(&ask(&zone, name, RecordType::A)),
        ["10.0.0.1", "10.0.0.2"]
    );
    let turned = zone.answer(&Name::from_ascii(name).unwrap(), RecordType::A, 1);
    assert_eq!(data(&turned), ["10.0.0.2", "10.0.0.1"], "they take turns");
    assert_eq!(
        data(&ask(&zone, &format!("db-0.{name}"), RecordType::A)),
        ["10.0.0.1"]
    );
    assert_eq!(
        data(&ask(&zone, &format!("10-0-0-2.{name}"), RecordType::A)),
        ["10.0.0.2"]
    );
    let ports = data(&ask(&zone, &format!("_sql._tcp.{name}"), RecordType::SRV));
    assert_eq!(
        ports,
        [
            format!("0 100 8080 10-0-0-2.{name}"),
            format!("0 100 8080 db-0.{name}")
        ]
    );
}

#[test]
fn an_alias_is_followed_as_far_as_the_zone_goes() {
    let zone = zone(&index());
    let far = ask(&zone, "far.test.svc.cluster.local.", RecordType::A);
    assert_eq!(data(&far), ["db.example.com."]);
    let near = ask(&zone, "near.test.svc.cluster.local.", RecordType::A);
    assert_eq!(data(&near), ["web.test.svc.cluster.local.", "10.96.1.1"]);
    let asked = ask(&zone, "near.test.svc.cluster.local.", RecordType::CNAME);
    assert_eq!(data(&asked), ["web.test.svc.cluster.local."]);
}

#[test]
fn addresses_have_names() {
    let zone = zone(&index());
    let names = |name: &str| data(&ask(&zone, name, RecordType::PTR));
    assert_eq!(
        names("1.1.96.10.in-addr.arpa."),
        ["web.test.svc.cluster.local."]
    );
    assert_eq!(
        names("1.0.0.10.in-addr.arpa."),
        ["db-0.db.test.svc.cluster.local."]
    );
    let nobody = ask(&zone, "9.9.9.9.in-addr.arpa.", RecordType::PTR);
    assert_eq!(nobody.code, ResponseCode::Refused);
}

#[test]
fn what_does_not_exist_is_told_from_what_has_no_such_record() {
    let zone = zone(&index());
    for (name, expected) in [
        ("svc.cluster.local.", ResponseCode::NoError),
        ("test.svc.cluster.local.", ResponseCode::NoError),
        ("web.test.svc.cluster.local.", ResponseCode::NoError),
        ("_tcp.web.test.svc.cluster.local.", ResponseCode::NoError),
        ("dns-version.cluster.local.", ResponseCode::NoError),
        ("other.svc.cluster.local.", ResponseCode::NXDomain),
        ("nobody.test.svc.cluster.local.", ResponseCode::NXDomain),
        ("_udp.web.test.svc.cluster.local.", ResponseCode::NXDomain),
        (
            "_x._tcp.web.test.svc.cluster.local.",
            ResponseCode::NXDomain,
        ),
        (
            "deep.db-0.db.test.svc.cluster.local.",
            ResponseCode::NXDomain,
        ),
        ("x.far.test.svc.cluster.local.", ResponseCode::NXDomain),
        ("*.test.svc.cluster.local.", ResponseCode::NXDomain),
        ("pod.cluster.local.", ResponseCode::NXDomain),
    ] {
        let answer = ask(&zone, name, RecordType::MX);
        assert_eq!(answer.code, expected, "{name}");
        assert!(answer.answers.is_empty(), "{name}");
        let start = answer
            .authority
            .expect("a negative answer says how long it is good");
        assert_eq!(
            (start.name.to_ascii(), start.ttl),
            ("cluster.local.".to_owned(), 5)
        );
    }
    for name in ["example.com.", "local.", "notcluster.local."] {
        let answer = ask(&zone, name, RecordType::A);
        assert_eq!(answer.code, ResponseCode::Refused, "{name}");
    }
    let transfer = ask(&zone, "cluster.local.", RecordType::AXFR);
    assert_eq!(transfer.code, ResponseCode::Refused);
}

#[test]
fn the_zone_tells_its_version_its_server_and_when_it_changed() {
    let zone = zone(&index());
    let version = ask(&zone, "dns-version.cluster.local.", RecordType::TXT);
    assert_eq!(data(&version), ["1.1.0"]);
    let servers = ask(&zone, "cluster.local.", RecordType::NS);
    assert_eq!(data(&servers), ["ns.dns.cluster.local."]);
    assert_eq!(servers.additionals[0].data.to_string(), "192.0.2.53");
    let start = ask(&zone, "cluster.local.", RecordType::SOA);
    assert!(data(&start)[0].starts_with("ns.dns.cluster.local. hostmaster.cluster.local. 1"));
    let any = ask(&zone, "web.test.svc.cluster.local.", RecordType::ANY);
    assert_eq!(data(&any), ["10.96.1.1"], "one set is enough");
}

#[test]
fn names_follow_the_cluster() {
    let mut index = index();
    let zone = zone(&index);
    index.take_dirty();
    index.delete(ObjectKind::Service, &ObjectName::new("test", "web"));
    index.delete(ObjectKind::Slice, &ObjectName::new("test", "db-x1"));
    zone.names.refresh(&index);
    for name in ["web.test.svc.cluster.local.", "db.test.svc.cluster.local."] {
        assert_eq!(
            ask(&zone, name, RecordType::A).code,
            ResponseCode::NXDomain,
            "{name}"
        );
    }
    let reverse = ask(&zone, "1.1.96.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(reverse.code, ResponseCode::Refused);
    // An alias whose target is gone says so, and that it is an alias.
    let dangling = ask(&zone, "near.test.svc.cluster.local.", RecordType::A);
    assert_eq!(dangling.code, ResponseCode::NXDomain);
    assert_eq!(data(&dangling), ["web.test.svc.cluster.local."]);
}

#[test]
fn before_everything_was_listed_nothing_is_denied() {
    let zone = Zone {
        names: Names::new(DnsPrefer::ClusterIp),
        ..zone(&index())
    };
    let answer = ask(&zone, "web.test.svc.cluster.local.", RecordType::A);
    assert_eq!(answer.code, ResponseCode::ServFail);
}

#[test]
fn the_server_is_reached_at_what_is_listened_on() {
    let own = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap());
    let at = |listen: &[&str]| {
        let listen: Vec<_> = listen.iter().map(|text| text.parse().unwrap()).collect();
        let found = reached_at(&listen, &own);
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        at(&["0.0.0.0:53", "127.0.0.1:53"]),
        ["127.0.0.1", "192.0.2.1"]
    );
    assert_eq!(at(&["[::]:53"]), ["2001:db8::1"]);
}
