"""The planted defects of `make mutants`: mistakes that would change a conclusion, each with the checks that see it."""

from mutant import Mutant
from mutants_loops import LOOPS
from mutants_trials import TRIALS


def outputs_of(notebook: str) -> str:
    """The check that every output of a notebook comes out again."""
    return (
        f"tests/notebooks/test_notebooks.py::test_every_output_and_every_published_number_comes_out_again[{notebook}]"
    )


def published(run: str) -> str:
    """The check that a run that a notebook published comes out again."""
    return f"tests/notebooks/test_published_runs.py::test_a_published_run_comes_out_again[{run}]"


BY_HAND_1, BY_HAND_5 = outputs_of("01_hydalearn_by_hand"), outputs_of("05_adatask_by_hand")
CREDIT, SCALE_GAP = published("03 train_grid HydaLearn"), published("06 train_cell AdaTask")

HYDALEARN = (
    Mutant(
        "flipped gain ratio",
        "A task gets the weight that the other task's gain earned, so the least helpful task leads.",
        "mtlcore/hydalearn.py",
        (("torch.where(positive, gains / scale, alone)", "torch.where(positive, gains.flip(0) / scale, alone)"),),
        ("tests/mtlcore/test_hydalearn.py::test_weights_of_gains", BY_HAND_1, CREDIT),
    ),
    Mutant(
        "main and auxiliary swapped",
        "Gains are measured on the auxiliary task's loss: the method serves the wrong task.",
        "mtlcore/hydalearn.py",
        (("        check_main_task(main_task)\n", "        main_task = 1 - main_task\n"),),
        ("tests/mtlcore/test_hydalearn.py::test_exact_gains_are_those_of_deep_copies", BY_HAND_1, CREDIT),
    ),
    Mutant(
        "clamp of negative gains dropped",
        "A task that raises the main loss is trained away from its own optimum in place of being left out.",
        "mtlcore/hydalearn.py",
        (("        gains = gains.clamp(min=0)\n", "        pass\n"),),
        (
            "tests/mtlcore/test_hydalearn.py::test_weights_of_gains",
            "tests/mtlcore/test_hydalearn.py::test_against_the_reference",
        ),
    ),
    Mutant(
        "trial step leaves the parameters moved",
        "The trial steps of all tasks are taken for good, before the weighted step and outside every budget.",
        "mtlcore/trial_steps.py",
        (("clones = {p: p.detach().clone() for p in grads}", "clones = {p: p.detach() for p in grads}"),),
        ("tests/mtlcore/test_hydalearn.py::test_the_optimizers_own_step_as_trial",),
    ),
    Mutant(
        "trial forward passes reach the buffers",
        "Looking ahead moves the running statistics of BatchNorm, so measuring a gain changes the model.",
        "mtlcore/trials.py",
        (("tensor.data = numbers.clone() if fresh", "tensor.data = tensor.data if fresh"),),
        ("tests/mtlcore/test_hydalearn.py::test_trial_steps_leave_no_trace",),
    ),
    Mutant(
        "trial under another dropout mask",
        "The gain is the difference of two draws of noise more than that of a step.",
        "mtlcore/trials.py",
        (("            for g in drawn:\n", "            for g in () if moved else drawn:\n"),),
        ("tests/mtlcore/test_hydalearn.py::test_exact_gains_are_those_of_deep_copies",),
    ),
)

