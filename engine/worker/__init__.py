"""What runs inside a node's Blender. Its source is sent over the channel; nothing is installed.

Only the standard library and, inside functions, bpy: the modules here run in whatever Python
the node's Blender brings.
"""
