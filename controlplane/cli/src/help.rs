//! Examples and JSON forms, as `--help` shows them behind the options.

/// After the options of `services`.
pub(crate) const SERVICES: &str = "\
Examples:
  portgate services --service default/mynginx
  portgate services --watch 2
  portgate services --service default/mynginx --endpoints

Each address of a service is listed with what happens to new flows of each kind of client: pods,
the gateway itself (node), and all others (outside). An endpoint is ready (new flows go there), kept (it
serves the flows that it has) or gone (it is not installed, and has flows).

JSON (one document):
  generation, digest   of the installed state
  services[]           service, port_name, protocol, frontends[], serving[], on_endpoint_gone,
                       drain_seconds, counters
  .frontends[]         type (clusterip, nodeport, loadbalancer, externalip), address,
                       affinity_seconds, source_ranges (null = everyone), actions
  .actions             pod, node, outside: each {action: translate|reject|drop, endpoints[],
                       masquerade, reason}
  .serving[]           endpoints that may keep their UDP flows
  .counters            frames, bytes, flows, refused, half_open_evicted, limited, snat_exhausted,
                       endpoint_resets; null if the service has none of its own
  .endpoints[]         with --endpoints: endpoint, state (ready, kept, gone), open_flows, counters
                       (frames, bytes, flows, refused; null as above), rates
  .rates               with --interval or --watch: the same, by how much they have grown a second
With --watch, a document a line.";

/// After the options of `flows`.
pub(crate) const FLOWS: &str = "\
Examples:
  portgate flows --service default/mynginx --state established
  portgate flows --from 203.0.113.50 --limit 20

Flows are listed as they lie in the table, in no order; those that come or go meanwhile may be
missing. States: half-open, established, closing, closed.

JSON (one object a line):
  protocol, client, service_address, source (the client after translation), endpoint, state,
  age_seconds, idle_seconds, service, port_name (null if the service is gone)";

/// After the options of `counters`.
pub(crate) const COUNTERS: &str = "\
Example:
  portgate counters --workers
  portgate counters --links --all
  portgate counters --interval 5

At rest: received + originated = sent + all drops + (parked - unparked).

JSON (one document):
  totals      received, sent, answered, originated, parked, unparked, flows_created,
              flows_removed, refused, hits, bursts, handed_over, taken_over, half_open_evicted,
              endpoint_resets, bad_records, bad_rings, updates_refused, taken_in, work_nanos
  drops       frames by reason, every reason
  links[]     name, rx_frames, rx_bytes, tx_frames, tx_bytes, unfinished_checksums, truncated,
              dropped, dealt_out, drops (by reason, where frames came in, or were to go out if
              that is why)
  workers[]   worker, totals, drops
  main        totals, drops of the main core
  rates       with --interval or --watch: totals, drops, links[], workers[] again, each number by
              how much it has grown a second (null = not known)
The totals are sums over the workers and the main core. With --watch, a document a line.";

/// After the options of `links`.
pub(crate) const LINKS: &str = "\
Example:
  portgate links

JSON (one document):
  links[]   name, device, driver, mac, mtu, vlan, up, speed_mbps (null = unknown), missed (frames
            that the device dropped for want of room), rx_frames, rx_bytes, tx_frames, tx_bytes,
            unfinished_checksums, truncated, dropped, dealt_out, fan_out, notes[]";

/// After the options of `latency`.
pub(crate) const LATENCY: &str = "\
Examples:
  portgate latency
  portgate latency --interval 10 --json

Of each worker's bursts one in 64 is timed, from the moment that it was taken from its link to the
moment that its frames were given to theirs. The other two come from the control plane.

JSON (one document):
  unit                 seconds
  workers[]            worker, count, p10, p50, p75, p90, p99, p999, p9999, max (null = none
                       timed), buckets[] {from, to, count}
  commit               the same: updates, from the first record to the data plane's word
  network_programming  the same: changes of endpoints, from the cluster to the workers; both are
                       null if the control plane does not answer";

/// After the options of `top`.
pub(crate) const TOP: &str = "\
Examples:
  portgate top
  portgate top --once --interval 5

q, Esc or Ctrl-C ends it. The load of a worker is the part of its time that goes into bursts that are not
empty, from rx to tx, as far as one timed burst in 64 tells.

JSON (one document, after one interval; rates are for a second):
  generation
  flows       open, capacity (what the tables are made for), created, removed
  workers[]   worker, frames, frames_a_burst, load (0 to 1)
  links[]     name, rx_frames, rx_bytes, tx_frames, tx_bytes
  services[]  name (namespace/name:port), frames, bytes, flows, refused; the busiest first
  drops[]     reason, frames, total; only what has occurred";

/// After the options of `trace`.
pub(crate) const TRACE: &str = "\
Examples:
  portgate trace --from 203.0.113.50 --to 203.0.113.10:30379
  portgate trace --service default/mynginx --pcap trace.pcapng
  portgate trace --dropped --limit 20
  portgate trace --reason no_flow --reason unresolved

'portgate: tracing' on standard error says that frames are traced from then on. A frame that is put aside
until its next hop is resolved is shown again when it is taken up.

JSON (one object a line):
  number, time, worker
  link         that it came in by; null for one that had been put aside
  frame        in words
  length       in bytes
  bytes        the first ones, in hexadecimal
  stages[]     each {stage: resumed|parsed|found|decided|translated|next_hop|waits|answered|
               dropped} with
  .parsed      kind
  .found       state, service, forward (client to endpoint)
  .decided     verdict (translate, reject, drop, pass), reason, service, frontend, kind
               (clusterip, nodeport, loadbalancer, externalip), client (pod, node, outside),
               backends, masquerade
  .translated  from, to, new_from, new_to
  .next_hop    link, address
  .waits       what (neighbour, first_fragment)
  .dropped     reason, as 'portgate counters' names it
  out[]        what was put out: link, frame, length, bytes, handed_over (to the worker that
               sends for this one), refused (tx_full)
  outcome      sent, answered, waiting or dropped
  reason       of the drop, or null
The last object: ended (limit, time, takeover), frames, examined, unexamined, missed";

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
