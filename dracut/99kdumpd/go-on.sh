#!/bin/sh
# Sourced by whatever part of dracut gives up: that part ends well, and the runner, which comes next, saves what it can.
exit 0
