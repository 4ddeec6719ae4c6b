CARGO ?= cargo

.PHONY: help demo test test-nightly check bench setup-tests

help: ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

demo: ## a demo server, the proxy before it, and what to open in a browser
	$(CARGO) run --release -- demo

test: setup-tests ## every test, those with Node and Python peers included
	OUTRIGGER_INTEROP=1 $(CARGO) test --locked $(TEST_ARGS)

test-nightly: ## what takes minutes and proves no more than tests at a larger size: a storm of 5,000, long lives of sessions
	$(CARGO) test --locked --test load -- --ignored --nocapture five_thousand
	$(CARGO) test --locked --lib -- --ignored --nocapture long_lives

check: ## formatting, lints and documentation, without a warning
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

bench: ## side by side with other proxies, on this machine
	bench/bench.sh

setup-tests: ## what the tests need beyond Rust, into tests/interop and tests/helm
	scripts/setup-tests.sh
