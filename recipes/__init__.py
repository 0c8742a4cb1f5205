"""Recipes: scripts to start with ``accelerate launch`` and the YAML files they read; installed as hf_asr.recipes."""