ADATASK = (
    Mutant(
        "shared accumulator",
        "All tasks are divided by one second moment, the very thing that AdaTask separates.",
        "mtlcore/_adatask.py",
        (
            (
                "state = columns[t] if len(now) == len(params) else picked(columns[t], now)",
                'one = ("exp_avg_sq", "sum", "square_avg")\n'
                "            state = picked({k: columns[0 if k in one else t][k] for k in columns[t]}, now)",
            ),
        ),
        ("tests/mtlcore/test_adatask.py::test_equals_the_reference", BY_HAND_5, SCALE_GAP),
    ),
    Mutant(
        "gradients in place of updates in AU",
        "Dominance is read off the gradients, so nothing that an optimizer does to its updates could show.",
        "mtlcore/dominance.py",
        (("(1 - self.decay) * update.square()", "(1 - self.decay) * exact(task_grad).square()"),),
        (
            "tests/mtlcore/test_dominance.py::test_two_tasks_by_hand",
            BY_HAND_5,
            published("08 follow_grid equal weights"),
        ),
    ),
    Mutant(
        "bias correction missing",
        "The first steps come from moments that still remember their zero start, three times too long.",
        "mtlcore/_task_state.py",
        (('state["step"] = torch.zeros(leading,', 'state["step"] = torch.full(leading, 1e6,'),),
        ("tests/mtlcore/test_adatask.py::test_equals_the_reference", SCALE_GAP),
    ),
    Mutant(
        "weight decay T times",
        "Every task brings the whole weight decay, so a model with more tasks is shrunk more.",
        "mtlcore/_adatask.py",
        (
            ("sign * weight_decay / num_tasks)", "sign * weight_decay)"),
            (
                "_foreach_mul_(parts, 1 - lr * weight_decay)",
                "_foreach_mul_(parts, 1 - lr * weight_decay * num_tasks)",
            ),
        ),
        (
            "tests/mtlcore/test_adatask.py::test_coupled_decay_uses_the_parameter_at_the_start_of_the_step",
            "tests/mtlcore/test_adatask.py::test_decoupled_decay_counts_once_whatever_the_weights_and_only_where_a_task_reached",
        ),
    ),
    Mutant(
        "step count shared where a task missed",
        "A task that missed a step is corrected for a bias that its moments do not have.",
        "mtlcore/_adatask.py",
        (
            (
                "            now = [i for i, reached in enumerate(flags) if reached[t]]\n",
                "            now = [i for i, reached in enumerate(flags) if reached[t]]\n"
                "            for i in set(range(len(params))).difference(now):\n"
                '                columns[t]["step"][i] += 1\n',
            ),
        ),
        ("tests/mtlcore/test_adatask.py::test_a_task_that_did_not_reach_a_parameter_is_skipped_altogether",),
    ),
    Mutant(
        "updates averaged in place of summed",
        "At equal learning rates AdaTask takes steps T times shorter than the paper's.",
        "mtlcore/_adatask.py",
        (('options = {"lr": lr,', 'options = {"lr": lr / num_tasks,'),),
        ("tests/mtlcore/test_adatask.py::test_equals_the_reference", SCALE_GAP),
    ),
    Mutant(
        "task weights on gradients",
        "Weights meant for updates multiply gradients, where AdaTask's division erases them.",
        "mtlcore/_adatask.py",
        (
            ('options["lr"] = lr * weights[t]', "pass"),
            (
                "task_grads = [rows[i][t] for i in now]",
                "task_grads = [rows[i][t] * (1.0 if weights is None else weights[t]) for i in now]",
            ),
        ),
        (
            "tests/mtlcore/test_adatask.py::test_weights_multiply_the_update",
            "tests/mtlcore/test_adatask.py::test_equals_the_reference",
        ),
    ),
    Mutant(
        "a dead unit counted as balanced",
        "Parameters that no task moves count as equally shared, so a dying network looks balanced.",
        "mtlcore/dominance.py",
        (
            ("torch.where(live, au / au.sum(0), 0)", "torch.where(live, au / au.sum(0), 1 / len(au))"),
            ("over_parts(live.sum(-1), first)", "over_parts(torch.ones_like(live).sum(-1), first)"),
        ),
        ("tests/mtlcore/test_dominance.py::test_layers_count_the_dead_and_the_dominated",),
    ),
    Mutant(
        "distributed average missing",
        "Each process takes the gains of its own examples, so processes weigh the tasks of one model differently.",
        "mtlcore/_sharded.py",
        (("return _sum(values, p, range(p._spec.mesh.ndim)) / size", "return values"),),
        ("tests/mtlcore/test_sharded.py::test_processes_take_the_steps_of_one_on_the_joined_batch",),
    ),
)

