"""Distributed Cycles: one Cycles still, many machines, plain SSH, the same pixels as F12.

Nothing is imported at module level, so that plain Python can collect the tests beside this file.
"""


def register() -> None:
    """Called by Blender when the extension is enabled."""
    from . import operators, ui

    ui.register()
    operators.register()


def unregister() -> None:
    """Called by Blender when the extension is disabled, and when Blender quits."""
    from . import operators, ui

    # First what may still run: it uses the properties that go with the user interface.
    operators.unregister()
    ui.unregister()
