#!/usr/bin/env bash
# What `./dev docs` runs: the reference, into build/docs. Fails on an undocumented type, function or
# enumerator of the public API and on a broken link. A field, a move or an operator may speak for
# itself.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rm -rf build/docs
mkdir -p build/docs
doxygen docs/Doxyfile

trivial='\((variable|typedef)\) of (struct|class) .* is not documented'
trivial+='|Member operator[^ a-z]*\(.* is not documented'
trivial+='|Member [A-Za-z]+\([A-Za-z]+ &&\).* is not documented'
if grep -vE "$trivial" build/docs/warnings.txt >&2; then
  exit 1
fi
echo build/docs/html/index.html
