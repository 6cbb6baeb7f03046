#!/usr/bin/env bash
# What `./dev check` runs: format, clang-tidy on what changed, spelling, include arrows.
# Runs them all, then fails if one did. usage: scripts/check.sh JOBS

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs=$1
failed=()

# Tracked, and not yet tracked but not ignored either; deleted ones apart.
files() {
  git ls-files --cached --others --exclude-standard -- "$@" | while read -r file; do
    [[ ! -f $file ]] || printf '%s\n' "$file"
  done
}

# The same, if they changed since the base.
changed() {
  local base=${NORI_CHECK_BASE:-HEAD~1}
  if git rev-parse --quiet --verify "$base^{commit}" >/dev/null; then
    {
      git diff --name-only --diff-filter=d "$base" -- "$@"
      git ls-files --others --exclude-standard -- "$@"
    } | sort -u
  else
    files "$@"  # a first commit, or a shallow clone
  fi
}

# The sources clang-tidy has to see: those that changed, and for a header that did, the source
# beside it or the first one that includes it.
tidy_sources() {
  {
    changed 'src/*.cc' 'testing/*.cc'
    changed 'src/*.h' 'testing/*.h' 'include/*.h' | while read -r header; do
      if [[ -f ${header%.h}.cc ]]; then
        printf '%s\n' "${header%.h}.cc"
      else
        include=${header#src/}
        include=${include#include/}
        files 'src/*.cc' 'testing/*.cc' |
          xargs -r -d '\n' grep -lF "#include \"$include\"" -- | head -n1 || true
      fi
    done
  } | sort -u
}

mapfile -t cpp < <(files '*.h' '*.cc')
if ((${#cpp[@]})); then
  echo "format: ${#cpp[@]} files"
  clang-format-19 --dry-run -Werror "${cpp[@]}" || failed+=(format)
fi

echo "spelling"
files ':!fuzz/corpus' | xargs -r -d '\n' grep -lI '' -- | xargs -r -d '\n' codespell --config .codespellrc -- ||
  failed+=(spelling)

echo "include arrows"
python3 scripts/check_includes.py || failed+=("include arrows")

mapfile -t sources < <(tidy_sources)
if ((${#sources[@]})); then
  echo "clang-tidy: ${#sources[@]} files"
  printf '  %s\n' "${sources[@]}"
  # g++'s warnings are not all clang's, whose -Wconversion is also about signs.
  printf '%s\0' "${sources[@]}" |
    xargs -0 -n1 -P"$jobs" clang-tidy-19 -p build/release --quiet --use-color=0 \
      --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-sign-conversion 2>&1 |
    { grep -vE '^[0-9]+ warnings? (and [0-9]+ errors? )?generated|^Suppressed|^Use -header-filter' || true; } ||
    failed+=(clang-tidy)
fi

if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}"
  exit 1
fi
