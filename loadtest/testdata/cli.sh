#!/bin/sh
# Stands for the server's command line in tests: does what the file behind --config says with the words that follow.
[ "$1" = "--config" ] || exit 9
script=$2
shift 2
. "$script"
