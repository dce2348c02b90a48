"""The kernel that a container engine, a VPN or a loop mount finds inside: modules on demand, devices, cgroups."""

from __future__ import annotations

from support.vm import Sandboxes

SCRIPT = """
sudo modprobe loop; test -b /dev/loop0
sudo modprobe nf_tables; sudo modprobe br_netfilter; sudo modprobe xt_addrtype
sudo ip link add br0 type bridge; sudo ip link add v0 type veth peer name v1; sudo ip link set v0 master br0
sudo ip tuntap add dev tap0 mode tap; ip -br link | cut -d' ' -f1
stat -c '%n %a' /dev/net/tun /dev/fuse
truncate -s 1M /tmp/image; sudo losetup -f --show /tmp/image
grep -ow -e cpu -e memory -e pids /sys/fs/cgroup/cgroup.controllers
sudo mkdir -p /sys/fs/cgroup/engine/child
sudo sh -c 'echo +memory > /sys/fs/cgroup/engine/cgroup.subtree_control'
sudo sh -c 'echo 50M > /sys/fs/cgroup/engine/child/memory.max; cat /sys/fs/cgroup/engine/child/memory.max'
unshare --user --map-root-user --mount sh -ec '
  cd "$(mktemp -d -p /workspace)"; mkdir lower upper work merged; echo deep > lower/file
  mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged; cat merged/file'
"""


def test_what_a_container_engine_asks_the_kernel_for(boxes: Sandboxes) -> None:
    assert boxes.sh(SCRIPT).text.split("\n") == [
        "lo", "br0", "v1@v0", "v0@v1", "tap0", "/dev/net/tun 666", "/dev/fuse 666", "/dev/loop0",
        "cpu", "memory", "pids", "52428800", "deep", "",
    ]  # fmt: skip
