"""RLlib's parts of ours: modules with a central critic, sampling in batch, the learner."""
