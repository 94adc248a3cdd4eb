"""WHAT WAS SEEN: observations with units and sky positions, in numpy. Nothing here may import torch."""
