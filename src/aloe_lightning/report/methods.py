"""A method, a row of the paper's tables, is an objective and a detector."""

from aloe_lightning.records import Record

PAPER_METHODS = ("MSP", "ODIN", "Mahalanobis", "OE", "OE+ODIN", "ADV", "AOE", "ALOE", "ALOE+ODIN")
"""The rows of Tables 1 and 3, in order."""

DATASET_TITLES = {"gtsrb": "GTSRB", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
OBJECTIVE_TITLES = {"original": "Original", "oe": "OE", "adv": "ADV", "aoe": "AOE", "aloe": "ALOE"}
DETECTOR_TITLES = {"msp": "MSP", "odin": "ODIN", "mahalanobis": "Mahalanobis"}


def method_of(record: Record) -> str:
    """The method's name: the detector's on the original net, else the objective's, `+detector` unless it is MSP.

    A net whose training budget is not the evaluation's says so, as in `ALOE (trained at 1)`.
    """
    objective = OBJECTIVE_TITLES.get(record.objective, record.objective)
    detector = DETECTOR_TITLES.get(record.detector, record.detector)
    if record.objective == "original":
        name = detector
    else:
        name = objective if record.detector == "msp" else f"{objective}+{detector}"
    if record.train_epsilon not in (0, record.eval_epsilon):
        name += f" (trained at {record.train_epsilon:g})"
    return name


def row_order(method: str) -> tuple[int, str] | None:
    """Place of a method among the rows of a table; None for a combination that the paper's tables do not have."""
    name = method.split(" (")[0]
    return (PAPER_METHODS.index(name), method) if name in PAPER_METHODS else None
