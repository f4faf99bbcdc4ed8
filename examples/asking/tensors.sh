#!/usr/bin/env bash
# Asks a model an Open Inference request on stdin, {"inputs": [...]}: tensors.sh GATEWAY MODEL
set -euo pipefail
: "${GYRAL_API_KEY:?expected a key with scope infer: export one}"
curl --silent --show-error --fail-with-body --data-binary @- \
  --header "Authorization: Bearer $GYRAL_API_KEY" "$1/v2/models/$2/infer"
