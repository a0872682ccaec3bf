#!/bin/sh
# Holds what deploys pixart to the rules of those who will read it: nothing here runs an image, a cluster or a Grafana.
#
#   tests/deploy/lint.sh [FOLDER]   the folder of the linters that requirements.txt names; without it, those on PATH
#
# All of them are asked, whatever the first ones say.
set -u

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
cd "$root" || exit 1
# Debian has haproxy where only root's PATH looks.
PATH=${1:+$1:}$PATH:/usr/sbin
export PATH
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0 asked=0

# hold NAME COMMAND...: what the command says matters only where it fails.
hold() {
    name=$1
    shift
    asked=$((asked + 1))
    if "$@" >"$work/said" 2>&1; then
        echo "ok     $name"
    else
        failed=$((failed + 1))
        echo "FAILED $name: $*"
        cat "$work/said"
    fi
}

# Kubernetes' own kinds, whole ones: neither patches nor kustomize's own files.
manifests() {
    find deploy/kubernetes -name '*.yaml' ! -name kustomization.yaml ! -path '*/overlays/*/deployment.yaml' | sort
}

# An overlay as the cluster would get it.
overlay() {
    kubectl kustomize "deploy/kubernetes/overlays/$1" >"$work/$1.yaml" && kubernetes-validate --strict --quiet "$work/$1.yaml"
}

hold 'Dockerfile: hadolint' hadolint --failure-threshold style Dockerfile
# The first line of its scripts tells shellcheck that they are POSIX's.
hold 'scripts: shellcheck' shellcheck deploy/layout.sh scripts/fetch-openvino.sh tests/deploy/lint.sh
hold 'compose.yaml: check-jsonschema' check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml
# shellcheck disable=SC2046 # the names have no spaces
hold 'kubernetes: kubernetes-validate' kubernetes-validate --strict --quiet $(manifests)
if command -v kubectl >/dev/null; then
    for folder in deploy/kubernetes/overlays/*/; do
        name=$(basename "$folder")
        hold "kubernetes, overlay $name: kubectl kustomize, kubernetes-validate" overlay "$name"
    done
else
    echo 'not asked: the overlays as kustomize builds them, as kubectl is not here'
fi
hold 'haproxy.cfg: haproxy -c' env PIXART_REPLICA_1=127.0.0.1:8081 PIXART_REPLICA_2=127.0.0.1:8082 \
    haproxy -c -q -dW -f deploy/haproxy/haproxy.cfg
hold 'prometheus.yml: promtool check config' promtool check config deploy/prometheus/prometheus.yml
hold 'prometheus rules: promtool check rules' promtool check rules deploy/prometheus/rules/*.yml
hold 'prometheus rules: promtool test rules' promtool test rules deploy/prometheus/tests/*.yml
hold 'alerts, each tested both ways: alerts.py' python3 tests/deploy/alerts.py
hold 'grafana dashboard: dashboard.py' python3 tests/deploy/dashboard.py

echo "lint-deploy: $((asked - failed)) of $asked passed"
[ "$failed" -eq 0 ]
