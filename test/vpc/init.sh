#!/usr/bin/bash
# Process 1 of the machine: makes it ready, runs /vpc/guest.mjs, hands over what that left in /out, powers off.
export PATH=/usr/local/bin:/usr/sbin:/usr/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
exec >/dev/hvc0 2>&1 </dev/null

limit_s=600
for word in $(</proc/cmdline); do
  case $word in limit_s=*) limit_s=${word#*=} ;; esac
done
echo "userland: kernel $(uname -r)"
ip link set lo up
modprobe --all virtio_blk ipvlan macvlan bridge veth nf_tables overlay
timeout -k 5 "$limit_s" node /vpc/guest.mjs
echo "$?" >/out/status
dmesg >/out/dmesg.log
tar -cf /dev/vda -C /out .
sync
echo o >/proc/sysrq-trigger
sleep 60
