"""What a person sees: properties, preferences and panels."""

from . import panels, preferences, properties

_MODULES = (properties, preferences, panels)


def register() -> None:
    for module in _MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(_MODULES):
        module.unregister()
