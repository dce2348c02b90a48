#!/bin/sh
# Runs in the confinement of an image build: adds packages to the image that is its standard input, and leaves what that
# changes as /build/layer.ext4, and the sizes of all packages in /build/installed. Arguments: from $0 on the texts of
# helpers/layer.py and of install.sh, names of Debian packages as one word, then command lines that install the rest.
set -eu
umask 022
cd /build
export TMPDIR=/tmp
install=$1 packages=$2
shift 2
printf %s "$0" > layer.py
echo "I: unpacking the default image"
mkdir tree
debugfs -R 'rdump / tree' /proc/self/fd/0 > /dev/null 2> complaints
[ "$(wc -l < complaints)" -le 1 ] || { head -n 20 complaints; exit 1; } # the first line is its version
python3 -I -S layer.py remember tree stamps

# Nothing of these stays: they are not among the stamps, and gone when the difference is taken.
printf '#!/bin/sh\nexit 101\n' > tree/usr/sbin/policy-rc.d # no service starts (invoke-rc.d(8))
chmod 0755 tree/usr/sbin/policy-rc.d
cp -L /etc/resolv.conf tree/etc/resolv.conf
mount --rbind /dev tree/dev
mount -t proc proc tree/proc
mount -t tmpfs tmpfs tree/tmp
mount -t tmpfs tmpfs tree/run
printf %s "$install" > tree/tmp/install.sh
[ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt tree/tmp/authorities.crt

# Manual pages are left out of the default image. With man-db they come, and those of what is in it already.
manual=
case " $packages " in *" man-db "*) manual=yes ;; esac
[ -z "$manual" ] || sed -i '\:/usr/share/man/:d' tree/etc/dpkg/dpkg.cfg.d/99mmdebstrap
if [ -n "$packages" ]; then
  echo "I: fetching the list of Debian's packages"
  chroot tree apt-get -q update
  # Through a pipe of its own: apt-get does not wait for who reads its status, and scripts of packages would not either.
  mkfifo status
  cat status &
  # shellcheck disable=SC2086 # each name is a word
  chroot tree apt-get -q -y --no-install-recommends -o APT::Status-Fd=3 -o Dpkg::Use-Pty=false install -- $packages 3> status
  wait
fi < /dev/null
if [ -n "$manual" ]; then
  echo "I: fetching the manual pages of the default image"
  mkdir -p tree/var/cache/pages
  chroot tree sh -c 'cd /var/cache/pages && dpkg-query -W -f "\${Package}\n" | grep -v "^linux-image-" | xargs apt-get -q download
    for each in *.deb; do
      dpkg-deb --fsys-tarfile "$each" | tar -x -C / --wildcards "./usr/share/man/man*" 2> /dev/null || : # not all have some
    done
    mandb -q' < /dev/null
  rm -r tree/var/cache/pages
fi
for each in "$@"; do
  chroot tree sh -c "$each" < /dev/null
done
chroot tree dpkg-query -W -f '${Installed-Size}\t${Package}\t${Version}\n' > installed

echo "I: writing the layer"
umount tree/run tree/tmp tree/proc
umount -R tree/dev
rm -rf tree/etc/resolv.conf tree/usr/sbin/policy-rc.d tree/var/lib/apt/lists/* tree/var/cache/apt/*.bin \
  tree/var/cache/apt/archives/*.deb tree/var/log/*.log tree/var/lib/dpkg/*-old tree/var/cache/debconf/*-old \
  tree/etc/ssh/ssh_host_* tree/var/lib/dbus/machine-id
[ ! -s tree/etc/machine-id ] || : > tree/etc/machine-id
python3 -I -S layer.py difference tree stamps layer > size
read -r bytes files < size
mke2fs -q -F -t ext4 -O ^has_journal,^resize_inode -m 0 -b 4096 -N $((files + 64)) -L sandbox-layer \
  -d layer layer.ext4 $((bytes / 1024 * 108 / 100 + 2048))k
chmod 0644 layer.ext4 installed
