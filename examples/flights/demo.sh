#!/usr/bin/env bash
# `make demo`: a year of flights through the whole loop, on a stack of its own. KEEP=1 leaves it up.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

out="out/demo"
bin="$PWD/.venv/bin"
data="$out/flights.parquet"
mkdir -p "$out"
rm -f "$out"/report.{html,json}

if [[ -z "${GYRAL_HOME:-}" ]]; then
    export GYRAL_HOME="$PWD/$out/instance" GYRAL_PORTS="${GYRAL_PORTS:-any}"
    # Our own instance begins anew, so the same file gives the same report.
    if [[ -d "$GYRAL_HOME" ]]; then
        "$bin/gyral" down
        rm -rf "$GYRAL_HOME"
    fi
fi

stop() {
    local status=$?
    trap - EXIT INT TERM
    if [[ "${KEEP:-0}" == 1 ]]; then
        echo "The stack is up. To look around:"
        echo "  export GYRAL_HOME=$GYRAL_HOME"
        echo "  $bin/gyral trace flight-delay"
        echo "  $bin/gyral get versions flight-delay"
        echo "  $bin/gyral get alarms flight-delay"
        sed -nE 's/^(ZIPKIN_URL)=(.*)$/  traces        \2\/zipkin\//p' "$GYRAL_HOME/instance.env"
        for service in REGISTRY GATEWAY DEPLOYER TRAINER MONITOR VALIDATION INGESTION; do
            name=$(printf '%-13s' "${service,,}")
            sed -nE "s/^${service}_PORT=(.*)$/  $name http:\/\/127.0.0.1:\1/p" "$GYRAL_HOME/instance.env"
        done
        echo "To stop it:"
        echo "  GYRAL_HOME=$GYRAL_HOME $bin/gyral down"
    else
        "$bin/gyral" down
        echo "The trace above can be opened while the stack is up: make demo KEEP=1"
    fi
    [[ ! -e "$out/report.html" ]] || echo "The report: file://$PWD/$out/report.html"
    exit "$status"
}

"$bin/python" examples/flights/prepare.py "$data"
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
"$bin/gyral" up

"$bin/gyral" replay \
    --spec examples/flights --data "$data" \
    --key flight_id --time scheduled_departure \
    --label arrival_delay_min --label-at label_known_at \
    --bootstrap "${BOOTSTRAP:-59d}" --until "${UNTIL:-2014-01-01}" --report "$out"
"$bin/gyral" check-report "$out/report.json"
