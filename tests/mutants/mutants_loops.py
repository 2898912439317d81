"""Planted defects in what training loops rely on: order in memory, clearing, losses, order of calls, weights."""

from mutant import Mutant

GRADIENTS, STALE = "tests/mtlcore/test_loops_gradients.py::", "tests/mtlcore/test_loops_stale.py::"
LOSSES = "tests/mtlcore/test_loops_losses.py::"
ORDER, SCALER = "tests/mtlcore/test_loops_order_of_calls.py::", "tests/mtlcore/test_loops_scaler.py::"
COMPOSED, PRECISION = "tests/mtlcore/test_loops_composed.py::", "tests/mtlcore/test_loops_low_precision.py::"

JOINT_ORDER = GRADIENTS + "test_gradients_lie_as_their_parameters_do_and_torchs_step_is_the_one_of_float64"
TASK_ORDER = GRADIENTS + "test_moments_lie_as_their_parameters_do_and_a_step_by_task_is_the_one_of_float64"
JOINT_LOOP = STALE + "test_any_loop_of_torchs_optimizers_steps_by_what_its_gradients_are_made_of"
TASK_LOOP = STALE + "test_any_loop_of_adatask_steps_by_the_gradients_since_they_were_cleared"
CHANGED = ORDER + "test_what_changes_the_gradients_of_tasks_is_told_by_a_step_by_task_and_others_go_on"
TOLD_ONCE = ORDER + "test_an_ordinary_backward_pass_with_adatask_is_told_once_and_is_the_ordinary_step"
TASK_SCALER = SCALER + "test_adatask_in_any_order_of_the_scalers_calls_is_adatask_without_one"
COMPOSED_BY_HAND = (
    COMPOSED + "test_weights_in_front_or_on_updates_are_those_by_hand_and_a_task_of_weight_zero_is_left_out"
)

