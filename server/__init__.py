"""Hearth: one local server for chat and pictures. `app` wires the rooms; ARCHITECTURE.md is the map."""
