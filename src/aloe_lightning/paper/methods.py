"""A method, a row of the paper's tables, is an objective and a detector."""

from aloe_lightning.evaluation.records import Record

PAPER_METHODS = ("MSP", "ODIN", "Mahalanobis", "OE", "OE+ODIN", "ADV", "AOE", "ALOE", "ALOE+ODIN")
"""The rows of Tables 1 and 3, in order."""

DATASET_TITLES = {"gtsrb": "GTSRB", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
OBJECTIVE_TITLES = {"original": "Original", "oe": "OE", "adv": "ADV", "aoe": "AOE", "aloe": "ALOE"}
OUTLIER_TITLES = {
    "300k": "300K Random Images (in the place of the paper's 80 Million Tiny Images, which were withdrawn)",
    "tiny_images": "80 Million Tiny Images (withdrawn by its creators in 2020 for its offensive content)",
    "imagenet32": "ImageNet 32x32",
}
DETECTOR_TITLES = {
    "msp": "MSP",
    "odin": "ODIN",
    "odin_tuned": "ODIN (tuned)",
    "mahalanobis": "Mahalanobis",
    "energy": "Energy",
    "max_logit": "MaxLogit",
}


def method_of(record: Record) -> str:
    """The method's name: the detector's on the original net, else the objective's, `+detector` unless it is MSP.

    A net whose training budget is not the evaluation's says so, as in `ALOE (trained at 1)`.
    """
    detector = DETECTOR_TITLES.get(record.detector, record.detector)
    if record.objective == "original":
        return detector
    objective = OBJECTIVE_TITLES.get(record.objective, record.objective)
    name = objective if record.detector == "msp" else f"{objective}+{detector}"
    return name + _other_budget(record)


def objective_of(record: Record) -> str:
    """The objective's title, with its training budget where that is not the evaluation's."""
    return OBJECTIVE_TITLES.get(record.objective, record.objective) + _other_budget(record)


def _other_budget(record: Record) -> str:
    if record.train_epsilon is None or record.train_epsilon == record.eval_epsilon:
        return ""
    return f" (trained at {record.train_epsilon:g})"


def row_order(method: str) -> tuple[int, str] | None:
    """Place of a method among the rows of a table; None for a combination that the paper's tables do not have.

    Further detectors and somebody's own objectives come last.
    """
    name = method.split(" (")[0]
    if name in PAPER_METHODS:
        return PAPER_METHODS.index(name), method
    objective, _, detector = name.rpartition("+")
    known = detector in PAPER_METHODS and objective in OBJECTIVE_TITLES.values()
    return None if known else (len(PAPER_METHODS), method)


def method_order(method: str) -> tuple[int, str]:
    """Place of a method among rows that may also hold what the paper's tables do not have, which comes last."""
    return row_order(method) or (99, method)


def budget(epsilon: float) -> str:
    """As headings state it; 0 is clean."""
    return "clean" if epsilon == 0 else f"ε = {epsilon:g}/255"


def objective_order(objective: str) -> tuple[int, str]:
    """Place of an objective's title among the rows of Table 4; somebody's own come last."""
    name, titles = objective.split(" (")[0], list(OBJECTIVE_TITLES.values())
    return (titles.index(name) if name in titles else len(titles), objective)
