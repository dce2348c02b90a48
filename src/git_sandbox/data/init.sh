#!/bin/busybox sh
# First process of every machine of a sandbox, and of a template's: modules, root image, and then init.py in the read-only
# image. That does the rest (`guest/boot.py`), at once or when the machine is personalized for a sandbox; descriptor 3 is its way back.
bb=/bin/busybox
$bb mkdir -p /proc /sys /dev /image /disk /root
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev
end=poweroff  # what makes the VMM end, too: not every one has a machine that can power off
case $($bb cat /proc/cmdline) in *sandbox.end=reboot*) end=reboot ;; esac
die() { $bb echo "git-sandbox: $*" > /dev/console; $bb sync; $bb "$end" -f; }

# Disks after the first get no driver yet: that would remember a template's, and not every VMM lets a driver go again.
bus=/sys/bus/virtio
while read -r module; do
  [ "$module" = virtio_blk.ko ] && $bb echo 0 > $bus/drivers_autoprobe
  $bb insmod "/modules/$module" 2>/dev/null
  [ "$module" = virtio_blk.ko ] && $bb echo 1 > $bus/drivers_autoprobe
done < /modules/order
waited=0
until [ -b /dev/vda ]; do
  for each in $bus/devices/virtio?; do
    [ "$($bb cat "$each/device")" = 0x0002 ] || continue
    $bb echo "${each##*/}" > $bus/drivers/virtio_blk/bind 2>/dev/null
    break
  done
  [ -b /dev/vda ] && break
  [ $waited -lt 100 ] || die "the disks did not appear"
  $bb sleep 0.1
  waited=$((waited + 1))
done
$bb mount -t ext4 -o ro,noload /dev/vda /image || die "cannot mount the root image"
$bb mount -t tmpfs -o mode=0755 tmpfs /image/run
$bb mkdir -p /image/run/git-sandbox/disk
$bb cp -a /sandbox/. /image/run/git-sandbox/
for each in proc sys dev; do $bb mount --move /$each /image/$each; done
$bb rm -rf /sandbox /modules
exec 3< /
exec $bb chroot /image /usr/bin/python3 -I -S /run/git-sandbox/init.py
