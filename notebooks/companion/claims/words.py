"""The ledger's words: symbols of verdicts, the papers' claims as questions, rows as short as a line of a figure."""

from companion.claims.fields import Kind
from companion.claims.register import DOMAINS, OURS, Claim

NO_EVIDENCE, NOT_TESTABLE = "no full run yet", "not testable here"
OFFICIAL = "the papers' data"  # the domain of what cannot be tested here
SYMBOLS = {
    "holds": "\N{HEAVY CHECK MARK}",
    "holds in part": "\N{CIRCLE WITH LEFT HALF BLACK}",
    "undecided": "\N{WHITE CIRCLE}",
    "does not hold": "\N{HEAVY BALLOT X}",
    "uninterpretable": "\N{EMPTY SET}",
    NO_EVIDENCE: "\N{HORIZONTAL ELLIPSIS}",
    NOT_TESTABLE: "\N{EN DASH}",
}
IN_PLURAL: dict[Kind, str] = {"primary": "primary", "secondary": "secondary", "sanity": "sanity checks"}
IN_WORDS = {
    "H1": "Do the best weights follow the batch?",
    "H2": "Does an auxiliary's relevance drift?",
    "H3": "Does HydaLearn beat constant weights?",
    "A1": "Does one task dominate parameters?",
    "A2": "Do accumulated gradients cause it?",
    "A3": "Does AdaTask balance every layer?",
    "A4": "Does AdaTask improve the tasks?",
    "A5": "Does it with each optimizer?",
    "A6": "More, with projected gradients?",
    OURS: "Questions of our own",
}
# What a row asks, by its name without the domain.
ROWS = {
    "H1-composition": "explained by composition",
    "H1-dose": "control: one-cluster batches",
    "H1-match": "as held-out gradients say",
    "H1-swap": "own or swapped weights",
    "H1-gain": "worth knowing batch by batch",
    "H2-jump": "control: a planted jump is seen",
    "H2-switchoff": "control: off at a planted jump",
    "H2-drift": "switched off in time",
    "H3-composition": "clusters that disagree",
    "H3-related": "related and unrelated",
    "H3-selection": "one relevant of four",
    "H3-others": "other baselines",
    "H3-sgd": "with SGD",
    "H3-loss": "against constants, single task",
    "H3-auc": "AUC",
    "H3-time": "train on the past",
    "H3-power": "flights, for power",
    "H3-scarce": "few main labels",
    "H3-third": "a third cohort",
    "H3-wide": "a large network",
    "H3-composed": "the two methods together",
    "H3-composed-cards": "the two methods together, cards",
    "H3-controls": "the two against their parts",
    "H3-controls-cards": "the two against their parts, cards",
    "H3-erased": "level lost in front of AdaTask",
    "H3-erased-cards": "level lost in front of AdaTask, cards",
    "A1": "nothing planted",
    "A1-equal": "nothing planted",
    "A1-planted": "planted, 1 : 10",
    "A1-dominated": "planted, 1 : 10",
    "A1-scale": "planted, 1 : 10",
    "A1-layers": "more in higher layers",
    "A1-larger": "nothing planted, a larger network",
    "A2-rms": "beyond one number per task",
    "A2-separate": "accumulators apart",
    "A2-balance": "weights that balance gradients",
    "A2-larger": "accumulators apart, a larger network",
    "A2-gap": "planted, 1 : 10",
    "A3": "in each",
    "A3-equal": "the least-served task",
    "A3-scale": "planted, 1 : 10",
    "A3-noise": "with unequal label noise",
    "A4-average": "average of tasks",
    "A4-single": "average, single tasks",
    "A4-rms": "average, one number per task",
    "A4-weightings": "average, loss weightings",
    "A4-baselines": "average, other baselines",
    "A4-robust": "average, rates or scales off",
    "A4-others": "average, other weightings",
    "A4-larger": "average, a larger network",
    "A4-larger-dominated": "dominated task, a larger network",
    "A4-larger-learned": "control: the larger beats one pixel",
    "A4-inputs": "control: beats a pixel with latitude",
    "A4-positive": "control: joint beats single",
    "A4-learned": "control: beats one pixel",
    "A4-dominated": "the dominated task",
    "A4-gap": "planted, 1 : 10",
    "A4-sparse": "sparse tables",
    "A4-scale": "a weight is erased",
    "A4-noise": "the task dominated by noise",
    "A5-optimizers": "at one weight",
    "A6": "with PCGrad",
}


def without_domain(name: str) -> str:
    """The name of a row without its domain: `H1-swap` of `H1-swap-credit`."""
    return "-".join(word for word in name.split("-") if word not in DOMAINS)


def row_in_words(claim: Claim) -> str:
    """What a row asks, beside its question and its data."""
    name = without_domain(claim.id)
    return ROWS.get(name, name)
