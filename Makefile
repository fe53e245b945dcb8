# One command for each thing a developer does; every target installs what it lacks (apt, pip) and can be run again.
#   make venv      .venv with .venv/bin/kdumpd
#   make check     lint, types, import contracts, unit and fuzz tests (under 2 minutes)
#   make test      check, then the tests on real crashes that carry most
#   make kmod      the page-scan module for KERNEL=..., in that kernel's modules; as --kernel of kdumpd rehearse
#   make rehearse  crash a real kernel (KERNEL=...) in a VM, with the page-scan module, and verify its dump
#   make matrix    every kernel, level, fault and reader; resumes; writes docs/matrix.md when whole
#   make bench     the measurements of docs/performance.md
#   make docs      what is generated: docs/policy.md, docs/json.md, docs/man, packaging/completions
#   make deb       build/deb: the Debian packages, of what is committed
#   make rpm       build/rpm: the RPM packages of RPM_TARGETS (distribution=Python), of what is committed
#   make picture   docs/rehearsal.svg, from a rehearsal
.DELETE_ON_ERROR:
.PHONY: venv check test kmod rehearse matrix bench docs picture deb rpm tools \
	kmod-tools vm-tools matrix-tools bench-tools deb-tools rpm-tools clean

PYTHON ?= python3
BIN := .venv/bin
CACHE ?= $(HOME)/.cache/kdumpd
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CACHE_DIR := $(CACHE)/pip

CHECK_PACKAGES := cpio dracut-core e2fsprogs fish gcc groff-base libc6-dev libkdumpfile10 mandoc python3-systemd python3-venv \
	shellcheck systemd zsh
VM_PACKAGES := binutils busybox-static cpio debootstrap dpkg dracut-core e2fsprogs kexec-tools kmod libkdumpfile10 \
	makedumpfile qemu-system-x86 qemu-utils zstd
KMOD_PACKAGES := binutils dpkg gcc kmod make perl
MATRIX_PACKAGES := btrfs-progs dkms dosfstools gcc-aarch64-linux-gnu lvm2 mdadm qemu-system-arm xfsprogs
BENCH_PACKAGES := debootstrap
DEB_PACKAGES := build-essential debhelper dh-dkms dh-python lintian pybuild-plugin-pyproject python3-all python3-setuptools
RPM_PACKAGES := rpm rpmlint

venv: .venv/installed

.venv/installed: pyproject.toml | tools
	@echo "making .venv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "make venv: $(PYTHON) is older than 3.11; install a newer one and run make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --editable '.[dev]' \
		|| { echo "make venv: pip could not install the dependencies; see the line above and check the network" >&2; exit 1; }
	@touch $@

tools:
	@packaging/install-tools $(CHECK_PACKAGES)

kmod-tools:
	@packaging/install-tools $(KMOD_PACKAGES)

vm-tools:
	@packaging/install-tools $(VM_PACKAGES) $(KMOD_PACKAGES)

matrix-tools:
	@packaging/install-tools $(MATRIX_PACKAGES)

bench-tools:
	@packaging/install-tools $(BENCH_PACKAGES)

deb-tools:
	@packaging/install-tools $(DEB_PACKAGES)

rpm-tools:
	@packaging/install-tools $(RPM_PACKAGES)

check: venv
	@$(BIN)/ruff format --quiet --check . || { echo "make check: run .venv/bin/ruff format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@git ls-files -z -- '*.sh' packaging/install-tools 'packaging/build-*' 'packaging/hooks/*' 'packaging/debian/*.p*' \
		'packaging/initramfs-tools/hooks/*' 'packaging/initramfs-tools/scripts/*' .ci/run | xargs -0 shellcheck
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/pytest -q -n 2 tests/unit tests/fuzz

test: check vm-tools deb-tools
	@$(BIN)/pytest -v --timeout 900 -n 2 --dist loadfile -m 'not matrix' tests/vm tests/fault

kmod: venv kmod-tools
	@$(BIN)/python -m tests.lab.kmod $(KERNEL)

rehearse: venv vm-tools
	@$(BIN)/python -m tests.lab.kmod --fetched $(KERNEL) || echo "make rehearse: goes on without kdumpd_scan" >&2
	@$(BIN)/kdumpd rehearse $(if $(KERNEL),--kernel $(KERNEL)) $(REHEARSE)

matrix: venv vm-tools matrix-tools deb-tools rpm-tools
	@$(BIN)/python -m tests.matrix

bench: venv vm-tools bench-tools
	@$(BIN)/python -m bench

docs: venv
	@$(BIN)/python -m kdumpd.policy.reference docs/policy.md
	@$(BIN)/python -m kdumpd.cli.manual docs/man
	@$(BIN)/python -m kdumpd.cli.jsonpage config/json docs/json.md
	@$(BIN)/python -m kdumpd.cli.completion packaging/completions

picture: venv vm-tools
	@$(BIN)/python -m kdumpd.rehearse.picture docs/rehearsal.svg

deb: deb-tools
	@packaging/build-deb

rpm: rpm-tools
	@packaging/build-rpm

clean:
	rm -rf .venv build *.egg-info
