"""A real Slurm on this machine alone, without systemd: munged, slurmctld and slurmd with files of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from . import support
from .sshd import free_port

CPUS = 2


class Slurm:
    """One node with two CPUs; a context manager. Needs root."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o755, parents=True)
        self.folder = folder
        self.config = folder / "slurm.conf"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._munge_socket = folder / "munge.socket"
        host = socket.gethostname().split(".")[0]
        self.config.write_text(
            f"ClusterName=tests\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root\n"
            f"SlurmctldPort={free_port()}\nSlurmdPort={free_port()}\n"
            f"AuthType=auth/munge\nAuthInfo=socket={self._munge_socket}\nCryptoType=crypto/munge\n"
            f"StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool\n"
            f"SlurmctldPidFile={folder}/ctld.pid\nSlurmdPidFile={folder}/slurmd.pid\n"
            "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSwitchType=switch/none\n"
            "MpiDefault=none\nReturnToService=2\nJobAcctGatherType=jobacct_gather/none\n"
            "SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nSchedulerType=sched/backfill\n"
            "SchedulerParameters=sched_min_interval=100000,bf_interval=1\n"
            f"NodeName={host} NodeAddr=127.0.0.1 CPUs={CPUS} State=UNKNOWN\n"
            f"PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP\n"
        )
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        environment = {name: value for name, value in os.environ.items() if name != support.MARK}
        self.environment = {**environment, "SLURM_CONF": str(self.config)}

    def __enter__(self) -> Slurm:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        munged = ("munged", "--foreground", "--force", f"--socket={self._munge_socket}", f"--key-file={key}")
        self._start(
            *munged,
            *(f"--pid-file={self.folder}/munged.pid", f"--seed-file={self.folder}/munged.seed"),
            f"--log-file={self.folder}/munged.log",
        )
        self._wait(self._munge_socket.exists)
        self._start("slurmctld", "-D", "-f", str(self.config))
        self._start("slurmd", "-D", "-f", str(self.config))
        self._wait(lambda: "idle" in self.run("sinfo", "-h", "-o", "%t"))
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["scancel", "--state=PENDING"], env=self.environment, check=False, capture_output=True)
        subprocess.run(["scancel", "-u", "root"], env=self.environment, check=False, capture_output=True)
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=30
        )
        return done.stdout

    def jobs(self, state: str = "") -> list[str]:
        """Ids of the jobs in the queue."""
        return self.run("squeue", "-h", "-o", "%i", *([f"--states={state}"] if state else [])).split()

    def _start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("wb") as out:
            self._processes.append(
                subprocess.Popen(
                    command,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            )

    def _wait(self, condition: object, timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        while not condition():  # type: ignore[operator] # a function without arguments
            if time.monotonic() > deadline:
                words = [path.read_text(errors="replace")[-1500:] for path in self.folder.glob("*.out")]
                raise AssertionError("Slurm does not start:\n" + "\n".join(words))
            time.sleep(0.1)
