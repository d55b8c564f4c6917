#!/bin/sh
# Follows a model with redis-cli only. Prints the metadata of each version, one line of JSON per version.
#
#   ./subscribe.sh palette [namespace] [redis-cli options...]
#
# An announcement has no arrays. XRANGE with the version in it fetches the payload, which is
# safetensors: the length of a JSON header (uint64, little-endian), the header, and the arrays.
set -eu
model=$1
namespace=${2:-streamclust}
[ $# -ge 2 ] && shift 2 || shift 1
key="{$namespace:$model}:models"

# First the newest stored version: its metadata is in the header of the payload.
redis-cli "$@" XREVRANGE "$key" + - COUNT 1 | grep -ao '__metadata__.*' | head -n 1 || true

# Each announcement has three lines: "message", the channel, and the JSON.
exec redis-cli "$@" --raw SUBSCRIBE "$key" | grep --line-buffered '^{"'
