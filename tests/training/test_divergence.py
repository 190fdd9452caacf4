"""A training that diverges stops with its batch saved, also between two logged steps."""

from pathlib import Path

import pytest
import torch

from aloe_lightning.errors import UserError
from aloe_lightning.nets import SmallNet
from aloe_lightning.storage.divergence import require_finite_weights
from test_end_to_end import TINY

DIVERGING = ("objective=oe", *TINY, "optim.lr=1e30")


def test_the_batch_and_the_weights_are_saved_and_the_message_says_what_to_do(command, capsys):
    with pytest.raises(SystemExit) as end:
        command(*DIVERGING, "trainer.max_steps=4", "paths.outputs=outputs")
    outputs = Path("outputs")
    assert end.value.code == 2
    printed = " ".join(capsys.readouterr().err.split())
    (file,) = outputs.absolute().glob("models/demo-oe-*/diverged.pt")
    assert f"the batch and the weights are in {file}" in printed
    assert "lower optim.lr, limit the gradients with trainer.gradient_clip_val=1, or set trainer.precision" in printed
    saved = torch.load(file, weights_only=True)
    assert (saved["inliers"].shape, saved["outliers"].shape) == ((32, 3, 32, 32), (64, 3, 32, 32))
    assert saved["labels"].shape == (32,)
    assert not torch.isfinite(torch.tensor(saved["loss"]))
    net = SmallNet(10, width=8)
    assert saved["weights"].keys() == net.state_dict().keys()
    assert not list(outputs.glob("models/demo-oe-*/weights.safetensors"))


def test_weights_that_are_not_finite_are_never_stored_although_no_step_was_logged(command, capsys):
    with pytest.raises(SystemExit) as end:
        command(*DIVERGING, "trainer.max_steps=4", "trainer.log_every_n_steps=1000", "paths.outputs=unlogged")
    assert end.value.code == 2
    assert "it ended with weights that are not finite" in " ".join(capsys.readouterr().err.split())
    assert not list(Path("unlogged").glob("models/*/weights.safetensors"))


@pytest.mark.parametrize("name", ["fc.weight", "bn1.running_var"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_single_value_is_enough(name, value):
    net = SmallNet(4, width=8)
    require_finite_weights(net)
    state = net.state_dict()
    key = name if name in state else next(key for key in state if key.endswith(name.rpartition(".")[2]))
    state[key].view(-1)[1] = value
    with pytest.raises(UserError, match="not finite"):
        require_finite_weights(net)
