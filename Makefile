# The two commands are `make demo` and `make test`; both need root for network namespaces and say so.
# Everything is done by the scripts in ci/, which can be run by hand as well.

.PHONY: demo test perf soak test-cluster build clean deps format clippy unit loom sanitizers miri fuzz vectors e2e capsule capsule-build instructions audit

demo:    ## the gateway at work, in network namespaces; KEEP=1 leaves it running
	@ci/demo.sh

test:    ## every check and test
	@ci/run.sh all

perf:    ## the table of figures: measured, recorded, written into docs/performance.md
	@ci/run.sh perf

soak:    ## live connections while processes are killed, MINUTES long; the record goes to ci/records
	@ci/run.sh soak $(MINUTES)

deps format clippy unit loom sanitizers miri fuzz build vectors e2e test-cluster capsule capsule-build instructions audit:
	@ci/run.sh $@

clean:   ## remove what was built
	cargo clean
