//! The rules for a cluster as kube-proxy writes them, by nftables and by iptables.
//!
//! Chains, maps and their order are those of kube-proxy's modes of these names (the Kubernetes project's
//! documentation, "Virtual IPs and Service Proxies"); comments, NodePorts and what else no packet here meets
//! is left out.

use std::fmt::Write;

use crate::engine::cluster::Cluster;

/// Services in one transaction: the kernel's time for one grows with the square of its size.
const AT_ONCE: usize = 200;

/// Scripts for `nft -f`, to be loaded one after the other.
pub(super) fn nftables(cluster: &Cluster) -> Vec<String> {
    let mut scripts = vec![NFT_BASE.to_owned()];
    let services: Vec<usize> = (0..cluster.services).collect();
    for some in services.chunks(AT_ONCE) {
        let mut text = String::new();
        for service in some {
            nft_service(&mut text, cluster, *service);
        }
        scripts.push(text);
    }
    scripts
}

const NFT_BASE: &str = "table ip kube-proxy {
 map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
 map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
 map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
 chain mark-for-masquerade { mark set mark or 0x4000; }
 chain masquerading {
  mark and 0x4000 == 0 return
  mark set mark xor 0x4000
  masquerade fully-random
 }
 chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
 chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
 chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
 chain filter-prerouting-pre-dnat {
  type filter hook prerouting priority -110;
  ct state new jump firewall-check
 }
 chain filter-forward {
  type filter hook forward priority -110;
  ct state new jump service-endpoints-check
 }
 chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
 chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
}
";

fn nft_service(text: &mut String, cluster: &Cluster, service: usize) {
    let address = cluster.frontend(service);
    let mut choices = Vec::new();
    for endpoint in 0..cluster.endpoints {
        let backend = cluster.backend(service * cluster.endpoints + endpoint);
        let _ = writeln!(
            text,
            "table ip kube-proxy {{ chain endpoint-{service}-{endpoint} {{\n ip saddr {ip} jump mark-for-masquerade\n \
             meta l4proto tcp dnat to {ip}:{port}\n }}\n}}",
            ip = backend.address,
            port = backend.port,
        );
        choices.push(format!("{endpoint} : goto endpoint-{service}-{endpoint}"));
    }
    let _ = writeln!(
        text,
        "table ip kube-proxy {{ chain service-{service} {{\n ip daddr {address} tcp dport 80 ip saddr != 10.0.0.0/8 \
         jump mark-for-masquerade\n numgen random mod {} vmap {{ {} }}\n }}\n}}\n\
         add element ip kube-proxy service-ips {{ {address} . tcp . 80 : goto service-{service} }}",
        cluster.endpoints,
        choices.join(", "),
    );
}

/// Input of `iptables-restore`.
pub(super) fn iptables(cluster: &Cluster) -> String {
    let mut chains = String::new();
    let mut entry = String::new();
    let mut rules = String::new();
    for service in 0..cluster.services {
        let address = cluster.frontend(service);
        let of = format!("-d {address}/32 -p tcp -m tcp --dport 80");
        let _ = writeln!(chains, ":KUBE-SVC-{service} - [0:0]");
        let _ = writeln!(entry, "-A KUBE-SERVICES {of} -j KUBE-SVC-{service}");
        let _ = writeln!(
            rules,
            "-A KUBE-SVC-{service} ! -s 10.0.0.0/8 {of} -j KUBE-MARK-MASQ"
        );
        for endpoint in 0..cluster.endpoints {
            let name = format!("KUBE-SEP-{service}-{endpoint}");
            let backend = cluster.backend(service * cluster.endpoints + endpoint);
            let _ = writeln!(chains, ":{name} - [0:0]");
            let left = cluster.endpoints - endpoint;
            let chance = match left {
                1 => String::new(),
                left => format!(
                    "-m statistic --mode random --probability {:.10} ",
                    1.0 / left as f64
                ),
            };
            let _ = writeln!(rules, "-A KUBE-SVC-{service} {chance}-j {name}");
            let _ = writeln!(
                rules,
                "-A {name} -s {}/32 -j KUBE-MARK-MASQ",
                backend.address
            );
            let _ = writeln!(
                rules,
                "-A {name} -p tcp -m tcp -j DNAT --to-destination {}:{}",
                backend.address, backend.port
            );
        }
    }
    format!(
        "*filter\n:KUBE-FORWARD - [0:0]\n-A FORWARD -j KUBE-FORWARD\n\
         -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
         -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n\
         -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n\
         *nat\n:KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-POSTROUTING - [0:0]\n{chains}\
         -A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n-A POSTROUTING -j KUBE-POSTROUTING\n\
         -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n\
         -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n\
         -A KUBE-POSTROUTING -j MASQUERADE --random-fully\n{entry}{rules}COMMIT\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(services: usize) -> Cluster {
        Cluster {
            family: 4,
            services,
            endpoints: 3,
        }
    }

    #[test]
    fn every_service_and_endpoint_has_its_rules() {
        let scripts = nftables(&cluster(450));
        assert_eq!(scripts.len(), 4, "the base and three transactions");
        let text = scripts.concat();
        assert_eq!(text.matches("add element").count(), 450);
        assert_eq!(text.matches("dnat to").count(), 1350);
        assert!(text.contains("numgen random mod 3"));

        let text = iptables(&cluster(450));
        assert_eq!(text.matches("-j DNAT").count(), 1350);
        assert_eq!(text.matches("-A KUBE-SERVICES").count(), 450);
        let chances = |chance: &str| text.matches(chance).count();
        assert_eq!(chances("--probability 0.3333333333"), 450);
        assert_eq!(chances("--probability 0.5000000000"), 450);
    }
}
