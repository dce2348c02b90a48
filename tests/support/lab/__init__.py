"""The lab: a Debian machine with a working KVM of its own, made by QEMU's software emulation of AMD's SVM.

`scripts/lab` and `tests/lab` run this project's VM tests in it, so that what needs KVM is
tested on hosts that have none.
"""
