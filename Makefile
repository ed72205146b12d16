# Ampora on Vault. Needs Go, make, git and bash; everything else is built from pinned sources.
SHELL := bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build vault tools demo test lint bench clean

help: ## Show this
	@echo 'make TARGET, where TARGET is one of:'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## Build the plugin, the edge and the ampora command into bin/ (about a minute the first time)
	@scripts/build/ampora.sh

vault: ## Leave a real Vault in bin/vault: from the PATH where it will do, else built (5 to 15 minutes, once)
	@scripts/build/vault.sh

tools: ## Build the programs that the tests run against into bin/tools/ (2 to 8 minutes, once)
	@scripts/build/tool.sh
	@scripts/build/nested.sh

demo: build vault ## Show the whole way, from an empty Vault to an agent on mutual TLS
	@scripts/demo.sh

test: ## Run everything that must pass: lint, real Vault, real agents, fuzzing; closes with the counts
	@scripts/test.sh

lint: ## Look for mistakes without running anything: gofmt, go vet, staticcheck
	@scripts/lint.sh

bench: build vault tools ## Measure speed and memory beside what Vault and a bare OpAMP server do
	@scripts/bench.sh

clean: ## Remove bin/ (finished tool builds stay in the cache outside, and come back at once)
	rm -rf bin dist
