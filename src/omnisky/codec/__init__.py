"""OBSERVATION ↔ TOKENS: every encode has a decode. Nothing here knows a model."""
