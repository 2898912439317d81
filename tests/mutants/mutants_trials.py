"""Planted defects of HydaLearn's trials: they see something else, leave a mark, or drown in rounding without a word."""

from mutant import Mutant

TRIAL = "tests/mtlcore/test_loops_trials.py::test_a_trial_sees_what_a_model_with_memory_held_before_the_pass"
REFUSED = "tests/mtlcore/test_loops_trials.py::test_what_cannot_be_put_back_is_refused_where_something_is_tried"
IN_PLACE = "tests/mtlcore/test_loops_batches.py::test_a_batch_changed_in_place_is_refused_where_something_is_tried"
MIXED = "tests/mtlcore/test_loops_batches.py::test_every_pass_mixes_examples_alike"
HALF = "tests/mtlcore/test_loops_rounding.py::test_half_precision_anywhere_on_the_way_is_told"
WRAPPED = (
    "tests/mtlcore/test_loops_wrappers.py::test_a_wrapped_optimizer_tries_as_the_bare_one_does_and_stays_untouched"
)
COPIED = "tests/mtlcore/test_loops_wrappers.py::test_a_copied_optimizer_goes_on_recording"

TRIALS = (
    Mutant(
        "buffers shared between trials",
        "The first trial moves the buffers that the second one begins with, so gains depend on the order of tasks.",
        "mtlcore/trials.py",
        (("numbers.clone() if fresh else numbers", "numbers"),),
        (f"{TRIAL}[buffer moved in place]", f"{TRIAL}[queue of keys]", f"{TRIAL}[list of tensors]"),
    ),
    Mutant(
        "attributes of modules stay moved",
        "A counter or an annealed coefficient goes on by a step per trial.",
        "mtlcore/trials.py",
        (("            values.update(own)\n", ""),),
        (f"{TRIAL}[attributes bound anew]", f"{TRIAL}[kept output]"),
    ),
    Mutant(
        "containers of modules stay filled",
        "A list, dictionary or queue that a module keeps grows by an entry per trial.",
        "mtlcore/trials.py",
        (("        for container, content in self._contents:\n", "        for container, content in ():\n"),),
        (f"{TRIAL}[list]", f"{TRIAL}[deque]", f"{TRIAL}[Counter]", f"{TRIAL}[containers in a dict]"),
    ),
    Mutant(
        "hooks on torch's layers forgotten",
        "What a hook keeps on a layer is what the last trial computed, and what it counts is a count of trials.",
        "mtlcore/trials.py",
        ((' or values["_forward_hooks"]', ""),),
        (f"{TRIAL}[hook after]",),
    ),
    Mutant(
        "a trial draws other numbers",
        "Gains are differences of two draws of noise, of torch, numpy or Python, more than those of a step.",
        "mtlcore/trials.py",
        (("                g.write(g.state)\n", "                pass\n"),),
        (f"{TRIAL}[torch noise]", f"{TRIAL}[numpy noise]", f"{MIXED}[always-python]"),
    ),
    Mutant(
        "a trial uses up random numbers",
        "The random numbers of all later training depend on whether gains were measured.",
        "mtlcore/trials.py",
        (("                g.write(state)\n", "                pass\n"),),
        (f"{TRIAL}[torch noise]", f"{MIXED}[on the gain batch-numpy]"),
    ),
    Mutant(
        "a failed trial leaves the parameters moved",
        "Who catches an error in a loss, or interrupts a notebook, goes on from the parameters of a trial.",
        "mtlcore/trials.py",
        (
            (
                "            yield\n        finally:",
                "            yield\n        except OSError:\n            raise\n        else:",
            ),
        ),
        ("tests/mtlcore/test_loops_passes.py::test_a_trial_that_fails_leaves_nothing_behind",),
    ),
    Mutant(
        "derived weights from the cache",
        "Within torch's cache of derived weights a trial reads those of the pass before, and gains nothing.",
        "mtlcore/trials.py",
        (("        parametrize._cache.clear()\n", "        pass\n"),),
        ("tests/mtlcore/test_loops_passes.py::test_weights_derived_once_are_derived_again_in_a_trial_and_afterwards",),
    ),
    Mutant(
        "a batch changed in place",
        "Each trial reads a batch that was multiplied once more than that of the trial before.",
        "mtlcore/trials.py",
        (("if tensor._version != version:", "if False:"),),
        (f"{IN_PLACE}[multiplied]", f"{IN_PLACE}[part set]"),
    ),
    Mutant(
        "arrays shared between passes",
        "A numpy array of the batch that the losses change in place changes for all trials.",
        "mtlcore/trials.py",
        (("    own = copy.copy(batch)\n", '    own = batch if hasattr(batch, "dtype") else copy.copy(batch)\n'),),
        ("tests/mtlcore/test_loops_batches.py::test_arrays_changed_in_place_are_each_passs_own",),
    ),
    Mutant(
        "features computed before the call",
        "A trial step of the encoder changes nothing in features that came with the batch, and gains nothing.",
        "mtlcore/trials.py",
        (("tensor.grad_fn is not None for tensor in tensors", "False for tensor in tensors"),),
        ("tests/mtlcore/test_loops_batches.py::test_data_with_a_graph_is_refused_where_something_is_tried",),
    ),
    Mutant(
        "no trial of nothing",
        "What cannot be put back, such as a mean teacher or a generator of one's own, moves with each trial.",
        "mtlcore/checked_gains.py",
        (("self._watch(1, (again - before)", "self._watch(1, (before - before)"),),
        (f"{REFUSED}[teacher's data moved]", f"{REFUSED}[numpy generator]", f"{IN_PLACE}[changed by numpy]"),
    ),
    Mutant(
        "trials move the inputs",
        "Where a loss needs the gradient of its inputs, as forces do, a trial moves the data.",
        "mtlcore/batch_gradients.py",
        (("for p, rows in self.heads.items() if isinstance(p, nn.Parameter)}", "for p, rows in self.heads.items()}"),),
        ("tests/mtlcore/test_loops_passes.py::test_losses_may_differentiate",),
    ),
    Mutant(
        "heads outside the model forgotten",
        "Log-variances and heads that the model does not hold get the plain sum of gradients, whatever the weights.",
        "mtlcore/batch_gradients.py",
        (("if p not in ours}", "if p not in ours and p in set(model.parameters())}"),),
        ("tests/mtlcore/test_loops_parameters.py::test_leaves_outside_the_model_get_their_weighted_gradient",),
    ),
    Mutant(
        "shared parameters read once",
        "A layer that is added, replaced or unfrozen after HydaLearn was made never gets task gradients.",
        "mtlcore/hydalearn.py",
        (("shared if isinstance(shared, nn.Module) else check_shared(shared)", "check_shared(shared)"),),
        ("tests/mtlcore/test_loops_parameters.py::test_a_module_given_as_shared_is_read_at_each_call",),
    ),
    Mutant(
        "a replaced layer is not missed",
        "HydaLearn goes on with the parameters of a layer that is no longer in the model.",
        "mtlcore/hydalearn.py",
        (("            if gone:\n", "            if gone < 0:\n"),),
        (
            "tests/mtlcore/test_loops_parameters.py::test_a_listed_parameter_that_was_replaced_is_an_error_that_names_the_remedy",
        ),
    ),
    Mutant(
        "rounding errors as gains",
        "With a small trial step the weights are those of rounding errors, [0, 1] for [.7, .3].",
        "mtlcore/gains.py",
        (("RESOLVED = 100\n", "RESOLVED = 0\n"),),
        ("tests/mtlcore/test_loops_rounding.py::test_weights_in_float32_are_those_of_float64_or_first_order_and_told",),
    ),
    Mutant(
        "half precision inside a function not seen",
        "Gains of a model whose layers compute in bfloat16 inside are rounding errors of bfloat16.",
        "mtlcore/checked_gains.py",
        (("        return max(self._graph[1], self._eps)\n", "        return self._graph[1]\n"),),
        (f"{HALF}[custom function]", f"{HALF}[reentrant checkpoint]"),
    ),
    Mutant(
        "the first graph's rounding for all",
        "Autocast that begins later gives gains that are rounding errors, until the next check in a hundred calls.",
        "mtlcore/checked_gains.py",
        (("if self._graph[0] != graph.operations:", "if not self._graph[0]:"),),
        ("tests/mtlcore/test_loops_rounding.py::test_autocast_that_begins_between_two_checks_is_noticed",),
    ),
    Mutant(
        "told at each call",
        "A warning per step hides every other one.",
        "mtlcore/checked_gains.py",
        (("            self._told = True\n", "            self._told = False\n"),),
        ("tests/mtlcore/test_loops_rounding.py::test_it_is_told_once",),
    ),
    Mutant(
        "a wrapper's shadow",
        "The trial of a framework's wrapped optimizer takes a real step, or loses its groups.",
        "mtlcore/trial_steps.py",
        (("unwrapped(inner) if isinstance(inner, Optimizer) and", "inner if False and"),),
        (f"{WRAPPED}[optimizer-SGD-like Accelerate's]",),
    ),
    Mutant(
        "a copy that nobody records",
        "After a copy of the optimizer, dominance stays what it was, without a word.",
        "mtlcore/dominance.py",
        (("        self.optimizer.__deepcopy__ = self._copied_optimizer  # type: ignore[attr-defined]\n", ""),),
        (f"{COPIED}[optimizer-Adam]", f"{COPIED}[model and optimizer-AdaTaskAdam]"),
    ),
    Mutant(
        "nested DistributedDataParallel accepted",
        "Ranks drift apart, as only the first of T backward passes is averaged.",
        "mtlcore/hydalearn.py",
        (("for module in model.modules()):", "for module in [model]):"),),
        ("tests/mtlcore/test_loops_wrappers.py::test_hydalearn_refuses_distributed_data_parallel",),
    ),
    Mutant(
        "losses of DistributedDataParallel accepted",
        "With find_unused_parameters each rank trains on task gradients of its own from the second task on.",
        "mtlcore/_passes.py",
        (('type(node).__name__ == "_DDPSinkBackward"', 'type(node).__name__ == ""'),),
        ("tests/mtlcore/test_loops_wrappers.py::test_losses_of_distributed_data_parallel_are_refused",),
    ),
    Mutant(
        "no remedy for buffers given away",
        "Who compiles a model and takes one ordinary step first is left with torch's message alone.",
        "mtlcore/_passes.py",
        (('    "donated buffers": (\n', '    "no such buffers": (\n'),),
        ("tests/mtlcore/test_loops_compile.py::test_buffers_that_torch_compile_gave_away_are_told_with_the_remedy",),
    ),
)
