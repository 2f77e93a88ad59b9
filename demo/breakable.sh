#!/bin/sh
# Run a program, and kill it while /faults has a file of this name: breakable.sh NAME PROGRAM [ARGUMENT …]
set -u
fault=/faults/$1
shift
trap 'kill "$child" 2>/dev/null; wait "$child"; exit' TERM INT
while :; do
    setsid "$@" &
    child=$!
    while [ ! -e "$fault" ]; do
        kill -0 "$child" 2>/dev/null || { wait "$child"; exit; }
        sleep 0.2 & wait $!
    done
    kill -KILL "-$child"
    wait "$child"
    while [ -e "$fault" ]; do sleep 0.2 & wait $!; done
done
