//! What stands under the options of each verb.

pub(super) const ENGINE: &str = "Examples:
  perf engine                                      65,536 established flows over net_ring, without huge pages
  perf engine --flows 1000000 --capacity 1048576 --huge-pages auto --table-pages huge --floors
                                                   a million flows as in production, beside its floors (root)
  perf engine --scenario new --family 6 --json     first frames of IPv6 flows, as a line of JSON
  perf engine --scenario flood --flood table-full  SYNs against a full table
  perf engine --workers 2 --flows 65536            two workers share one table
  perf engine --link memory --packets 100000       without DPDK and without root
  perf engine --callgrind --flows 1000             instructions a packet instead of time (valgrind)";

pub(super) const WALK: &str = "Examples:
  perf walk                                        a million flows, 30 pairs of seconds with and without
  perf walk --flows 100000 --pairs 5 --json        fewer, as a line of JSON";

pub(super) const FAN_OUT: &str = "Examples:
  perf fan-out --huge-pages auto                   65,536 flows, one worker that receives and one that does not (root)
  perf fan-out --flows 1000000 --json              a million, as a line of JSON";

pub(super) const KERNEL: &str = "Examples:
  perf kernel                                      nftables, iptables and the gateway between the same veths
  perf kernel --services 1 --flows 1000 --json     one size of each, as JSON lines";

pub(super) const CAPSULE: &str = "Examples:
  ci/run.sh capsule-build && perf capsule          builds the peer, then measures
  perf capsule --mbufs 1024 --repeat 5 --json      few buffers: they stay in the caches";

pub(super) const FIGURES: &str = "Examples:
  perf figures --into docs/performance.md          all (make perf does this, and builds before)
  perf figures --only established-v4 --out /tmp/r  some, elsewhere";

pub(super) const COMPARE: &str = "Examples:
  perf compare perf/records/A.jsonl perf/records/B.jsonl";

pub(super) const REPORT: &str = "Examples:
  perf report perf/records/A.jsonl --html a.html   a page with plots
  perf report perf/records/A.jsonl                 the tables as Markdown";

pub(super) const IMPORT: &str = "Examples:
  perf import-pktgen pktgen.log --commit 1a2b3c4 --host gw1 > perf/records/pktgen.jsonl
  perf report perf/records/pktgen.jsonl --html pktgen.html";

pub(super) const GEN: &str = "Examples:
  perf gen --lab memif --rate 1000000 --seconds 5  a gateway of its own between memif links (root)
  perf gen --lab af_packet --traffic connections --size 200 --rate 10000
  perf gen --device vdev:net_memif0,role=client,socket=/run/memif,socket-abstract=no \\
      --address 203.0.113.1 --via 203.0.113.10 --to 203.0.113.10:30080 --rate 500000 --json
                                                   into a gateway that runs, with `perf sink` behind it";

pub(super) const SINK: &str = "Examples:
  perf sink --device vdev:net_memif1,role=client,id=1,socket=/run/memif,socket-abstract=no \\
      --address 100.96.0.0/16 --json";

pub(super) const SEARCH: &str = "Examples:
  perf search --lab memif --lab-huge-pages 256     frame sizes 64 to 1518 (root)
  perf search --lab af_xdp --sizes 64 1518 --trial 10 --confirm 5 --json";
