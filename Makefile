# underlay: `make` builds, `make test` tests everything, `make demo` shows it, `make install` installs.

PREFIX ?= /usr
DESTDIR ?=
# Where podman and CRI-O read hooks by default, whatever PREFIX is.
HOOKSDIR ?= /usr/share/containers/oci/hooks.d

# One static binary: nothing to load at each container's start, and it runs on any Linux of this architecture. Not
# relocated at each start either, which would take a tenth of it (`make bench`): it lies where it was linked for, without
# a random base, which memory-safe code can do without. The target must be named, or build scripts would be linked so too.
TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS ?= -C target-feature=+crt-static -C relocation-model=static
export RUSTFLAGS
CARGO = cargo
SHELL = bash
.SHELLFLAGS = -o pipefail -ec
BUILT = target/$(TARGET)
BINARY = $(BUILT)/release/underlay
PAYLOAD = target/payload

.PHONY: build check test test-unit test-native test-guest fuzz bench payload demo install uninstall clean

build:
	$(CARGO) build --release --target $(TARGET)

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --target $(TARGET) -- -D warnings
	tests/deny

# Everything, on this machine's kernel as far as it goes, then on Debian's with real engines.
test: requirements check test-unit test-native test-guest

.PHONY: requirements
requirements:
	tests/requirements

# With the fuzz targets, on their corpus and on what is made of it: the same inputs each time.
test-unit:
	$(CARGO) test --lib --target $(TARGET)

test-native: requirements
	$(CARGO) test --test it --target $(TARGET)

# The long versions: every system call with every mishap, in the guests too. Hours.
.PHONY: soak
soak: requirements payload
	UNDERLAY_TEST_SOAK=1 $(CARGO) test --test it --target $(TARGET) -- crash:: storms::
	for debian in trixie bookworm; do \
		tests/guest/guest run $$debian --payload $(PAYLOAD) --timeout 36000 --out target/guest/out/soak-$$debian -- \
			env UNDERLAY_TEST_SOAK=1 tests/in-guest crash:: || exit 1; \
	done
	$(MAKE) --no-print-directory fuzz TIME=600

# Every fuzz target under a coverage-guided fuzzer, TIME seconds each; TARGETS names some.
fuzz:
	TIME=$(or $(TIME),60) fuzz/run $(TARGETS)

# What an attach costs, next to others' and as networks grow, in instructions, in the guest: a table, plots and
# results.json in target/bench/results. ROUNDS of each; QUICK=quick leaves engines and most of growth out.
ROUNDS = 15
QUICK =
bench: requirements build
	$(CARGO) build --release --manifest-path benches/Cargo.toml --target $(TARGET) --target-dir target/bench
	rm -rf target/bench/payload
	mkdir -p target/bench/payload
	cp $(BINARY) target/bench/$(TARGET)/release/{empty,raw,underlay-bench} target/bench/payload/
	tests/guest/guest run trixie --icount --memory 2048 --payload target/bench/payload --out target/bench/results --timeout 3600 -- \
		./underlay-bench /payload/underlay /payload /out $(ROUNDS) $(QUICK)

# What the guest gets: the binary as it is shipped, installed below root/, and the tests with what they read.
payload: build
	rm -rf $(PAYLOAD)
	mkdir -p $(PAYLOAD)
	$(MAKE) --no-print-directory install DESTDIR=$(PAYLOAD)/root
	cp -a --parents ARCHITECTURE.md Cargo.toml docs hooks.d src tests/in-guest tests/demo-walk $(PAYLOAD)/
	cp "$$($(CARGO) test --no-run --test it --target $(TARGET) 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p')" $(PAYLOAD)/it

# Debian 13, and Debian 12 with the oldest kernel and engines we serve: each the whole suite, of which nothing may be
# skipped. Both at a time, for an emulated machine keeps but one CPU busy.
test-guest: payload
	$(MAKE) --no-print-directory -j2 guest-trixie guest-bookworm

guest-%:
	tests/guest/guest run $* --payload $(PAYLOAD) --timeout 5400 --out target/guest/out/$* -- tests/in-guest 2>&1 | sed -u 's/^/$*: /'

# The first example of Docker's macvlan page on a throw-away LAN.
demo: requirements build
	tests/demo $(BINARY)

# The binary first: an engine passes over a hook whose program is missing, and starts the container without it.
install: build
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/underlay
	ln -sf underlay $(DESTDIR)$(PREFIX)/bin/underlay-runtime
	install -d -m 755 $(DESTDIR)$(HOOKSDIR)
	for file in hooks.d/*.json; do \
		sed 's|/usr/bin/underlay|$(PREFIX)/bin/underlay|' $$file > $(DESTDIR)$(HOOKSDIR)/$$(basename $$file) || exit 1; \
	done

uninstall:
	for file in hooks.d/*.json; do rm -f $(DESTDIR)$(HOOKSDIR)/$$(basename $$file); done
	rm -f $(DESTDIR)$(PREFIX)/bin/underlay $(DESTDIR)$(PREFIX)/bin/underlay-runtime

clean:
	$(CARGO) clean
