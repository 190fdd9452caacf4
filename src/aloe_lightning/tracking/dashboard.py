"""`python -m aloe_lightning.tracking`: creates the W&B workspace and report of a project."""

import argparse
import sys
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
METHOD = "objective/name"


def result_panels(wr: Any) -> dict[str, list[Any]]:
    """Return sections of panels: scores against the budget, clean against attacked, figures and tables of each run."""
    budget_panels, bars = [], []
    for detector, title in DETECTORS.items():
        for metric, name in (("auroc", "AUROC ↑"), ("fpr95", "FPR95 ↓")):
            attacked = wr.SummaryMetric(f"result/{detector}/mean/both/{metric}")
            budget_panels.append(
                wr.ScatterPlot(
                    title=f"{title}: attacked {name} against epsilon", x=wr.Config("eval_epsilon"), y=attacked
                )
            )
        bars.append(
            wr.BarPlot(
                title=f"{title}: AUROC clean, either side attacked, both",
                metrics=[f"result/{detector}/mean/{side}/auroc" for side in ("none", "id", "ood", "both")],
                groupby=METHOD,
                groupby_aggfunc="mean",
            )
        )
    accuracy = wr.BarPlot(
        title="Accuracy clean and under PGD", metrics=["result/accuracy", "result/id/accuracy"], groupby=METHOD
    )
    return {
        "Against the budget": budget_panels,
        "Clean and attacked": [*bars, accuracy],
        "Scores": [wr.MediaBrowser(title="Scores of OE and ALOE", media_keys=["result/scores"])],
        "Tables": [wr.WeavePanelSummaryTable(table_name="result/tables")],
    }


def curve_panels(wr: Any) -> list[Any]:
    """Return training curves, a line for each method."""
    return [
        wr.LinePlot(title=title, x="trainer/global_step", y=[f"train/{name}"], groupby=METHOD)
        for name, title in CURVES.items()
    ]


def workspace(entity: str, project: str) -> Any:
    """Build the workspace: runs by sweep and method, results first, training curves after."""
    wr, ws = _library()
    sections = [
        *(ws.Section(name=name, panels=panels, is_open=True) for name, panels in result_panels(wr).items()),
        ws.Section(name="Training", panels=curve_panels(wr)),
    ]
    settings = ws.RunsetSettings(groupby=[ws.Metric("Group"), ws.Config(METHOD)])
    return ws.Workspace(
        entity=entity, project=project, name="Robust OOD detection", sections=sections, runset_settings=settings
    )


def report(entity: str, project: str) -> Any:
    """Build the same as a page that can be shared."""
    wr, _ = _library()
    blocks: list[Any] = [
        wr.TableOfContents(),
        wr.P(text="Every number is of one run of aloe_lightning; attacked means both sides under Algorithm 1."),
    ]
    for name, panels in {**result_panels(wr), "Training": curve_panels(wr)}.items():
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


def _library() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError("the dashboard requires a library: pip install 'aloe-lightning[dashboards]'") from error
    return wr, ws


def main(arguments: list[str] | None = None) -> int:
    """Create both for the account that is logged in; returns 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m aloe_lightning.tracking",
        description="Create the W&B workspace and report of a project whose runs were logged with logger=wandb. "
        "Requires `wandb login` and the extra [dashboards].",
    )
    parser.add_argument("--project", default="aloe_lightning", help="as logger.project has it (default: %(default)s)")
    parser.add_argument("--entity", help="user or team (default: yours)")
    chosen = parser.parse_args(arguments)
    try:
        _library()
        import wandb

        if not wandb.login(prompt=False, verify=False):
            raise UserError("nobody is logged in: run `wandb login`, or set WANDB_API_KEY")
        try:
            entity = str(chosen.entity or wandb.Api().default_entity)
            for page in (workspace(entity, chosen.project), report(entity, chosen.project)):
                page.save()
                print(page.url)
        except (wandb.Error, OSError, ValueError) as error:
            raise UserError(f"W&B refuses the dashboard: {str(error).splitlines()[0]}") from error
    except UserError as error:
        print(f"aloe_lightning.tracking: error: {error}", file=sys.stderr)
        return 2
    return 0
