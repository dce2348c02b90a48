#!/bin/busybox sh
# First process of a machine that only proves that user space runs (`vmm/host.py`); every other one begins with init.sh,
# which comes with the machine and not with the image.
bb=/bin/busybox
$bb mkdir -p /proc /dev
$bb mount -t proc proc /proc
$bb mount -t devtmpfs devtmpfs /dev
end=poweroff  # what makes the VMM end, too: not every one has a machine that can power off
read -r cmdline < /proc/cmdline
for word in $cmdline; do
  case $word in
    sandbox.token=*) $bb echo "git-sandbox: user space reached ${word#*=}" > /dev/console ;;
    sandbox.end=reboot) end=reboot ;;
  esac
done
$bb sync
$bb "$end" -f
