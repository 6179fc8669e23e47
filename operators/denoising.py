"""How the scene wants its frame denoised, and which passes tiles carry for that and for the heat map."""

from __future__ import annotations

from collections.abc import Iterator

import bpy

from ..engine.job import Denoising

GUIDES = [f"Denoising {kind}" for kind in ("Albedo", "Depth", "Normal", "Roughness", "Specular Albedo")]
"""What Cycles stores for a denoiser; the last two from Blender 5.2 on."""


def has_denoiser() -> bool:
    """Whether this Blender was built with OpenImageDenoise; those of Debian and others are not."""
    import _cycles

    return bool(_cycles.with_openimagedenoise)


def settings(scene: bpy.types.Scene) -> Denoising | None:
    """The scene's settings for the whole frame; None where nothing is denoised."""
    cycles = scene.cycles
    layers = tuple(layer.name for layer in scene.view_layers if layer.use and layer.cycles.use_denoising)
    if not cycles.use_denoising or not layers:
        return None
    device = bpy.context.preferences.addons["cycles"].preferences.compute_device_type
    is_optix = cycles.denoiser == "OPTIX"
    return Denoising(
        layers=layers,
        denoiser=cycles.denoiser if is_optix or has_denoiser() else "",
        input_passes=cycles.denoising_input_passes,
        prefilter=cycles.denoising_prefilter,
        quality=cycles.denoising_quality,
        use_gpu=device != "NONE" and (is_optix or cycles.denoising_use_gpu),
        device=device,
        exposure=cycles.film_exposure,
    )


def helpers(scene: bpy.types.Scene, denoising: Denoising | None) -> tuple[str, ...]:
    """`Layer.Pass` of each pass that the denoiser needs and the scene has not."""
    return () if denoising is None else tuple(_helpers(scene, denoising))


def _helpers(scene: bpy.types.Scene, denoising: Denoising) -> Iterator[str]:
    for name in denoising.layers if denoising.denoiser else ():
        layer = scene.view_layers[name].cycles
        if not layer.denoising_store_passes:
            yield from (f"{name}.{guide}" for guide in GUIDES)
        if scene.cycles.use_adaptive_sampling and not layer.pass_debug_sample_count:
            yield f"{name}.Debug Sample Count"


def heat_map_helpers(scene: bpy.types.Scene) -> Iterator[str]:
    """The passes that tell where the frame was expensive, as far as the scene has them not."""
    for layer in scene.view_layers:
        if not layer.use:
            continue
        if (
            hasattr(layer.cycles, "pass_render_time") and scene.cycles.device == "CPU"
        ):  # Blender 5.0 and later
            if not layer.cycles.pass_render_time:
                yield f"{layer.name}.Render Time"
        elif scene.cycles.use_adaptive_sampling and not layer.cycles.pass_debug_sample_count:
            yield f"{layer.name}.Debug Sample Count"


def warnings_of(scene: bpy.types.Scene) -> list[str]:
    """What will not be as in F12, or not as the scene asks."""
    found = []
    denoising = settings(scene)
    if denoising is not None and not denoising.denoiser:
        found.append(
            "This Blender was built without a denoiser (OpenImageDenoise): the frame comes as it is rendered."
            " Use a Blender from blender.org to denoise it."
        )
    # For a light, and so in Blender's own start-up scene, the switch means that it lights catchers.
    catchers = any(item.is_shadow_catcher for item in scene.objects if item.type != "LIGHT")
    if denoising is not None and catchers:
        found.append(
            "Shadow catchers: Cycles denoises their pass on its own while it renders, which a finished frame"
            " does not allow. The picture is denoised as a whole, and their pass not at all."
        )
    return found
