#!/bin/busybox sh
# First process of the machine: load modules, mount the root image and the workspace disk, hand over to init.py.
# Disks are found by their serial numbers, which every VMM here can set or whose order is root, workspace.
bb=/bin/busybox
$bb mkdir -p /proc /sys /dev /image /disk /root
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev
end=poweroff  # what makes the VMM end, too: not every one has a machine that can power off
stop() { $bb sync; $bb "$end" -f; }
die() { $bb echo "git-sandbox: $*" > /dev/console; stop; }
read -r cmdline < /proc/cmdline
word() { for each in $cmdline; do case $each in "$1"=*) $bb echo "${each#*=}"; return ;; esac; done; }
[ "$(word sandbox.end)" = reboot ] && end=reboot

# The positive token of the accelerator probe: user space runs.
mode=$(word sandbox.mode)
if [ "$mode" = probe ]; then
  $bb echo "git-sandbox: user space reached $(word sandbox.token)" > /dev/console
  stop
fi

base=$(word sandbox.base)  # NAME,SECTORS: see below
while read -r module; do $bb insmod "/modules/$module" 2>/dev/null; done < /modules/order
waited=0
until [ -b /dev/vda ] && [ -b /dev/vdb ] && { [ -z "$base" ] || [ -b "/dev/${base%,*}" ]; }; do
  [ $waited -lt 100 ] || die "the disks did not appear"
  $bb sleep 0.1
  waited=$((waited + 1))
done
$bb mount -t ext4 -o ro,noload /dev/vda /image || die "cannot mount the root image"
work=/dev/vdb
if [ "$base" ]; then
  # The workspace is a base that nobody writes to and, on the second disk, the chunks that differ (8 sectors each, a
  # block of the file system: then nothing is ever copied). What that disk has from SECTORS on follows the base's end.
  work=/dev/dm-0
  read -r size < "/sys/block/${base%,*}/size"
  read -r whole < /sys/block/vdb/size
  table="0 $size snapshot /dev/${base%,*} /dev/vdb P 8"
  rest=$((whole - ${base#*,}))
  [ $rest -le 0 ] || table="$table
$size $rest linear /dev/vdb ${base#*,}"
  for each in proc sys dev; do $bb mount --bind /$each /image/$each; done
  $bb echo "$table" | $bb chroot /image /usr/sbin/dmsetup create work --noudevsync --noudevrules \
    || die "cannot lay the workspace over its base"
  for each in proc sys dev; do $bb umount /image/$each; done
fi
# noinit_itable: else the kernel writes zeros over holes of the inode tables, some 80 MB of the host's disk.
# dioread_lock: else a rename that puts a new file in an old one's place can reach the disk before its content, which is
# zeros then (git's index after `commit -a`). commit: seconds until names and sizes are written, for what is not synced.
$bb mount -t ext4 -o noatime,noinit_itable,dioread_lock,commit=1 $work /disk || die "cannot mount the workspace disk"
if [ "$mode" = rescue ]; then
  # Nothing the guest left on its disk runs here: the changes it made to its system stay unused.
  $bb mkdir -p /scratch
  $bb mount -t tmpfs tmpfs /scratch
  system=/scratch
else
  system=/disk/system
fi
$bb mkdir -p "$system/upper" "$system/work"
$bb mount -t overlay -o "lowerdir=/image,upperdir=$system/upper,workdir=$system/work" overlay /root \
  || die "cannot join root image and overlay"
for each in proc sys dev; do $bb mount --move /$each /root/$each; done
$bb mount -t tmpfs -o mode=0755 tmpfs /root/run
$bb mkdir -p /root/run/git-sandbox/disk
$bb cp -a /sandbox/. /root/run/git-sandbox/
$bb mount --move /disk /root/run/git-sandbox/disk
exec $bb switch_root /root /usr/bin/python3 -I -S /run/git-sandbox/init.py
