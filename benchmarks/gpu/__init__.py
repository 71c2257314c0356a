"""Measurements on an NVIDIA GPU; see `README.md` in this folder."""