LOOPS = (
    Mutant(
        "gradients in another order than their parameter",
        "A fused step on a transposed or channels_last weight moves numbers by gradients of others.",
        "mtlcore/_rows.py",
        (('torch.empty_like(p, device="meta").stride()', 'torch.empty(p.shape, device="meta").stride()'),),
        (JOINT_ORDER, TASK_ORDER, GRADIENTS + "test_a_tasks_part_of_the_gradient_lies_as_its_parameter_does"),
    ),
    Mutant(
        "moments in another order than their parameter",
        "AdaTask's fused kernels divide a number by the accumulator of another.",
        "mtlcore/_task_state.py",
        (("+ torch.empty_like(p).stride()", "+ torch.empty(p.shape).stride()"),),
        (TASK_ORDER,),
    ),
    Mutant(
        "zeros are no clearing",
        "With set_to_none=False the task gradients of all steps add up.",
        "mtlcore/_task_record.py",
        (("forget(p, keep_memory=True)  # cleared", "pass  # cleared"),),
        (JOINT_LOOP, TASK_LOOP),
    ),
    Mutant(
        "task gradients outlive their gradient",
        "After model.zero_grad() a step, combine or clipping still finds the task gradients of the step before.",
        "mtlcore/_task_record.py",
        (("task_grad is None or (p.grad is None and", "task_grad is None or (False and"),),
        (JOINT_LOOP, TASK_LOOP),
    ),
    Mutant(
        "only the last micro-batch",
        "Accumulation over micro-batches keeps one of them per task.",
        "mtlcore/task_gradients.py",
        (("local(more[i].task_grad)[t] += grad", "local(more[i].task_grad)[t] = grad"),),
        (JOINT_LOOP, TASK_LOOP, TASK_ORDER, TASK_SCALER),
    ),
    Mutant(
        "an absent task goes on by momentum",
        "A task that a batch has no labels of moves the trunk, and its moments forget.",
        "mtlcore/_adatask.py",
        (("enumerate(flags) if reached[t]]", "enumerate(flags) if reached]"),),
        (LOSSES + "test_a_task_that_a_batch_does_not_have_keeps_its_moments_and_its_count", TASK_LOOP),
    ),
    Mutant(
        "runs guessed from sizes",
        "The unreduced losses of a batch are taken for runs, where the sizes happen to fit.",
        "mtlcore/_checks.py",
        (("if shape != (() if runs is None else (runs,)):", "if shape not in ((), tuple(p.shape[:1])):"),),
        (LOSSES + "test_runs_are_declared_and_not_guessed_from_sizes_that_happen_to_fit",),
    ),
    Mutant(
        "clipping in vain",
        "clip_grad_norm_ before a step by task clips nothing, and nobody says so.",
        "mtlcore/_task_record.py",
        ((" and grad._version == record.version", ""),),
        (CHANGED, ORDER + "test_a_small_change_is_told_and_a_measured_norm_is_none"),
    ),
    Mutant(
        "combine drops what came before",
        "A regulariser's gradient vanishes when weights are set.",
        "mtlcore/_task_record.py",
        (("like(p, total if record.others is None else added(total, record.others))", "like(p, total)"),),
        (ORDER + "test_a_regulariser_counts_before_the_backward_passes_and_after_the_weights", JOINT_LOOP),
    ),
    Mutant(
        "clipping by task leaves the sum",
        "clip_task_grad_norm_ after the weights clips what no ordinary optimizer reads.",
        "mtlcore/task_grad_scaling.py",
        (("        seal_sum(p)\n    return norms", "    return norms"),),
        (ORDER + "test_clipping_by_task_is_the_same_before_and_after_the_weights", JOINT_ORDER),
    ),
    Mutant(
        "a norm that is not finite spoils all",
        "A task that was left out for a NaN comes back by way of clipping.",
        "mtlcore/task_grad_scaling.py",
        (("torch.where(parts == 0, 0, parts * by_task)", "parts * by_task"),),
        (COMPOSED + "test_a_norm_that_is_not_finite_spoils_no_other_task_and_nothing_where_its_weight_is_zero",),
    ),
    Mutant(
        "an overflow is stepped",
        "Infinities that the gradient scaler found go into the accumulators.",
        "mtlcore/_adatask.py",
        (("if found_inf is not None and bool(found_inf):", "if False:"),),
        (TASK_SCALER,),
    ),
    Mutant(
        "divided twice by the scale",
        "Task gradients that were unscaled for clipping are unscaled again by the scaler's step.",
        "mtlcore/_adatask.py",
        (("if record is None or not record.unscaled:", "if True:"),),
        (TASK_SCALER,),
    ),
    Mutant(
        "unscaled by the scaler alone",
        "Task gradients keep the scale that scaler.unscale_ took from all others, and are stepped with it.",
        "mtlcore/_adatask_checks.py",
        (('if scaler == "unscaled" and not record.unscaled:', "if False:"),),
        ("tests/mtlcore/test_loops_scaler_told.py::test_scales_that_do_not_fit_are_told_and_change_nothing",),
    ),
    Mutant(
        "weights rounded to the first parameter",
        "Beside one bfloat16 parameter all weights are off by some thousandths.",
        "mtlcore/task_gradients.py",
        (("torch.as_tensor(weights, dtype=finest)", "torch.as_tensor(weights, dtype=reached[0].dtype)"),),
        (COMPOSED + "test_weights_are_as_exact_as_each_parameter",),
    ),
    Mutant(
        "clipping forgets the scale",
        "After HydaLearn with a gradient scaler, clipping leaves gradients that the scaler divides once too often.",
        "mtlcore/_task_record.py",
        (("total = total if record.scale is None else total * record.scale", "total = total.clone()"),),
        (SCALER + "test_hydalearn_with_a_scaler_is_hydalearn_without_one",),
    ),
    Mutant(
        "nobody is told of loss.backward()",
        "AdaTask is plain Adam in silence.",
        "mtlcore/_adatask.py",
        (("if any_task or self._told or", "if True or self._told or"),),
        (TOLD_ONCE, ORDER + "test_a_step_without_gradients_is_told_once_and_does_nothing"),
    ),
    Mutant(
        "told at every step",
        "A training of a million steps has a million warnings.",
        "mtlcore/_adatask.py",
        (("self._told = True", "self._told = False"),),
        (TOLD_ONCE,),
    ),
    Mutant(
        "HydaLearn's weights dropped by AdaTask",
        "Weights that were measured for every batch count nowhere.",
        "mtlcore/_adatask_checks.py",
        (('if group["task_weights"] is None and record.weighed_by', "if False and record.weighed_by"),),
        (TASK_LOOP, ORDER + "test_a_step_that_is_refused_in_its_last_group_leaves_every_bit"),
    ),
    Mutant(
        "weights in front and on the updates",
        "A weight counts twice.",
        "mtlcore/_adatask.py",
        (("return contributions(p), None", 'return contributions(p), getattr(p, "task_weights", None)'),),
        (COMPOSED_BY_HAND,),
    ),
    Mutant(
        "0 times NaN on updates",
        "One auxiliary task that is NaN, and weighs nothing, ends the training of the trunk.",
        "mtlcore/_adatask.py",
        (("if zero is not None:", "if False:"),),
        (COMPOSED_BY_HAND,),
    ),
    Mutant(
        "0 times NaN in front",
        "A task of weight 0 spoils what Dominance and AdaTask read as its part of the gradient.",
        "mtlcore/_weighted_sums.py",
        (("torch.where(view == 0, 0, values) * view", "values * view"),),
        (
            COMPOSED_BY_HAND,
            COMPOSED + "test_under_torchs_optimizers_a_task_of_weight_zero_is_left_out_and_dominance_sums_up",
        ),
    ),
    Mutant(
        "a task of weight 0 between others",
        "Of three tasks the one in the middle has weight 0 and a NaN, which the sum then holds.",
        "mtlcore/_weighted_sums.py",
        (("if ends.stop - ends.start == len(kept):", "if True:"),),
        ("tests/mtlcore/test_task_gradients.py::test_the_weighted_sum_reads_no_task_of_weight_zero[[1]-shape1]",),
    ),
    Mutant(
        "one addition per task in half precision",
        "bfloat16 parameters keep a seventh of their movement, less with each task more.",
        "mtlcore/_adatask.py",
        (("if p.dtype.itemsize < 4 and num_tasks > 1]", "if p.dtype.itemsize < 1 and num_tasks > 1]"),),
        (
            PRECISION + "test_a_step_rounds_the_sum_of_the_updates_once",
            PRECISION + "test_over_many_steps_the_movement_kept_is_that_of_one_addition",
        ),
    ),
    Mutant(
        "one task summed apart in half precision",
        "AdaTask of one task is no longer torch's optimizer.",
        "mtlcore/_adatask.py",
        (("if p.dtype.itemsize < 4 and num_tasks > 1]", "if p.dtype.itemsize < 4]"),),
        (PRECISION + "test_one_task_is_torchs_optimizer_to_the_bit",),
    ),
)
