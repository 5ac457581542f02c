"""Toxicity by a transformers classifier; registered as `hf` in the plug-in group `toxicity_backends`."""
