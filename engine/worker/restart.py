"""Starting Blender anew in place of the running one, with another environment. Shipped to the node as source."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NoReturn

from .files import WorkerFolder
from .paths import is_absolute, mirrored


def replace(folder: WorkerFolder, out: int, ocio: str) -> NoReturn:
    """Become another Blender, which is told to be a worker as this one was. `out` is the way back.

    `ocio` is what its $OCIO says: a configuration of the user's computer, by its path there, or a built-in one.
    """
    import bpy

    kept, tree = folder.hand_on()
    environment = {**os.environ, **kept}
    environment.pop("OCIO", None)
    if ocio:
        # Its tables are read when they are needed, so it stands apart from the trees of scenes, which come and go.
        environment["OCIO"] = str(tree / mirrored(ocio)) if is_absolute(ocio) else ocio
    command = [bpy.app.binary_path or sys.argv[0], *sys.argv[1:]]
    if os.name == "nt":
        # There a process cannot become another one, so this one waits for it.
        done = subprocess.run(command, stdin=0, stdout=out, stderr=2, env=environment, check=False)
        folder.remove()
        os._exit(done.returncode)
    os.dup2(out, 1)
    os.execve(command[0], command, environment)  # noqa: S606 - there is nothing for a shell to do
