#!/bin/bash
# Installs what the system tests need on a Debian machine that has Go: Node.js with npm, slowhttptest, Chromium, valgrind, and the packages of the Express
# application and of the example member, in the versions of their lock files. Running it again does no harm.
set -euo pipefail
cd "$(dirname "$0")/../../.."

missing=()
command -v node >/dev/null && command -v npm >/dev/null || missing+=(nodejs npm)
command -v slowhttptest >/dev/null || missing+=(slowhttptest)
command -v chromium >/dev/null || missing+=(chromium)
command -v valgrind >/dev/null || missing+=(valgrind)
if [ "${#missing[@]}" != 0 ]; then
  sudo=
  if [ "$(id -u)" != 0 ]; then sudo=sudo; fi
  $sudo apt-get update
  $sudo apt-get install -y --no-install-recommends "${missing[@]}"
fi
major=$(node --print 'process.versions.node.split(".")[0]')
if [ "$major" -lt 18 ]; then
  echo "Node.js $(node --version) is too old: the system tests need 18 or later" >&2
  exit 1
fi
for dir in embedded/millrace/testdata/express mesh/_examples/node; do
  npm ci --no-audit --no-fund --prefix "$dir"
done
