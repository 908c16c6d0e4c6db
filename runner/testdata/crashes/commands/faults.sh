#!/bin/sh
# Reads what it is to do, one JSON string per line. "pid" answers with its process id.
while read -r what; do
    case $what in
    '"pid"') echo $$ ;;
    '"exit"') echo "the disk is full" >&2; exit 3 ;;
    '"leave"') exit 0 ;;
    '"crash"') kill -SEGV $$ ;;
    '"kill"') kill -KILL $$ ;;
    '"hang"') sleep 3600 ;;
    '"garbage"') echo "Traceback (most recent call last):" ;;
    '"half"') printf '{"half": '; exit 0 ;;
    '"silence"') ;;
    '"empty"') echo ;;
    '"twice"') printf '1\n2\n' ;;
    '"flood"') exec tr '\0' x </dev/zero ;;
    '"chatter"') exec cat /dev/zero >&2 ;;
    '"deaf"') exec <&-; sleep 3600 ;;
    '"mute"') exec >&-; sleep 3600 ;;
    '"children"') (setsid sleep 3600 >/dev/null 2>&1 </dev/null &); sleep 3600 ;;
    *) echo "$what" ;;
    esac
done
