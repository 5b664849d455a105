#!/bin/bash
# First process of the guest for tests: no systemd. Unpacks the code, runs the job that the host has left, powers off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONPATH=/code:/opt/site PYTHONUNBUFFERED=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mkdir -p /share /code
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 share /share
ip link set lo up
modprobe vhci_hcd
modprobe uvcvideo
/lib/systemd/systemd-udevd --daemon 2>/dev/null
mount -t tmpfs tmpfs /code
tar -xf /share/code.tar -C /code
echo "USERLAND uptime=$(cut -d' ' -f1 /proc/uptime)" >/dev/console
cd /code && bash /share/job.sh >/share/job.out 2>&1
echo "JOB-END rc=$? uptime=$(cut -d' ' -f1 /proc/uptime)" >/dev/console
sync
echo o >/proc/sysrq-trigger
sleep 5
