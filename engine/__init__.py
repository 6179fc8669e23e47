"""The distributed renderer. Never imports bpy, ui or operators; runs under plain Python."""
