# What the lab's faults are made with; each fault's own lines follow. Sourced by nobody: the whole is the guest's first process.
# shellcheck shell=sh

# The keeper of the clock, as on any guest: its sources are in /etc/driftless/driftless.toml.
start() {
    /bin/driftless run --state-dir /tmp/state > /tmp/keeper.log 2>&1 &
    keeper=$!
    settle
}
stop() {
    kill "$keeper"
    wait "$keeper"
}
settle() { /bin/driftless waitsync --timeout 30 > /dev/null 2>&1; }
# date(1) sets whole seconds: it is called at the edge of one.
shift_clock() {
    second=$(date +%s)
    while [ "$(date +%s)" = "$second" ]; do :; done
    date -s "@$(($(date +%s) + $1))" > /dev/null
}

# check NAME PROGRAM...: what the doctor says, in one line on the console.
check() {
    name=$1
    shift
    read -r uptime < /proc/uptime
    echo "LAB at ${uptime%% *} s: $name"
    said=$("$@" --json 2> /tmp/doctor.log)
    printf 'LAB-DOCTOR %s %s %s\n' "$name" "$?" "$said"
}
