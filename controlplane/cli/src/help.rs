//! Examples and JSON forms, as `--help` shows them behind the options.

/// After the options of `services`.
pub(crate) const SERVICES: &str = "\
Example:
  portgate services --service default/mynginx

Each address of a service is listed with what happens to new flows of each kind of client: pods,
the gateway itself (node), and all others (outside).

JSON (one document):
  generation, digest   of the installed state
  services[]           service, port_name, protocol, frontends[], serving[], on_endpoint_gone,
                       drain_seconds, counters
  .frontends[]         type (clusterip, nodeport, loadbalancer, externalip), address,
                       affinity_seconds, source_ranges (null = everyone), actions
  .actions             pod, node, outside: each {action: translate|reject|drop, endpoints[],
                       masquerade, reason}
  .serving[]           endpoints that may keep their UDP flows
  .counters            frames, bytes, flows, refused; null if the service has none of its own";

/// After the options of `flows`.
pub(crate) const FLOWS: &str = "\
Examples:
  portgate flows --service default/mynginx --state established
  portgate flows --from 203.0.113.50 --limit 20

Flows are listed as they lie in the table, in no order; those that come or go meanwhile may be
missing. States: half-open, established, closing, closed.

JSON (one object a line):
  protocol, client, service_address, source (the client after translation), endpoint, state,
  idle_seconds, service, port_name (null if the service is gone)";

/// After the options of `counters`.
pub(crate) const COUNTERS: &str = "\
Example:
  portgate counters --workers

At rest: received + originated = sent + all drops + (parked - unparked).

JSON (one document):
  totals      received, sent, answered, originated, parked, unparked, flows_created,
              flows_removed, refused, hits, bursts
  drops       frames by reason, every reason
  links[]     name, rx_frames, rx_bytes, tx_frames, tx_bytes, unfinished_checksums, truncated,
              dropped
  workers[]   worker, totals, drops
The totals are sums over the workers and the main core.";

/// After the options of `links`.
pub(crate) const LINKS: &str = "\
Example:
  portgate links

JSON (one document):
  links[]   name, device, driver, mac, mtu, vlan, up, speed_mbps (null = unknown), missed (frames
            that the device dropped for want of room), rx_frames, rx_bytes, tx_frames, tx_bytes,
            unfinished_checksums, truncated, dropped, notes[]";

/// After the options of `explain`.
pub(crate) const EXPLAIN: &str = "\
Examples:
  portgate explain --protocol tcp --from 203.0.113.50:40000 --to 203.0.113.10:30379
  portgate explain --manifests ./manifests --packets packets.jsonl

Lines of packets:
  {\"id\": \"a\", \"protocol\": \"tcp|udp|sctp\", \"from\": \"ip:port\", \"to\": \"ip:port\"}

JSON (one object a line, in the order of the packets):
  id           of the packet; null for the packet of --from and --to
  verdict      translate, reject (TCP reset or ICMP unreachable), drop (in silence), or pass (not
               a service's)
  service      namespace/name, or null
  endpoints[]  all that a new flow may go to
  masquerade   whether the source is rewritten to the gateway's address
  reason       for translate the type of the address: clusterip, nodeport, loadbalancer or
               externalip; else the name under which `portgate counters` counts it";

/// After the options of `check`.
pub(crate) const CHECK: &str = "\
Example:
  portgate check --config ./portgate.toml --manifests ./manifests

JSON (one document):
  ok           true or false
  problems[]   subject (a file, or kind and name of an object), message";

/// After the options of `version`.
pub(crate) const VERSION: &str = "\
Example:
  portgate version

JSON (one document):
  version, region_version, record_version, flow_layout";
