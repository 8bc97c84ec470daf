"""Evaluation of policies on days that they were not trained on."""
