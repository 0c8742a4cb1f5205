"""docs/configuration.md, made from the dataclasses: ``python -m hf_asr.config.reference > docs/configuration.md``."""
