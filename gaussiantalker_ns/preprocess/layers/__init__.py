"""Layers behind the head: background, torso, and backgrounds that change over time."""
