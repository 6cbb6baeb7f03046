#!/usr/bin/env bash
# Runs a test of build/coverage with a directory of its own for what is counted: scripts/own_profile.sh
# PROGRAM ARG... Processes' ids come back within a run of the suite, and with them the names of files.

set -euo pipefail
if [[ -n ${NORI_PROFILES:-} ]]; then
  own=$(mktemp -d "$NORI_PROFILES/XXXXXXXX")
  # %c: mapped, so that nothing has to be written at a process's end.
  export LLVM_PROFILE_FILE="$own/%p-%m%c.profraw"
fi
exec "$@"
