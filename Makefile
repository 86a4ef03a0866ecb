# The two commands are `make demo` and `make test`; both need root for network namespaces and say so.
# Everything is done by the scripts in ci/, which can be run by hand as well.

.PHONY: demo test perf soak test-cluster test-vm test-package test-image test-chart package build clean deps format clippy unit loom sanitizers miri fuzz vectors e2e capsule capsule-build instructions audit

demo:    ## the gateway at work, in network namespaces; KEEP=1 leaves it running
	@ci/demo.sh

test:    ## every check and test
	@ci/run.sh all

perf:    ## the table of figures: measured, recorded, written into docs/performance.md
	@ci/run.sh perf

soak:    ## live connections while processes are killed, MINUTES long; the record goes to ci/records
	@ci/run.sh soak $(MINUTES)

test-vm: ## a gateway in a VM that owns its NICs, installed by the commands of docs/install.md
	@ci/run.sh test-vm

package: ## the Debian package, in target/debian
	@ci/run.sh package

deps format clippy unit loom sanitizers miri fuzz build vectors e2e test-cluster test-package test-image test-chart capsule capsule-build instructions audit:
	@ci/run.sh $@

clean:   ## remove what was built
	cargo clean
