"""The whole demonstration: feed, learn, compare, draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamclust.demo.baseline import fit_baselines
from streamclust.demo.feeds import load_feeds, require_extras
from streamclust.demo.learning import learn
from streamclust.demo.report import Report, make_report, save_report
from streamclust.demo.sandbox import CONFIG_FILE, LOG_FILE, open_sandbox
from streamclust.errors import ConfigError
from streamclust.files import check_target, without_links

if TYPE_CHECKING:
    from pathlib import Path

    from streamclust.demo.interrupts import Interrupts
    from streamclust.demo.plan import Plan
    from streamclust.demo.view import View

REPORT_FILE = "report.json"


@dataclass(frozen=True)
class Outcome:
    """The results of the demonstration.

    Parameters
    ----------
    report : Report
    files : tuple of Path
        All files that were written.
    """

    report: Report
    files: tuple[Path, ...]


def run_demo(plan: Plan, out: Path, view: View, interrupts: Interrupts) -> Outcome:
    """Feed, learn, compare and draw; write the files to `out`.

    Raises
    ------
    StreamclustError
        If an extra is missing, `out` can't be written, or the worker fails.
    """
    require_extras()
    _make_folder(out)
    view.say("Starting a server and a worker process")
    with open_sandbox(plan, out, interrupts) as sandbox:
        view.say("Loading two photographs (scikit-learn) and the Shuttle data (river)")
        feeds = load_feeds(plan)
        learned = learn(sandbox, feeds, view, interrupts)
    baselines = fit_baselines(plan, feeds, view)
    report = make_report(plan, feeds, learned, baselines)
    with view.working("Drawing the pictures"):
        from streamclust.demo.plots import draw

        drawn = draw(feeds, learned, baselines, out)
    saved = save_report(report, out / REPORT_FILE)
    return Outcome(report, (*drawn, saved, out / CONFIG_FILE, out / LOG_FILE))


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with open(out / LOG_FILE, "ab", opener=without_links):
            pass
        for file in (out / REPORT_FILE, out / CONFIG_FILE, *out.glob("*.png")):
            check_target(file)  # before the long part
    except OSError as error:
        raise ConfigError(
            f"--out: can't write to {out} ({error.strerror}); name a writable folder"
        ) from None