DATA = (
    Mutant(
        "leaked column",
        "What a borrower still owes is an input of the model that predicts the delinquency.",
        "notebooks/companion/data/lending_club.py",
        (('LEAKS = ("balance", ', "LEAKS = ("),),
        ("tests/companion/test_data_tabular.py::test_no_leak_among_the_inputs",),
    ),
    Mutant(
        "standardisation fitted on all rows",
        "Validation and test rows take part in medians, scales and levels before they are predicted.",
        "notebooks/companion/data/preprocessing.py",
        (("preprocessor().fit(task.inputs.iloc[split.train])", "preprocessor().fit(task.inputs)"),),
        (
            "tests/companion/test_data_tabular.py::test_rows_outside_training_do_not_influence_what_is_fitted",
            "tests/companion/test_data_fold_only.py::test_rows_outside_the_training_fold_influence_nothing_fitted",
            CREDIT,
        ),
    ),
    Mutant(
        "a group in two folds",
        "Months of one mortgage are trained on and tested on, so that memory passes for prediction.",
        "notebooks/companion/data/splits.py",
        (("        rows = rows[~np.isin(member[rows], member[folds[-1]])]\n", ""),),
        ("tests/companion/test_data_tabular.py::test_no_group_in_two_folds_and_equal_sizes",),
    ),
    Mutant(
        "mIoU averaged over batches",
        "A ratio is averaged batch by batch, so the number depends on the batch size.",
        "notebooks/companion/metrics/scenes.py",
        (
            (
                "        positive = has_number & (wanted > 0)",
                "        hits = confusion.diagonal(dim1=-2, dim2=-1)\n"
                "        union = confusion.sum(-1) + confusion.sum(-2) - hits\n"
                '        self._sums["mIoU"] = self._sums.get("mIoU", 0) + (hits / union).nanmean(-1)\n'
                '        self._sums["batches"] = self._sums.get("batches", 0) + torch.ones(num_runs)\n'
                "        positive = has_number & (wanted > 0)",
            ),
            ('"mIoU": (hits / union).nanmean(-1)', '"mIoU": s["mIoU"] / s["batches"]'),
        ),
        (
            "tests/companion/test_scene_metrics.py::test_batches_do_not_matter",
            "tests/companion/test_scene_metrics.py::test_a_mean_of_batches_would_be_another_number",
        ),
    ),
)

