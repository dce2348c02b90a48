"""The constants that host and guest share. Every module may import this one, and it imports nothing.

Shell scripts, `sshd_config` and the guest's `sandbox` command cannot import it: tests/unit/test_protocol.py reads them.
"""

# Channels: ways between host and guest.
SSH = "ssh"  # OpenSSH, one connection at a time
CONTROL = "control"  # requests to the guest's init
HOST = "host"  # requests of the guest to its supervisor
CHANNELS = (SSH, CONTROL, HOST)
PORT_PREFIX = "org.git-sandbox."  # of the names of virtio-serial ports
VSOCK_PORTS = {SSH: 22, CONTROL: 1024, HOST: 1025}  # the guest's for the first two, the host's for the last

# Paths in the guest. `HERE`: a tmpfs with our own programs, configuration and keys; the others are named in it.
HERE = "/run/git-sandbox"
DISK = "/run/git-sandbox/disk"  # where the workspace disk is mounted
WORKSPACE = "/workspace"
TOOLS = "/run/git-sandbox/tools"  # the tools image, where the system's root is another (`guest/roots.py`)
BIN = "/run/git-sandbox/bin"  # programs of the tools for such a root, last on the PATH
SYSTEM = 3  # descriptor of process 1 that is the system's root then
SESSIONS = "/run/git-sandbox/sessions"  # FIFO in which commands of sessions report themselves
CONFIG = "config.json"
START_REFS = "start-refs.json"  # the refs that went in
SSHD_CONFIG = "sshd_config"
HOST_KEY = "host_key"
AUTHORIZED_KEYS = "authorized_keys"

# Words on the kernel's command line, and what a machine is for.
MODE = "sandbox.mode"
END = "sandbox.end"  # poweroff | reboot: what ends the VMM
TOKEN = "sandbox.token"  # noqa: S105 - what a probe says on its console
BASE = "sandbox.base"  # the disk that the workspace is laid over, and from which sector on it has its own
LAYER = "sandbox.layer"  # the disk with what the image adds to the root image below it
RUN = "run"
RESCUE = "rescue"  # only exports
INIT = "init.sh"  # the first process, in the archive's directory that becomes `HERE`
FIRST = "rdinit=/sandbox/init.sh"
TEMPLATE = "template"  # waits for the sandbox that it becomes
PROBE = "probe"  # proves that user space is reached

# Requests on the channel `control`, as `op` of a line of JSON.
STATUS = "status"
EXPORT = "export"
LFS = "lfs"
FREEZE = "freeze"
THAW = "thaw"
TERMINATE = "terminate"
KILL = "kill"
POWEROFF = "poweroff"
PERSONALIZE = "personalize"
PREWARM = "rehearse"
REQUESTS = (STATUS, EXPORT, LFS, FREEZE, THAW, TERMINATE, KILL, POWEROFF, PERSONALIZE, PREWARM)
MAX_REQUEST = 64 << 20  # bytes of one; the host's list of known objects is the longest part
GREETING = "git-sandbox"  # how a reply begins, before nonce and length

# Requests on the channel `host`.
PUSH = "push"
PULL = "pull"
STATE = "state"  # with `state`, one of STATES, and `message`
STATES = ("working", "waiting", "done", "failed")

# The terminal of a program that nobody may be looking at (`guest/terminal.py`): tmux's server and session; where its
# directory is, followed by the user's number; what a client says that left while the program goes on.
TERMINAL = "sandbox"
TERMINAL_PLACE = "/dev/shm/sandbox-terminal-"
TERMINAL_ENDED = "ended"
GOES_ON = 75  # exit status
COMMAND = "/run/git-sandbox/sandbox"  # the guest's `sandbox`

# The manifest. Its fields in the order of `guest/exporter.py`; the last two are process 1's and the history's.
MANIFEST_VERSION = 1
MANIFEST = (
    "version", "object_format", "head", "refs", "removed", "stash", "worktree_tree", "wip", "operation", "unmerged",
    "warnings", "nested", "wip_state", "left_out", "set_aside", "away", "changes",
)  # fmt: skip
MAX_AWAY = 1000  # commits that nothing leads to any more
MAX_NESTED = 200  # repositories in the worktree: each costs a conversation
MAX_ROWS = 10_000  # of `set_aside`, `left_out`, `unmerged`
MAX_BLOB = 4 << 30  # bytes of one object
# Refs that are no work of a repository's: what git fetched, marks of a bisect or a rebase, refs of other sandboxes. The
# stash goes its own way.
NO_WORK = r"refs/(?:remotes|bisect|rewritten|prefetch|sandbox(?:-[a-z]+)?)/"
STASH = "refs/stash"

# The difference to a base, after the file system of the workspace disk (`disk/delta_archive.py`): header of one block.
DELTA_MAGIC = b"git-sandbox tail"
DELTA_HEADER = "<16sQQQ"  # magic; bytes of the block, of the manifest, of the contents

MAX_POINTER = 4096 + 16  # bytes of a `.git` file; a path has at most PATH_MAX
CANNOT_USE = "cannot use the workspace disk"  # a guest says so on its console
