"""What a user puts before Blender's command: `srun --gres=gpu:1`, `docker exec -i NAME`, `nice -n 19`.

This is how clusters are used without a scheduler of our own: under Slurm each worker is a job step,
and all it needs is that stdin and stdout pass through.
"""

from __future__ import annotations

import os
import re
import shlex

from .job import ConnectError

SRUN_OPTIONS = "--unbuffered --ntasks=1"
"""srun holds lines back, and answers would never come; and it starts as many tasks as the allocation
has, which would all read the same stdin. They stand first: options that the user wrote come later, and win."""

_SRUN = re.compile(r"^((?:\S+\s+)*?(?:\S*/)?srun)(?=\s|$)")
_QUEUED = re.compile(
    r"queued and waiting|[Pp]ending job|[Jj]ob step creation (temporarily )?(disabled|still)|Waiting for nodes",
)


def prepared(launcher: str, job_name: str = "") -> str:
    """The launcher as it is to be run; `job_name` is what Slurm calls its job, if nobody says otherwise."""
    options = f"{SRUN_OPTIONS} --job-name={job_name}" if job_name else SRUN_OPTIONS
    return _SRUN.sub(rf"\1 {options}", launcher.strip(), count=1)


def leave_queue_command(launcher: str, job_name: str) -> str:
    """What takes a job out of Slurm's queue; one that runs is let alone, it ends by itself.

    It is found where the launcher's srun is, and run on the machine on which that is.
    """
    found = _SRUN.match(launcher.strip())
    before = found[1].removesuffix("srun") if found else ""
    return f"{before}scancel --state=PENDING --name={job_name}"


def is_srun(launcher: str) -> bool:
    """Whether what comes after the launcher may wait in a queue, and runs on some other machine."""
    return bool(_SRUN.match(launcher.strip()))


def local_words(launcher: str) -> list[str]:
    """The launcher for a command on this computer, where no shell takes it apart. Raise ConnectError."""
    try:
        return shlex.split(prepared(launcher), posix=os.name != "nt")
    except ValueError as error:
        raise ConnectError(
            f"The launcher cannot be understood: {error}.", "Mend it in the node's settings."
        ) from None


def is_queued(line: str) -> bool:
    """Whether this line on stderr says that the command waits for its turn, which is no failure."""
    return bool(_QUEUED.search(line))
