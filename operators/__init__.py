"""The seam between Blender and the engine. Nothing here knows about tiles or connections."""

from . import cli, nodes, render, running

_MODULES = (nodes, render, cli)


def register() -> None:
    for module in _MODULES:
        module.register()


def unregister() -> None:
    running.stop()
    for module in reversed(_MODULES):
        module.unregister()
