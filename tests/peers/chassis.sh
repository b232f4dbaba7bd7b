#!/bin/sh
# The chassis behind an ipmi_sim: its power is a file, and other files make it misbehave.
#   chassis.sh STATE get power | set power 0|1 | set reset 1 | set shutdown 1
# Files in STATE: power (0 or 1), calls (one line a call), and the knobs delay (seconds before each call), delay_set
# (seconds before each set), lie (accept, do nothing), fail (refuse every set).
state=$1 verb=$2 what=$3 value=$4
echo "$verb $what $value" >> "$state/calls"
[ -f "$state/delay" ] && read -r seconds < "$state/delay" && sleep "$seconds"
if [ "$verb" = get ]; then
    read -r power < "$state/power"
    echo "power:$power"
    exit 0
fi
[ -f "$state/delay_set" ] && read -r seconds < "$state/delay_set" && sleep "$seconds"
[ -f "$state/fail" ] && { echo "refused"; exit 1; }
[ -f "$state/lie" ] && exit 0
case $what in
    power) echo "$value" > "$state/power" ;;
    shutdown) echo 0 > "$state/power" ;;
    reset) ;;
    *) echo "unknown: $what"; exit 1 ;;
esac
