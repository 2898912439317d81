"""Multi-task learning with task gradients: HydaLearn, AdaTask and the dominance of tasks.

Importing this package needs torch alone; the companion's data, experiments and figures are modules of their own.
"""

from mtlcore.adatask import AdaTaskAdagrad, AdaTaskAdam, AdaTaskAdamW, AdaTaskRMSprop
from mtlcore.dominance import Dominance
from mtlcore.hydalearn import HydaLearn, HydaLearnStep, gain_weights
from mtlcore.sparse_adam import AdaTaskSparseAdam
from mtlcore.task_grad_scaling import clip_task_grad_norm_, unscale_task_grad_
from mtlcore.task_gradients import combine, task_backward, zero_task_grad

__all__ = [
    "AdaTaskAdagrad",
    "AdaTaskAdam",
    "AdaTaskAdamW",
    "AdaTaskRMSprop",
    "AdaTaskSparseAdam",
    "Dominance",
    "HydaLearn",
    "HydaLearnStep",
    "clip_task_grad_norm_",
    "combine",
    "gain_weights",
    "task_backward",
    "unscale_task_grad_",
    "zero_task_grad",
]
