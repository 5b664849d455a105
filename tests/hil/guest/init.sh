#!/bin/bash
# Unpacks the code, runs the job that the host has left, powers off: as the first process of the guest, without systemd,
# or called by the unit hil-jobs.service under the whole of it.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONPATH=/code:/opt/site PYTHONUNBUFFERED=1
if [ $$ -eq 1 ]; then
  mount -t proc proc /proc
  mount -t sysfs sys /sys
  mount -t tmpfs tmpfs /tmp
  mount -t tmpfs tmpfs /run
  ip link set lo up
fi
mkdir -p /share /code
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 share /share
modprobe vhci_hcd
modprobe uvcvideo
[ $$ -eq 1 ] && /lib/systemd/systemd-udevd --daemon 2>/dev/null
mount -t tmpfs tmpfs /code
tar -xf /share/code.tar -C /code
echo "USERLAND uptime=$(cut -d' ' -f1 /proc/uptime)" >/dev/console
cd /code && bash /share/job.sh >/share/job.out 2>&1
echo "JOB-END rc=$? uptime=$(cut -d' ' -f1 /proc/uptime)" >/dev/console
sync
if [ $$ -ne 1 ]; then
  systemctl --no-block poweroff
  exit 0
fi
echo o >/proc/sysrq-trigger
sleep 5
