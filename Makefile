# underlay: `make` builds, `make check` looks the code over, `make test` tests it, `make test-all` tests every combination,
# `make demo` shows it, `make install` installs.

PREFIX ?= /usr
DESTDIR ?=
# Where podman and CRI-O read hooks by default, whatever PREFIX is; and systemd its units.
HOOKSDIR ?= /usr/share/containers/oci/hooks.d
UNITDIR ?= $(if $(filter /usr,$(PREFIX)),/usr/lib,/etc)/systemd/system
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions

# One static binary: nothing to load at each container's start, and it runs on any Linux of this architecture. Not
# relocated at each start either, which would take a tenth of it (`make bench`): it lies where it was linked for, without
# a random base, which memory-safe code can do without. The target must be named, or build scripts would be linked so too.
# Found where it is first used, once: tests/requirements may have installed rustc just before.
TARGET = $(eval TARGET := $(shell rustc -vV | sed -n 's/^host: //p'))$(TARGET)
RUSTFLAGS ?= -C target-feature=+crt-static -C relocation-model=static
export RUSTFLAGS
CARGO = cargo
SHELL = bash
.SHELLFLAGS = -o pipefail -ec
BUILT = target/$(TARGET)
BINARY = $(BUILT)/release/underlay
PAYLOAD = target/payload
# Manual pages and completions, made from the command line as the source defines it.
GENERATED = target/generated

.PHONY: build generated show check test test-unit fuzz bench bench-native payload demo install uninstall clean

# Rust and a C compiler.
.PHONY: toolchain
toolchain:
	@tests/requirements build

build: toolchain
	$(CARGO) build --release --target $(TARGET)

generated: toolchain
	rm -rf $(GENERATED)
	$(CARGO) run --quiet --locked --manifest-path packaging/generate/Cargo.toml --target $(TARGET) --target-dir target -- $(GENERATED)

# What needs no root and, once built, no minute: format, lints, licences, unit tests, the layers of the source, the tests that
# documents cite, and their links.
check: check-code test-unit
	for part in layers docs; do $(CARGO) test --quiet --test it --target $(TARGET) -- $$part:: || exit 1; done

.PHONY: check-code
check-code:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --target $(TARGET) -- -D warnings
	tests/deny

# Everything compiles with the oldest Rust that Cargo.toml names, Debian 13's own; wants root.
.PHONY: check-oldest-rust
check-oldest-rust:
	tests/oldest-rust

.PHONY: requirements
requirements:
	tests/requirements tests

# All that a change needs. UNDERLAY_TEST=NAME: only the tests whose names contain NAME (tests/named), where they belong.
test: requirements
ifdef UNDERLAY_TEST
	$(MAKE) --no-print-directory test-one
else
	@for debian in bookworm trixie forky; do [[ -e $$(tests/debian/image path $$debian) ]] || \
		echo "the image of Debian $$debian is built beside the checks below (some minutes, once)"; done
	$(MAKE) --no-print-directory -j2 -O images check check-oldest-rust
	$(MAKE) --no-print-directory test-packages test-it
endif

# With the fuzz targets, on their corpus and on what is made of it: the same inputs each time.
test-unit:
	$(CARGO) test --lib --target $(TARGET)