COMPARISON = (
    Mutant(
        "tuning on test data",
        "Learning rates and scales are chosen by the loss that is then reported.",
        "notebooks/companion/train/choice.py",
        (('tuned[tuned["metric"] == "validation loss"]', 'tuned[tuned["metric"] == "test loss"]'),),
        ("tests/companion/test_fair_comparisons.py::test_settings_are_chosen_by_the_validation_loss",),
    ),
    Mutant(
        "tuning AdaTask on test data",
        "The settings of AdaTask's synthetic study are chosen by the loss that is then reported.",
        "notebooks/companion/studies/adatask_synthetic/comparison.py",
        (('(tables, ignore_index=True), "validation loss")', '(tables, ignore_index=True), "test loss")'),),
        ("tests/companion/test_fair_comparisons.py::test_rates_are_chosen_by_the_validation_loss",),
    ),
    Mutant(
        "tuning scenes on test data",
        "The learning rates of the scene study are chosen on the images that are then reported.",
        "notebooks/companion/studies/scenes/report.py",
        (('tuning["fold"] == "validation"', 'tuning["fold"] == "test"'),),
        ("tests/companion/test_fair_comparisons.py::test_rates_of_scenes_are_chosen_on_the_validation_fold",),
    ),
    Mutant(
        "epoch chosen on the test fold",
        "Each run keeps the epoch that was best on the rows it is reported on.",
        "notebooks/companion/problems/tables.py",
        (("on_device(folds.validation)", "on_device(folds.test)"),),
        ("tests/companion/test_fair_comparisons.py::test_the_test_fold_decides_nothing", CREDIT),
    ),
    Mutant(
        "tuning seeds reported",
        "The seeds that chose the settings are reported as if they were fresh.",
        "notebooks/companion/train/method_comparison.py",
        (('(setting), "seeds": list(seeds)}', '(setting), "seeds": list(tuning_seeds)}'),),
        ("tests/companion/test_weight_study.py::test_a_comparison_tunes_then_trains_fresh_seeds",),
    ),
    Mutant(
        "a shortlist of the worst settings",
        "All tuning seeds choose among settings that the first few had ruled out.",
        "notebooks/companion/train/method_comparison.py",
        (("means.nsmallest(self.shortlist)", "means.nlargest(self.shortlist)"),),
        ("tests/companion/test_weight_study.py::test_a_second_stage_tries_the_best_settings_on_more_seeds",),
    ),
    Mutant(
        "seeds not paired",
        "Methods are compared at different seeds, so the difference of problems counts as one of methods.",
        "notebooks/companion/train/method_comparison.py",
        (('(setting), "seeds": list(seeds)}', '(setting), "seeds": [s + len(fresh) for s in seeds]}'),),
        ("tests/companion/test_weight_study.py::test_a_comparison_tunes_then_trains_fresh_seeds",),
    ),
    Mutant(
        "initial weights by method",
        "Methods of one seed start at different points, so luck of the start counts as a difference of methods.",
        "notebooks/companion/problems/tables.py",
        (("manual_seed(seed) for seed in seeds]", 'manual_seed(seed + len(c["method"])) for seed in seeds]'),),
        ("tests/companion/test_fair_comparisons.py::test_methods_of_a_seed_start_alike_on_the_same_rows", CREDIT),
    ),
    Mutant(
        "one random generator for all runs",
        "A run's batches depend on the runs beside it, so no result of one seed can be repeated.",
        "notebooks/companion/train/problem.py",
        (
            (
                "[torch.Generator().manual_seed(seed) for seed in self.seeds]",
                "[torch.Generator().manual_seed(self.seeds[0])] * len(self.seeds)",
            ),
        ),
        ("tests/companion/test_runs.py::test_a_run_in_a_crowd_equals_the_run_alone", CREDIT),
    ),
    Mutant(
        "failed runs left out unsaid",
        "Pairs in which a method diverged vanish, and the unstable method looks better than it is.",
        "notebooks/companion/train/method_comparison.py",
        (("confidence=confidence), len(losses) - len(kept)", "confidence=confidence), 0"),),
        ("tests/companion/test_weight_study.py::test_log_differences_are_paired_and_failed_pairs_counted",),
    ),
)

