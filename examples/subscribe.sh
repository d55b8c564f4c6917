#!/bin/sh
# Follows a model with redis-cli alone: what each version says of itself, a line of JSON each.
#
#   ./subscribe.sh palette [namespace] [redis-cli options...]
#
# An announcement holds no arrays; with the version from it, XRANGE fetches the payload, which is
# safetensors: the length of a JSON header (uint64, little-endian), the header, and the arrays.
set -eu
model=$1
namespace=${2:-streamclust}
[ $# -ge 2 ] && shift 2 || shift 1
key="{$namespace:$model}:models"

# The newest version, before those to come: its metadata is in the header of the payload.
redis-cli "$@" XREVRANGE "$key" + - COUNT 1 | grep -ao '__metadata__.*' | head -n 1 || true

# Announcements: "message", the channel, and the JSON, a line each.
exec redis-cli "$@" --raw SUBSCRIBE "$key" | grep --line-buffered '^{"'
