#!/bin/sh
# Makes a CA and one certificate for the scheduler, the workers and the clients of an engine:
#   deploy/make-certificates.sh SCHEDULER...     names or addresses of the scheduler
# Everyone who has key.pem can execute code on the workers of the engine: keep it secret.
set -eu
[ $# -gt 0 ] || { echo "usage: $0 SCHEDULER..." >&2; exit 2; }
folder=${CERTIFICATES:-$(dirname "$0")/certificates}
mkdir -p "$folder"
cd "$folder"
[ ! -e key.pem ] || { echo "$folder/key.pem exists: remove the folder to make new ones" >&2; exit 1; }
names=
for name in "$@"; do
    case $name in
        *[!0-9.]*) names="$names,DNS:$name" ;;
        *) names="$names,IP:$name" ;;
    esac
done
umask 077
ec="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256"
# shellcheck disable=SC2086
openssl req -x509 $ec -days 3650 -subj "/CN=streamclust engine CA" -keyout ca.key -out ca.pem \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign"
# shellcheck disable=SC2086
openssl req $ec -subj "/CN=streamclust engine" -keyout key.pem -out request.pem
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "${names#,}" >extensions
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 825 -sha256 -extfile extensions -out cert.pem
rm -f ca.key request.pem extensions ca.srl
chmod 755 .
chmod 644 ca.pem cert.pem
# The user of the image, which needs the key.
[ "$(id -u)" -ne 0 ] || chown 10001 key.pem
