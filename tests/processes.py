"""Commands in processes of their own, without the 8 seconds in which a new interpreter imports everything.

A server process, started once, imports the package; each command is a fork of it.
"""

import multiprocessing
import os
import signal
import sys
from functools import cache

multiprocessing.set_forkserver_preload(["aloe_lightning.cli.main", "aloe_lightning.run"])


def started(words, folder, prepare=None):
    """Start `python -m aloe_lightning WORDS`, without figures; `prepare` is called first, in the new process."""
    return forked(_command, list(words), prepare, folder=folder)


def forked(function, *arguments, folder):
    """Call a function of a module in a process of its own, with what it prints in `folder/log`.

    Returns:
        The `multiprocessing.Process`; its working directory is the folder.
    """
    _wait_for_server()
    return _start(_run, function, arguments, folder, dict(os.environ))


def exit_code(process, seconds=240):
    """Return the exit code of a process after its end; None if it runs on."""
    process.join(seconds)
    return process.exitcode


def ask_amid_training():
    """Let this process receive SIGTERM after its fifth step."""
    from aloe_lightning.training.callbacks import StateSaver

    end_step = StateSaver.on_train_batch_end

    def asked(self, trainer, *rest):
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        end_step(self, trainer, *rest)

    StateSaver.on_train_batch_end = asked


def _start(function, *arguments):
    process = multiprocessing.get_context("forkserver").Process(target=function, args=arguments)
    process.start()
    return process


@cache
def _wait_for_server():
    """Wait until everything is imported, so that a process takes the same time whether or not it is the first."""
    exit_code(_start(int))


def _run(function, arguments, folder, environment):
    os.chdir(folder)
    os.environ.update(environment)
    with open("log", "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    function(*arguments)


def _command(words, prepare):
    from aloe_lightning.cli.main import main
    from aloe_lightning.report import reports

    sys.argv = ["aloe_lightning"]
    reports.score_figure = lambda *_: None
    reports.save_figure = lambda *_: []
    if prepare is not None:
        prepare()
    main(words)
