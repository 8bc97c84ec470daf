"""The sub-commands ``heron train``, ``heron export`` and ``heron evaluate``."""
