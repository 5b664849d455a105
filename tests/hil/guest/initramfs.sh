#!/bin/busybox sh
# Loads the few modules that reach the disk and goes there; vinit=PROGRAM on the kernel's line names another init.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
while read -r module; do $b insmod "/mod/$module" 2>/dev/null; done < /mod/order
i=0
while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do $b usleep 50000; i=$((i + 1)); done
$b mount -t ext4 -o rw /dev/vda /root || exec $b sh
init=/sbin/init
for word in $($b cat /proc/cmdline); do case $word in vinit=*) init=${word#vinit=} ;; esac; done
$b umount /proc
$b umount /sys
$b mount -o move /dev /root/dev
exec $b switch_root /root "$init"
