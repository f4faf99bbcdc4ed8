#!/usr/bin/env bash
# Sends rows of stdin, a key, a tab and a JSON object each, straight to Kafka: kcat.sh BROKERS STREAM
set -euo pipefail
brokers=$1 stream=$2 type=data.record.submitted.v1

# kcat has one set of headers for all records, and each event needs an id of its own: so in
# structured mode, where the envelope is part of the value.
run=$(cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen)
awk -F '\t' -v OFS='\t' -v run="$run" -v stream="$stream" -v type="$type" '{
  key = $1; gsub(/[\\"]/, "\\\\&", key); values = substr($0, length($1) + 2)
  printf "%s\t{\"specversion\":\"1.0\",\"id\":\"%s-%d\",\"source\":\"/kcat\",\"type\":\"%s\",", $1, run, NR, type
  printf "\"data\":{\"stream\":\"%s\",\"record_key\":\"%s\",\"values\":%s}}\n", stream, key, values
}' | kcat -P -b "$brokers" -t "$type" -K '\t' -H 'content-type=application/cloudevents+json' \
  -X partitioner=murmur2_random -X acks=all -X enable.idempotence=true
