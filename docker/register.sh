#!/bin/sh
# register.sh CONNECTION PUBLIC_KEY...: make nodes known to a SuperLink; those it knows already stay.
set -eu
connection=$1
shift
for key in "$@"; do
  if said=$(flwr supernode register "$key" "$connection" 2>&1); then
    echo "registered $key"
  else
    case $said in
      *"already in use"*) echo "known already: $key" ;;
      *) echo "$said" >&2; exit 1 ;;
    esac
  fi
done
