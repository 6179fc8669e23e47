# SPDX-License-Identifier: GPL-3.0-or-later
"""Distributed Cycles: one Cycles still rendered by many computers over plain SSH.

Nothing is imported before Blender registers the extension, so that plain Python can collect
the tests beside this file.
"""


def register() -> None:
    """Called by Blender when the extension is enabled."""
    from . import operators, ui

    operators.register()
    ui.register()


def unregister() -> None:
    """Called by Blender when the extension is disabled, also when Blender quits."""
    from . import operators, ui

    ui.unregister()
    operators.unregister()
