#!/bin/sh
# Alarms when Strong Vivarium gives no sign of life: a line of priority alert in the journal, and every program in
# /etc/strong-vivarium/deadman.d. Run once a minute by a timer; needs nothing of the program it watches.
#
# A service that runs leaves a file in /run/strong-vivarium every few seconds. Whoever is enabled, or has ever left
# one, is expected to go on: until it is uninstalled, masked, or paused for some hours (vivarium service pause).
# Times are seconds since the machine's start, so that a clock that is set wrong or right raises no alarm.
set -u
LC_ALL=C
export LC_ALL PATH=/usr/sbin:/usr/bin:/sbin:/bin

SILENT_AFTER_S=${SILENT_AFTER_S:-120}     # no heartbeat: hanging, stopped, crashed
NO_FRAME_AFTER_S=${NO_FRAME_AFTER_S:-600} # alive, but no good frame of the camera
REPEAT_AFTER_S=${REPEAT_AFTER_S:-3600}    # told again while it lasts
HOOK_TIMEOUT_S=${HOOK_TIMEOUT_S:-30}

ROOT=${DEADMAN_ROOT:-}                    # another root directory: for a look at a mounted disk
HEARTBEATS=$ROOT/run/strong-vivarium
STATE=${STATE_DIRECTORY:-$ROOT/var/lib/strong-vivarium-deadman}
HOOKS=$ROOT/etc/strong-vivarium/deadman.d
UNITS=$ROOT/etc/systemd/system
UPTIME=$ROOT/proc/uptime
BOOT_ID=$ROOT/proc/sys/kernel/random/boot_id

# value FILE KEY: what a line KEY=value says; empty unless it is made of harmless characters.
value() {
    [ -r "$1" ] || return 0
    sed -n "s/^$2=\([A-Za-z0-9_.,:+ -]*\)\$/\1/p" "$1" | head -n 1
}

# seconds FILE KEY: the same as a whole number; empty when it is none.
seconds() {
    value "$1" "$2" | sed -n 's/^\([0-9]\{1,12\}\)\(\.[0-9]*\)\{0,1\}$/\1/p'
}

unit_of() { if [ "$1" = config ]; then echo strong-vivarium.service; else echo "strong-vivarium@$1.service"; fi; }

# expected: the names of the services that should run, one a line.
expected() {
    {
        for file in "$UNITS"/*.wants/strong-vivarium.service; do
            if [ -L "$file" ]; then echo config; fi
        done
        for file in "$UNITS"/*.wants/strong-vivarium@*.service; do
            if [ -L "$file" ]; then basename "$file" .service | sed 's/^strong-vivarium@//'; fi
        done
        for file in "$HEARTBEATS"/*.heartbeat; do
            if [ -f "$file" ]; then basename "$file" .heartbeat; fi
        done
        for file in "$STATE"/*.state; do
            if [ -f "$file" ]; then basename "$file" .state; fi
        done
    } | grep -x '[A-Za-z0-9_-]*' | sort -u
}

# trouble NAME: why an alarm is due, as one word and then in words; empty when all is well.
trouble() {
    heartbeat=$HEARTBEATS/$1.heartbeat
    # Without a heartbeat it is silent since we first missed it.
    silent=$((now - ${beat:-$missing}))
    if [ "$silent" -ge "$SILENT_AFTER_S" ]; then
        told=$(systemctl is-active "$(unit_of "$1")" 2>/dev/null)
        echo "silent $(unit_of "$1") has given no sign of life for $(minutes "$silent") (systemd: ${told:-not asked})"
        return
    fi
    stalled=$(value "$heartbeat" stalled)
    if [ -n "$stalled" ]; then
        echo "stalled $(unit_of "$1") makes no progress: $stalled"
        return
    fi
    # Without any frame yet: since the service began.
    frame=$(seconds "$heartbeat" last_good_frame_uptime_s)
    frame=${frame:-$(seconds "$heartbeat" started_uptime_s)}
    blind=$((now - ${frame:-$now}))
    if [ "$blind" -ge "$NO_FRAME_AFTER_S" ]; then
        echo "blind $(unit_of "$1") has had no good frame of its camera for $(minutes "$blind")"
    fi
}

minutes() { echo "$(($1 / 60)) min"; }

on_purpose() {
    until=$(seconds "$STATE/$1.pause" until_utc_s)
    if [ -n "$until" ] && [ "$(date +%s)" -lt "$until" ]; then return 0; fi
    [ "$(readlink "$UNITS/$(unit_of "$1")" 2>/dev/null)" = /dev/null ]
}

# tell PRIORITY KIND NAME TEXT: to the journal, and to every hook as its arguments.
tell() {
    echo "<$1>$4"
    for hook in "$HOOKS"/*; do
        if [ ! -f "$hook" ] || [ ! -x "$hook" ]; then continue; fi
        timeout "$HOOK_TIMEOUT_S" "$hook" "$2" "$3" "$4" </dev/null ||
            echo "<4>the hook $hook has failed (status $?)"
    done
}

# remember NAME REASON SINCE TOLD: what the next look needs to know.
remember() {
    printf 'reason=%s\nsince_s=%s\ntold_s=%s\nmissing_s=%s\nboot=%s\n' "$2" "$3" "$4" "$missing" "$boot" \
        >"$STATE/$1.state.new" && mv "$STATE/$1.state.new" "$STATE/$1.state"
}

look_at() {
    was=$(value "$STATE/$1.state" reason)
    since='' told='' missing=''
    if [ "$(value "$STATE/$1.state" boot)" = "$boot" ]; then # the clock of these began anew with the machine
        since=$(seconds "$STATE/$1.state" since_s)
        told=$(seconds "$STATE/$1.state" told_s)
        missing=$(seconds "$STATE/$1.state" missing_s)
    fi
    beat=$(seconds "$HEARTBEATS/$1.heartbeat" uptime_s)
    if [ -n "$beat" ] && [ "$beat" -gt $((now + 60)) ]; then beat=''; fi # nonsense
    if [ -n "$beat" ]; then missing=''; else missing=${missing:-$now}; fi
    reason=$(trouble "$1")
    if [ -n "$reason" ] && on_purpose "$1"; then
        remember "$1" "$was" "$since" "$told"
    elif [ -n "$reason" ]; then
        kind=${reason%% *}
        if [ "$kind" != "$was" ] || [ -z "$told" ] || [ $((now - told)) -ge "$REPEAT_AFTER_S" ]; then
            remember "$1" "$kind" "${since:-$now}" "$now"
            tell 1 alarm "$1" "${reason#* }"
        fi
    elif [ -n "$was" ] && [ -n "$beat" ]; then
        remember "$1" '' '' ''
        tell 5 over "$1" "$(unit_of "$1") is well again${since:+ after $(minutes $((now - since)))}"
    else
        remember "$1" "$was" "$since" "$told"
    fi
}

now=$(sed -n '1s/^\([0-9]*\).*/\1/p' "$UPTIME")
boot=$(sed -n '1p' "$BOOT_ID")
mkdir -p "$STATE"
for name in $(expected); do
    look_at "$name"
done
exit 0
