"""Layers and graph pieces that two or more families share."""
