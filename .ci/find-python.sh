#!/bin/sh
# Print the Python to build the virtual environment with: $PYTHON, else python3, else the newest
# installed one. It must be 3.11-3.14 and able to make environments (Debian: python3-venv).
old="" bare=""
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
  path=$(command -v "$candidate") || continue
  if ! "$path" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
    old="$old $candidate ($("$path" -V 2>&1))"
  elif ! "$path" -c 'import ensurepip, venv' 2>/dev/null; then
    bare="$bare $candidate"
  else
    echo "$path"
    exit 0
  fi
done
if [ -n "$bare" ]; then
  echo "Python without venv:$bare. Install it, e.g.: sudo apt-get install python3-venv" >&2
else
  echo "Python 3.11 to 3.14 is needed; found:${old:- none}. Install one, or say where it is:" \
    "make PYTHON=/path/to/python3.11" >&2
fi
exit 1
