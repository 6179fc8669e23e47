"""What a .blend that was opened anew and saved again has in common with the one before."""

from __future__ import annotations

from pathlib import Path

from engine.recipes import recipe_of

from .. import support

MAKE = """
import bpy, sys
import numpy as np
chance = np.random.default_rng(1)
for number in range(4):
    mesh = bpy.data.meshes.new(f"mesh {number}")
    mesh.vertices.add(200_000)
    mesh.vertices.foreach_set("co", chance.random(600_000, dtype=np.float32))
    bpy.context.scene.collection.objects.link(bpy.data.objects.new(f"object {number}", mesh))
image = bpy.data.images.new("painted", 1024, 1024)
image.pixels.foreach_set(chance.random(1024 * 1024 * 4, dtype=np.float32))
image.pack()
one, two = sys.argv[-2:]
bpy.ops.wm.save_as_mainfile(filepath=one, compress=False)
"""
MOVE = """
import bpy, sys
bpy.data.objects["object 2"].location.x += 1
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1], compress=False)
"""


def test_a_file_opened_anew_keeps_its_large_chunks(tmp_path: Path) -> None:
    """Blender writes addresses, and each process has others; a process of its own opens it here."""
    one, two = tmp_path / "one.blend", tmp_path / "two.blend"
    support.run_python(MAKE, str(one), str(two))
    support.run_python(MOVE, str(two), blend=one)
    before, after = recipe_of(one), recipe_of(two)
    assert after.size == two.stat().st_size > 10 << 20
    fresh = sum(size for size, _ in set(after.chunks) - set(before.chunks))
    assert 0 < fresh < 1 << 20, fresh
