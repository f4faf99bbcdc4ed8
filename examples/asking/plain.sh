#!/usr/bin/env bash
# Asks a model about the rows of stdin, {"instances": [{"distance": 3.2, ...}, ...]}: plain.sh GATEWAY MODEL
set -euo pipefail
: "${GYRAL_API_KEY:?expected a key with scope infer: export one}"
curl --silent --show-error --fail-with-body --data-binary @- \
  --header "Authorization: Bearer $GYRAL_API_KEY" "$1/v1/models/$2:predict"
