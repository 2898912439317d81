"""Multi-task learning with task gradients: HydaLearn, AdaTask and the dominance of tasks."""
