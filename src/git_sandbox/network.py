"""The networks of a guest (`--net`): each value states what it needs from host, VMM and guest.

A mode without a device works with every backend. To add one: a value here with its place in `MODES`, and what serves it
(for a device: `vmm/net.py`).
"""

from __future__ import annotations

from git_sandbox.later import dataclass

# passt answers DNS at this address and asks the host's first resolver, also one that listens on loopback only
# (systemd-resolved). From the documentation prefix of RFC 5737, so it is nobody's real address.
DNS_ADDRESS = "198.51.100.53"
# Where programs in the guest find the egress proxy, on its loopback: squid's, so that nothing else is expected there.
PROXY_PORT = 3128
_DIRECT = "localhost,127.0.0.1,::1,.localhost"


@dataclass(frozen=True)
class Program:
    """A program of the host, and the package of Debian and Ubuntu that brings it."""

    name: str
    package: str


@dataclass(frozen=True)
class GuestNetwork:
    """What the guest has to know of it: `network` in its `config.json`. See `Network`."""

    mode: str = "none"
    device: bool = False
    nameserver: str = ""
    note: str = ""
    proxy: int = 0


@dataclass(frozen=True)
class Network:
    """One mode. `name`: as in `--net` and in a sandbox's record.

    `device`: the guest has a network device, which a backend must be able to give it. `nameserver`: the guest's, empty
    for none. `note`: says so in its resolv.conf then. `programs`: what the host needs for it. `egress`: sessions bring
    a way to the egress proxy along, which decides by name.
    """

    name: str
    device: bool = False
    nameserver: str = ""
    note: str = ""
    programs: tuple[Program, ...] = ()
    egress: bool = False

    @property
    def guest(self) -> GuestNetwork:
        return GuestNetwork(self.name, self.device, self.nameserver, self.note, PROXY_PORT if self.egress else 0)

    @property
    def variables(self) -> dict[str, str]:
        """Of every session: where programs find the proxy, in both spellings."""
        if not self.egress:
            return {}
        url = f"http://127.0.0.1:{PROXY_PORT}"
        proxies = {"http_proxy": url, "https_proxy": url, "all_proxy": url, "no_proxy": _DIRECT}
        return proxies | {name.upper(): value for name, value in proxies.items()}


NONE = Network("none", note="no network: start the sandbox with `--net allow` or `--net nat`")
# The guest's own relay answers there (`guest/egress.py`): names are resolved on the host, if they are allowed.
ALLOW = Network("allow", nameserver=DNS_ADDRESS, egress=True)
NAT = Network("nat", device=True, nameserver=DNS_ADDRESS, programs=(Program("passt", "passt"),))

MODES = (NONE, ALLOW, NAT)
OFFERED = tuple(mode.name for mode in MODES)
BY_NAME = {mode.name: mode for mode in MODES}