# Each test where it belongs: here, with the engines of three Debians, on their kernels.
IT = $$($(CARGO) test --no-run --test it --target $(TARGET) 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p')
UNIT = $$($(CARGO) test --no-run --lib --target $(TARGET) 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p')
.PHONY: test-it test-one test-list images
test-it: requirements
	$(CARGO) test --no-run --test it --target $(TARGET)
	tests/run $(IT)

test-one: requirements
	$(CARGO) test --no-run --test it --lib --target $(TARGET)
	tests/named $(IT) $(UNIT) '$(UNDERLAY_TEST)'

# The names of all tests, which UNDERLAY_TEST takes.
test-list:
	@$(CARGO) test --quiet --no-run --test it --lib --target $(TARGET)
	@tests/named $(IT) $(UNIT) --list

images:
	for debian in bookworm trixie forky; do tests/debian/image build $$debian || exit 1; done

# Every test on every kernel, every system call with every mishap, mutants, the fuzzer, known defects of dependencies. Hours.
.PHONY: test-all
test-all: requirements check
	tests/deny advisories
	tests/mutants ipam/assign config/network config/reservation oci/annotations net/parent lifecycle/sharing diagnose/mod
	UNDERLAY_TEST_ALL=1 UNDERLAY_TEST_SOAK=1 tests/run $(IT)
	$(MAKE) --no-print-directory fuzz TIME=600

# What is in the packages, and in which order.
.PHONY: test-packages
test-packages: requirements deb rpm tarball
	tests/packages target/packages

# Every fuzz target under a coverage-guided fuzzer, TIME seconds each; TARGETS names some.
fuzz:
	TIME=$(or $(TIME),60) fuzz/run $(TARGETS)

# What an attach costs, next to others' and as networks grow, in instructions, in the guest: a table, plots and
# results.json in target/bench/results. ROUNDS of each; QUICK=quick leaves engines and most of growth out. Then what users see
# of it (bench-starts), which leads in target/bench/table.md.
ROUNDS = 15
QUICK =
bench: requirements bench-payload
	tests/debian/guest run trixie --icount --memory 2048 --payload target/bench/payload --out target/bench/results --timeout 3600 -- \
		./underlay-bench /payload/underlay /payload /out $(ROUNDS) $(QUICK)
ifndef QUICK
	$(MAKE) --no-print-directory bench-starts
	cat target/bench/starts/*/table.md target/bench/results/table.md > target/bench/table.md
endif

.PHONY: bench-build bench-payload
BENCHES = target/bench/$(TARGET)/release/{empty,raw,underlay-bench}
bench-build:
	$(CARGO) build --release --manifest-path benches/Cargo.toml --target $(TARGET) --target-dir target/bench

bench-payload: build bench-build
	rm -rf target/bench/payload
	mkdir -p target/bench/payload
	cp $(BINARY) $(BENCHES) target/bench/payload/

# The cases of bench with the engines of Debian 13 on this machine's own kernel and clock: times, and noisy. Into
# target/bench/payload/native.
bench-native: requirements bench-payload
	tests/debian/chroot trixie --payload target/bench/payload --timeout 3600 -- \
		sh -c './underlay-bench "$$@"; exit' sh /payload/underlay /payload /payload/native $(ROUNDS) $(QUICK)

# Whole starts and stops as users see them, with the engines of two Debians, on this machine's own kernel and clock, which
# nothing else should use meanwhile: table.md and results.json in target/bench/starts/SUITE.
.PHONY: bench-starts
bench-starts: ROUNDS = 20
bench-starts: requirements deb bench-build
	rm -rf target/bench/starts
	mkdir -p target/bench/starts
	cp $(BENCHES) benches/in-debian target/bench/starts/
	cp target/packages/underlay_*.deb target/bench/starts/underlay.deb
	for debian in trixie forky; do \
		tests/debian/chroot $$debian --payload target/bench/starts --timeout 7200 -- ./in-debian $(ROUNDS) $$debian || exit 1; \
	done

# What a Debian of the tests gets: the packages as they are shipped, those of the next version, and the tests with what they read.
payload: deb rpm
	rm -rf $(PAYLOAD)
	mkdir -p $(PAYLOAD)
	cp target/packages/underlay_*.deb $(PAYLOAD)/underlay.deb
	cp target/packages/underlay-*.rpm $(PAYLOAD)/underlay.rpm
	for kind in deb rpm; do packaging/package $$kind target/stage $(PAYLOAD)/next 99 || exit 1; done
	mv $(PAYLOAD)/next/underlay_*.deb $(PAYLOAD)/next/underlay.deb
	mv $(PAYLOAD)/next/underlay-*.rpm $(PAYLOAD)/next/underlay.rpm
	cp -a --parents *.md LICENSE Cargo.toml Makefile benches/README.md benches/plots docs hooks.d packaging/examples src $(PAYLOAD)/
	cp -a --parents tests/in-debian tests/demo-walk tests/packages $(PAYLOAD)/
	cp "$(IT)" $(PAYLOAD)/it

# The first example of Docker's macvlan page on a throw-away LAN.
demo:
	tests/requirements demo
	@echo "building underlay (some minutes the first time)"
	$(MAKE) --no-print-directory build
	$(MAKE) --no-print-directory show
show:
	@tests/demo $(BINARY)

# The binary first: an engine passes over a hook whose program is missing, and starts the container without it. Under a new
# name, which then becomes its own: it may be running, and is never half there.
SHARE = $(DESTDIR)$(PREFIX)/share
# Documents with their links as they are installed: a page that is in the source alone is named without one.
PAGE = sed -E 's|\]\(\.\./\.\./packaging/examples/|](../../examples/|g; \
	s!\[([^][]+)\]\((\.\./)*(ARCHITECTURE|CONTRIBUTING|benches/README|dev/style|dev/dhcp)\.md[^)]*\)!\1 (in the source)!g'
PLACED = sed 's|/usr/bin/underlay|$(PREFIX)/bin/underlay|'
# Where podman looks for network plugins.
NETAVARK = $(PREFIX)/libexec/netavark
UNITS = underlay-boot.service underlay-agent.path underlay-agent.service underlay-docker.socket underlay-docker.service
install: build generated
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/underlay.new
	mv $(DESTDIR)$(PREFIX)/bin/underlay.new $(DESTDIR)$(PREFIX)/bin/underlay
	ln -sfn underlay $(DESTDIR)$(PREFIX)/bin/underlay-runtime
	install -d -m 755 $(DESTDIR)$(NETAVARK)
	ln -sfn ../../bin/underlay $(DESTDIR)$(NETAVARK)/underlay
	install -D -m 644 -t $(SHARE)/man/man1 $(GENERATED)/man/*.1
	install -D -m 644 $(GENERATED)/completions/underlay.bash $(SHARE)/bash-completion/completions/underlay
	install -D -m 644 -t $(SHARE)/fish/vendor_completions.d $(GENERATED)/completions/underlay.fish
	install -D -m 644 -t $(DESTDIR)$(ZSHDIR) $(GENERATED)/completions/_underlay
	install -D -m 644 -t $(SHARE)/doc/underlay LICENSE
	install -d -m 755 $(SHARE)/doc/underlay/docs/{reference,guides,explanation}
	for page in README.md CHANGELOG.md SECURITY.md docs/{,reference/,guides/,explanation/}*.md; do $(PAGE) $$page > $(SHARE)/doc/underlay/$$page || exit 1; done
	install -D -m 644 -t $(SHARE)/doc/underlay/examples packaging/examples/*
	install -d -m 755 $(DESTDIR)$(UNITDIR) $(DESTDIR)$(HOOKSDIR)
	for unit in $(UNITS); do $(PLACED) packaging/$$unit > $(DESTDIR)$(UNITDIR)/$$unit || exit 1; done
	for file in hooks.d/*.json; do $(PLACED) $$file > $(DESTDIR)$(HOOKSDIR)/$$(basename $$file) || exit 1; done

# As a package is removed: what dead containers hold is taken back while the program is there, and nothing names it any more.
uninstall:
ifeq ($(DESTDIR),)
	if command -v systemctl > /dev/null; then \
		systemctl --no-reload disable underlay-boot.service underlay-agent.path underlay-docker.socket || true; \
		if [[ -d /run/systemd/system ]]; then \
			systemctl stop underlay-agent.path underlay-agent.service underlay-docker.socket underlay-docker.service || true; \
		fi; \
	fi
	if [[ -d /run/underlay && -x $(PREFIX)/bin/underlay ]]; then $(PREFIX)/bin/underlay gc || true; fi
	rm -f /etc/cdi/underlay.json
endif
	for file in hooks.d/*.json; do rm -f $(DESTDIR)$(HOOKSDIR)/$$(basename $$file); done
	rm -f $(UNITS:%=$(DESTDIR)$(UNITDIR)/%) $(DESTDIR)$(ZSHDIR)/_underlay
	rm -f $(SHARE)/bash-completion/completions/underlay $(SHARE)/fish/vendor_completions.d/underlay.fish
	rm -f $(SHARE)/man/man1/underlay.1 $(SHARE)/man/man1/underlay-*.1
	rm -rf $(SHARE)/doc/underlay
	rm -f $(DESTDIR)$(NETAVARK)/underlay $(DESTDIR)$(PREFIX)/bin/underlay-runtime $(DESTDIR)$(PREFIX)/bin/underlay

# Packages, in target/packages: for Debian and Ubuntu, for Fedora and its kin, for whatever else.
.PHONY: deb rpm tarball stage
stage:
	rm -rf target/stage
	$(MAKE) --no-print-directory install DESTDIR=$(CURDIR)/target/stage PREFIX=/usr

deb rpm tarball: stage
	packaging/package $@ target/stage target/packages

# Whether this tree can be released (RELEASING.md). It makes no tag and publishes nothing.
.PHONY: release
release:
	packaging/release

clean:
	$(CARGO) clean
