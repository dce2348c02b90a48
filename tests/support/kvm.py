"""A program for a guest that uses KVM itself (Linux, Documentation/virt/kvm/api.rst): a processor that halts."""

from __future__ import annotations

# Ioctls: CREATE_VM, SET_USER_MEMORY_REGION, CREATE_VCPU, GET_VCPU_MMAP_SIZE, GET_SREGS, SET_SREGS, SET_REGS, RUN; the
# reason of an exit is at byte 8 of what a processor shows of itself, and 5 means `hlt`.
HALTS = r"""
import ctypes, fcntl, mmap, os, struct
kvm = os.open("/dev/kvm", os.O_RDWR)
vm = fcntl.ioctl(kvm, 0xAE01, 0)
memory = mmap.mmap(-1, 4096)
memory[0] = 0xF4
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
fcntl.ioctl(vm, 0x4020AE46, struct.pack("IIQQQ", 0, 0, 0, 4096, address))
cpu = fcntl.ioctl(vm, 0xAE41, 0)
shown = mmap.mmap(cpu, fcntl.ioctl(kvm, 0xAE04, 0))
segments = bytearray(312)
fcntl.ioctl(cpu, 0x8138AE83, segments)
segments[0:8], segments[12:14] = bytes(8), bytes(2)
fcntl.ioctl(cpu, 0x4138AE84, bytes(segments))
fcntl.ioctl(cpu, 0x4090AE82, struct.pack("18Q", *[0] * 16, 0, 2))
fcntl.ioctl(cpu, 0xAE80, 0)
print("kvm: halted" if struct.unpack_from("I", shown, 8)[0] == 5 else "kvm: something else")
"""