VERDICTS = (
    Mutant(
        "interval without pairing",
        "What both runs of a pair share is counted as noise, and real differences drown in it.",
        "notebooks/companion/claims/statistics.py",
        (("float(difference.std(ddof=1))", "float(np.hypot(np.std(first, ddof=1), np.std(second, ddof=1)))"),),
        (
            "tests/companion/test_statistics.py::test_equals_the_t_test_of_scipy",
            "tests/companion/test_statistics.py::test_coverage_of_independent_pairs_is_95_percent",
        ),
    ),
    Mutant(
        "splits taken for independent",
        "Intervals over splits that share rows are too short, and chance passes for an effect.",
        "notebooks/companion/claims/statistics.py",
        (
            ("spread * (1 / n + test_to_train) ** 0.5", "spread * (1 / n) ** 0.5"),
            ("/ inits * (1 / splits + test_to_train)", "/ inits * (1 / splits)"),
        ),
        (
            "tests/companion/test_statistics.py::test_coverage_over_splits_of_one_data_set",
            "tests/companion/test_statistics.py::test_parts_of_the_variance_by_hand",
        ),
    ),
    Mutant(
        "initialisations taken for splits",
        "Five runs on one split count as five splits, and intervals over them are too short.",
        "notebooks/companion/problems/run_seeds.py",
        (('seed=runs["seed"] % SPLITS', 'seed=runs["seed"]'),),
        ("tests/companion/test_composed_study.py::test_a_split_has_several_initialisations_in_the_final_runs_alone",),
    ),
    Mutant(
        "tuning left out of a difference",
        "What a method's tuning might have chosen instead is trained, and forgotten in the interval.",
        "notebooks/companion/claims/statistics.py",
        (("test_to_train=test_to_train, tuning=part,", "test_to_train=test_to_train, tuning=None,"),),
        ("tests/companion/test_weight_study.py::test_differences_know_what_the_tuning_might_have_chosen",),
    ),
    Mutant(
        "tuning taken for certain",
        "Intervals leave out that other tuning seeds would have chosen other settings.",
        "notebooks/companion/claims/statistics.py",
        (("variance = split + initialisation + tuned", "variance = split + initialisation"),),
        ("tests/companion/test_statistics.py::test_parts_of_the_variance_by_hand",),
    ),
    Mutant(
        "a refuted comparison forgiven",
        "A claim about every comparison survives one that rules it out.",
        "notebooks/companion/claims/verdicts.py",
        (("return min(verdicts, key=order.index)", "return max(verdicts, key=order.index)"),),
        ("tests/companion/test_claims.py::test_combined_verdicts",),
    ),
    Mutant(
        "failed control ignored",
        "A row is judged although what would have shown that it can see anything has failed.",
        "notebooks/companion/claims/evidence.py",
        (("alone.get(claims[name].control)", "None"),),
        ("tests/companion/test_claims.py::test_a_row_whose_control_fails_is_uninterpretable",),
    ),
    Mutant(
        "verdict rule inverted",
        "Claims of a lower loss are judged as if higher were meant, and the other way round.",
        "notebooks/companion/claims/verdicts.py",
        (('    if direction == "lower":\n', '    if direction == "higher":\n'),),
        (
            "tests/companion/test_claims.py::test_verdicts_by_hand",
            "tests/companion/test_ledger.py::test_readme_shows_what_the_committed_evidence_says",
        ),
    ),
    Mutant(
        "threshold moved after the result",
        "The smallest effect that counts can be changed to fit what was found without a trace.",
        "notebooks/companion/claims/register.py",
        (("    now = fingerprint(row)\n", '    now = fingerprint({**row, "smallest": 0.05})\n'),),
        ("tests/companion/test_claims.py::test_what_decides_changes_only_when_listed[smallest-0.04-True]",),
    ),
    Mutant(
        "stale result reused",
        "Stored results of older code are shown as those of the code as it is.",
        "notebooks/companion/store/results.py",
        (("_digest(name, code_digest(compute.__module__))", "_digest(name)"),),
        ("tests/companion/test_results.py::test_a_changed_configuration_or_code_never_reuses",),
    ),
    Mutant(
        "what was trained elsewhere is lost",
        "A full run uses what was trained on a machine that is not at hand, and publishes without it.",
        "notebooks/companion/store/results.py",
        (("            self._used[name] = Cell(kind, configuration, self._published[name])\n", ""),),
        ("tests/companion/test_results.py::test_a_full_run_takes_over_what_was_computed_elsewhere",),
    ),
    Mutant(
        "published runs of other epochs",
        "A published run is found whatever its number of epochs: a reader's change of a parameter shows old numbers.",
        "notebooks/companion/store/published.py",
        (('if name != "device"}\n    return json', 'if name not in ("device", "epochs")}\n    return json'),),
        ("tests/companion/test_results.py::test_what_was_not_published_is_refused_with_the_difference",),
    ),
    Mutant(
        "published figures of other parameters",
        "A run with parameters of its own overwrites the published figures.",
        "notebooks/companion/runner/notebooks.py",
        (('published_values = set(parameters) <= {"profile", "device"}', "published_values = True"),),
        ("tests/notebooks/test_notebook_runner.py::test_a_run_with_parameters_of_its_own_changes_no_published_figure",),
    ),
    Mutant(
        "changed code, old figures",
        "`make` calls figures up to date that an older version of the package drew.",
        "notebooks/companion/runner/inputs.py",
        (("        digest.update(hashlib.sha256(path.read_bytes()).digest())\n", ""),),
        (
            "tests/notebooks/test_notebook_runner.py::test_inputs_change_with_source_package_parameters_and_lock_and_with_nothing_else",
        ),
    ),
)

MUTANTS: tuple[Mutant, ...] = (*HYDALEARN, *TRIALS, *ADATASK, *LOOPS, *DATA, *COMPARISON, *VERDICTS)
