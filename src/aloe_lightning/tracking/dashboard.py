"""The W&B workspace and report of a project."""

from collections.abc import Iterator
from typing import Any

from aloe_lightning.errors import UserError

DETECTORS = {"msp": "MSP", "odin": "ODIN"}
CURVES = {
    "loss": "Loss",
    "lr": "Learning rate",
    "inlier_accuracy_clean": "Accuracy on clean inliers",
    "inlier_accuracy_adversarial": "Accuracy on perturbed inliers",
    "inlier_confidence_clean": "Confidence on clean inliers",
    "outlier_confidence_adversarial": "Confidence on perturbed outliers",
}
VALIDATION = {
    "Accuracy, validation": ["val/accuracy"],
    "AUROC, validation, clean and attacked": ["val/auroc_clean", "val/auroc_attacked"],
}
"""Curves of runs with `validation.every_n_epochs`."""
METHOD = "objective/name"


def create(project: str, entity: str | None = None) -> Iterator[str]:
    """Save workspace and report for the account that is logged in, and yield their addresses.

    Raises:
        UserError: if the library or a login is missing, or W&B refuses.
    """
    _library()
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise UserError("nobody is logged in: run `wandb login`, or set WANDB_API_KEY")
    try:
        entity = entity or str(wandb.Api().default_entity)
        for page in (workspace(entity, project), report(entity, project)):
            page.save()
            yield page.url
    except (wandb.Error, OSError, ValueError) as error:
        raise UserError(f"W&B refuses the dashboard: {str(error).splitlines()[0]}") from error


def workspace(entity: str, project: str) -> Any:
    """Build the workspace: runs by sweep and method, results first, training curves after."""
    wr, ws = _library()
    sections = [
        ws.Section(name=name, panels=panels, is_open=name != "Training") for name, panels in panels_of(wr).items()
    ]
    settings = ws.RunsetSettings(groupby=[ws.Metric("Group"), ws.Config(METHOD)])
    return ws.Workspace(
        entity=entity, project=project, name="Robust OOD detection", sections=sections, runset_settings=settings
    )


def report(entity: str, project: str) -> Any:
    """Build the same as a page that can be shared."""
    wr, _ = _library()
    text = "Every number is of one run of aloe_lightning; attacked means both sides under Algorithm 1."
    blocks = [wr.TableOfContents(), wr.P(text=text)]
    for name, panels in panels_of(wr).items():
        runs = wr.Runset(entity=entity, project=project, name="Runs")
        blocks += [wr.H2(text=name), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(
        entity=entity,
        project=project,
        title="Robust out-of-distribution detection",
        description="Methods under attack: the paper's tables and curves from the runs of this project.",
        blocks=blocks,
        width="fluid",
    )


def panels_of(wr: Any) -> dict[str, list[Any]]:
    """Return panels by section, given the library: results against the budget and of each run, training curves."""
    budget_panels, bars = [], []
    for detector, title in DETECTORS.items():
        for metric, name in (("auroc", "AUROC ↑"), ("fpr95", "FPR95 ↓")):
            heading = f"{title}: attacked {name} against epsilon"
            attacked = wr.SummaryMetric(f"result/{detector}/{metric}_attacked")
            budget_panels.append(wr.ScatterPlot(title=heading, x=wr.Config("eval_epsilon"), y=attacked))
        metrics = [f"result/{detector}/auroc_{condition}" for condition in ("clean", "attacked")]
        heading = f"{title}: AUROC clean and with both sides attacked"
        bars.append(wr.BarPlot(title=heading, metrics=metrics, groupby=METHOD, groupby_aggfunc="mean"))
    accuracies = ["result/accuracy_clean", "result/accuracy_attacked"]
    bars.append(wr.BarPlot(title="Accuracy clean and under PGD", metrics=accuracies, groupby=METHOD))
    return {
        "Against the budget": budget_panels,
        "Clean and attacked": bars,
        "Scores": [wr.MediaBrowser(title="Scores of OE and ALOE", media_keys=["result/scores"])],
        "Tables": [wr.WeavePanelSummaryTable(table_name="result/table")],
        "Training": [
            wr.LinePlot(title=title, x="trainer/global_step", y=names, groupby=METHOD)
            for title, names in {**{CURVES[name]: [f"train/{name}"] for name in CURVES}, **VALIDATION}.items()
        ],
    }


def _library() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError("the dashboard requires a library: pip install 'aloe-lightning[dashboards]'") from error
    return wr, ws
