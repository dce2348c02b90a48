#!/bin/sh
# Runs inside the new root at the end of an image build: leaves /sandbox-boot/{kernel,initramfs} and removes from the
# root what only they needed; the kernel's modules stay. Arguments: the names of the modules the initramfs shall load.
set -eu
version=$(ls /usr/lib/modules | head -n 1)
out=/sandbox-boot
tree=$(mktemp -d)
mkdir -p "$tree/bin" "$tree/modules" "$out"
cp /bin/busybox "$tree/bin/busybox"
cp /tmp/initramfs-init "$tree/init"
chmod 0755 "$tree/init"

# `modprobe --show-depends` prints `insmod PATH` or `builtin NAME`, dependencies first.
: > "$tree/modules/order"
for name in "$@"; do
  modprobe --set-version "$version" --show-depends "$name" 2>/dev/null | while read -r kind path _; do
    [ "$kind" = insmod ] || continue
    plain=$(basename "$path" | sed 's/\.ko.*$//').ko
    [ -e "$tree/modules/$plain" ] && continue
    case $path in
      *.xz) xz -dc "$path" ;;
      *.zst) zstd -dc "$path" ;;
      *) cat "$path" ;;
    esac > "$tree/modules/$plain"
    echo "$plain" >> "$tree/modules/order"
  done
done
(cd "$tree" && find . | sort | busybox cpio -o -H newc 2>/dev/null) > "$out/initramfs"

# Firecracker wants the uncompressed kernel, and emulation boots it faster. The payload starts at the first zstd or
# xz magic number from which decompression gives an ELF file.
image=/boot/vmlinuz-$version
cp "$image" "$out/kernel"
for magic in '\x28\xb5\x2f\xfd:zstd -dcq' '\xfd7zXZ\x00:xz -dcq' '\x1f\x8b\x08:gzip -dcq'; do
  for at in $(LC_ALL=C grep -obUaP "${magic%%:*}" "$image" | cut -d: -f1); do
    tail -c "+$((at + 1))" "$image" | ${magic#*:} > "$out/vmlinux" 2>/dev/null || true
    if [ "$(head -c 4 "$out/vmlinux" | tail -c 3)" = ELF ]; then
      mv "$out/vmlinux" "$out/kernel"
      break 2
    fi
  done
done
# The modules stay: a container engine asks for bridge, veth, overlay, nf_tables and others (modprobe, or the kernel itself).
rm -rf "$out/vmlinux" "$tree" /boot/* /vmlinuz* /initrd.img* "/usr/lib/modules/$version/build" "/usr/lib/modules/$version/source"

# What a build leaves behind. The first `apt-get update` in a guest brings the package lists back.
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /usr/lib/udev/hwdb.bin /usr/bin/*-lto-dump-* /var/log/*.log

# A guest is thrown away: pip may install where it likes, where Debian's refuses outside of a virtual environment.
printf '[global]\nbreak-system-packages = true\n' > /etc/pip.conf

# A guest is one user's: no shared secrets in an image, no service starts by itself.
rm -f /etc/ssh/ssh_host_* /etc/machine-id /var/lib/dbus/machine-id /etc/resolv.conf
: > /etc/machine-id
ln -sf /run/git-sandbox/sandbox /usr/local/bin/sandbox
mkdir -p /workspace /run/sshd
