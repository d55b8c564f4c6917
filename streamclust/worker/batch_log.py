"""What the log has of a batch: gaps of the streams, and what the batch has changed in the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.store.stream.gaps import gap_words

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from streamclust.formats.checkpoint import Checkpoint
    from streamclust.online.learner import Info, LearnerState
    from streamclust.store.stream.batches import Batch


class BatchLog:
    """Logs the batches of one model.

    Parameters
    ----------
    log : structlog logger
    """

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._logged_reason = ""

    def learned(self, info: Info, after: LearnerState[Any]) -> None:
        """Log what a batch has changed in the model."""
        log = self._log
        if info.phase == "started":
            log.info("warm_up_finished", points=info.points)
        if info.drifted:
            log.warning("drift_detected", points=after.points)
        if info.born or info.died:
            born, died = list(info.born), list(info.died)
            log.info("components_changed", born=born, died=died, n_components=len(after.ids))
        if info.reclustered:
            log.info("model_reclustered", points=after.points)
        if info.revived:
            log.info("components_revived", components=list(info.revived))
        is_new = info.phase == "warming" and info.reason != self._logged_reason
        if is_new and not info.reason.endswith(" warm-up points"):
            self._logged_reason = info.reason
            log.warning("warm_up_delayed", reason=info.reason)

    def read(self, batch: Batch, before: Checkpoint) -> None:
        """Log gaps, and the features that the first entry has named if values may be missing."""
        layout = batch.layout
        if before.layout is None and layout is not None and layout.learns_missing and layout.strict:
            self._log.warning("features_of_first_entry", features=list(layout.features))
        for gap in batch.gaps:
            event, fields = gap_words(gap)
            self._log.warning(event, stream=gap.stream, after=gap.after, **fields)
