"""The replies and the events of the API, as types: the source of the description at /openapi.json.

Lists of equal length in one object are columns of a table. Times end in ``_ms`` (milliseconds since
1970) and durations in ``_s``. None stands for a value that is unknown or doesn't exist.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Number = float | None
Whole = int | None
Text = str | None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Fault(_Strict):
    """What is wrong with a request."""

    code: str
    message: str
    field: Text = Field(description="The part of the request that is wrong, as in points[3][1].")


class Error(_Strict):
    """The reply to a request that failed."""

    error: Fault


class Server(_Strict):
    """Whether the server of the models answers."""

    label: str
    state: Literal["starting", "ok", "retrying"]
    error: Text
    since_ms: int


class Lost(_Strict):
    """Entries that were removed before the worker read them."""

    entries: int
    unknown: int = Field(description="Gaps of unknown size.")


class WarmUp(_Strict):
    """Points of an unfinished warm-up."""

    points: int
    of: int = Field(description="Number of points that ends the warm-up; 0 if unknown.")


class Paused(_Strict):
    """The pause of a model."""

    since_ms: Whole
    by: str
    reason: str = Field(description="Empty without a reason.")


class Row(_Strict):
    """The figures of one model."""

    name: str = Field(description="Identity of the model; it may hold any characters.")
    label: str = Field(description="The name made printable.")
    group: str = Field(description="Template of the model, or its name.")
    phase: str = Field(
        description="failed, stalled, damaged, stopped, paused, warming or learning."
    )
    failed: bool
    reason: Text
    waiting: list[str]
    worker: Text
    kind: Text
    n_components: Whole
    n_features: Whole
    version: Whole
    model_id: Whole
    published_ms: Whole
    event_time_ms: Number = Field(description="Event time of the newest point.")
    points: Whole
    rate: Number = Field(description="Points per second.")
    lag: Whole = Field(description="Stream entries that are not learned yet.")
    lost: Lost | None
    dead: Whole
    alerts: Whole
    drifts: Whole
    score: Number
    score_name: Text = Field(description="inertia (lower is better) or log_likelihood (higher).")
    warm_up: WarmUp | None
    paused: Paused | None = Field(
        description="Not null while the worker still learns: it pauses after its current batch."
    )
    scores: list[float] = Field(description="The newest scores, oldest first.")


class Totals(_Strict):
    """Sums over models."""

    models: int
    failed: int
    stopped: int
    points: int
    rate: float
    lag: int
    lost: int
    dead: int
    alerts: int


class Group(Totals):
    """Sums over the models of a template."""

    name: str
    label: str


class ModelList(_Strict):
    """A part of the models, and sums over all that match."""

    time_ms: int
    snapshot_ms: Whole = Field(description="Time of the figures; null before the first reading.")
    server: Server
    total: int
    matched: int
    offset: int
    phases: dict[str, int]
    totals: Totals
    groups: list[Group]
    models: list[Row]


class Worker(_Strict):
    """The report of a live worker."""

    host: str
    pid: int
    release: str
    started_ms: int
    models: int
    held: int
    awake: int
    asleep: int
    waiting: int
    failed: int
    stalled: int
    paused: int


class ActionsAllowed(_Strict):
    """The actions that the server permits."""

    allowed: bool
    kinds: list[str]


class Limits(_Strict):
    """Limits of requests per client and minute, and of the size of one request."""

    requests_per_minute: int
    predict_body_bytes: int
    predict_points: int
    predict_per_minute: int


class ServerReport(_Strict):
    """The server, its workers, and what this API permits."""

    release: str
    time_ms: int
    namespace: str
    server: Server
    product: Text
    memory_bytes: Whole
    memory_limit_bytes: Whole
    clients: Whole
    uptime_s: Whole
    workers: list[Worker] | None
    actions: ActionsAllowed
    limits: Limits
    visitors: int


class Loading(_Strict):
    """The part of a feature in an axis."""

    feature: str
    value: float


class Axis(_Strict):
    """An axis of the plane."""

    label: str
    loadings: list[Loading]


class Projection(_Strict):
    """The plane in which the model is drawn."""

    id: str = Field(description="Coordinates of different planes can't be compared.")
    kind: Literal["principal", "features"]
    axes: list[Axis | None]
    share: list[float] = Field(description="Part of the variance along each axis.")


class Components(_Strict):
    """The components as columns; xx, xy and yy are their covariances in the plane."""

    id: list[int]
    x: list[Number]
    y: list[Number]
    weight: list[Number] = Field(description="Share of the mass, from 0 to 1.")
    mass: list[Number] = Field(description="Effective number of points.")
    xx: list[Number] | None
    xy: list[Number] | None
    yy: list[Number] | None


class Codebook(_Strict):
    """How evenly the components are used."""

    n_codes: int
    perplexity: float
    dead: int
    near_dead: int
    largest_share: float


class Version(_Strict):
    """A version of the model in the plane."""

    version: int
    model_id: Whole
    reason: str
    published_ms: Whole
    event_time_ms: Number
    points: int
    score: Number
    score_name: str
    n_components: int
    effective_weight: float
    projection: Projection
    components: Components
    covariance_source: Literal["model", "points"] | None
    means: list[list[Number]] | None = Field(description="Null if there are many values.")
    swatches: list[str] | None = Field(description="Colours, if the means look like RGB values.")
    codebook: Codebook
    arrays: dict[str, list[object] | object] | None = Field(
        default=None, description="The stored arrays; only with arrays=1."
    )


class Points(_Strict):
    """Points of the stream as columns, oldest first."""

    id: list[str]
    time_ms: list[int]
    x: list[Number]
    y: list[Number]
    code: list[int]
    score: list[Number]


class Trails(_Strict):
    """The centres of components over versions; null for `id` stands for 0 to K - 1."""

    version: list[int]
    published_ms: list[Whole]
    id: list[list[int]] | None
    x: list[list[Number]]
    y: list[list[Number]]
    complete: bool


class History(_Strict):
    """Facts of the stored versions as columns, oldest first."""

    version: list[int]
    published_ms: list[Whole]
    points: list[int]
    score: list[Number]
    reason: list[str]
    n_components: list[int]


class Event(_Strict):
    """An event in the life of the model."""

    kind: str
    version: Whole
    time_ms: Whole
    points: Whole
    ids: list[int] | None
    text: str


class Letter(_Strict):
    """A point that the model refused."""

    id: str
    stream: str
    entry: str
    index: int = Field(description="Place of the point in the entry; -1 for the whole entry.")
    reason: str
    data: str
    time_ms: Whole


class Reason(_Strict):
    """A reason, and the number of the newest dead letters that have it."""

    reason: str
    count: int


class Dead(_Strict):
    """The dead letters."""

    count: int
    stored: int
    letters: list[Letter]
    reasons: list[Reason]


class Share(_Strict):
    """The part of a feature in the score of a point."""

    feature: str
    share: Number
    value: Number
    expected: Number


class Alert(_Strict):
    """A point that was flagged as an anomaly."""

    alert: int
    stream: str
    id: str
    index: int
    time_ms: int
    event_time_ms: int
    code: int
    score: Number
    quantile: Number
    version: int
    model_id: Whole = None
    top: list[Share]
    labels: dict[str, str]


class Alerts(_Strict):
    """The newest alerts, newest first."""

    count: int
    newest: list[Alert]


class Detail(_Strict):
    """All data that the page of a model shows."""

    row: Row
    server: Server
    features: list[str]
    named: bool
    metric: Text
    covariance_type: Text
    model: Version | None
    points: Points | None
    points_error: Text
    trails: Trails | None
    history: History
    events: list[Event]
    dead: Dead
    alerts: Alerts | None
    last_event_id: str


class VersionRow(_Strict):
    """Facts of a stored version."""

    version: int
    model_id: Whole
    published_ms: Whole
    event_time_ms: Number
    points: Whole
    reason: Text
    score: Number
    n_components: Whole
    effective_weight: Number
    error: Text


class Versions(_Strict):
    """The stored versions, newest first."""

    versions: list[VersionRow]
    oldest: int
    newest: Whole


class Pairs(_Strict):
    """Pairs of components of both versions, as columns."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    from_: list[int] = Field(alias="from")
    to: list[int]
    distance: list[Number]
    weight_from: list[Number]
    weight_to: list[Number]


class Difference(_Strict):
    """How components moved between two versions."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    from_: int = Field(alias="from")
    to: int
    points_between: int
    seconds_between: Number
    score: list[Number]
    score_name: str
    pairs: Pairs
    born: list[int]
    died: list[int]
    matching: Literal["ids", "places", "assignment"]


class PredictRequest(_Strict):
    """Points to predict."""

    points: list[list[Number] | dict[str, Number]] = Field(
        description="Each point is a list of numbers, or an object by the names of the features. "
        "Null is a missing value, if the model learns points with missing values."
    )
    version: Whole = Field(default=None, description="Default: the newest one.")
    top: int = Field(default=3, ge=0, le=20, description="Features per point in the attribution.")


class Prediction(_Strict):
    """The component and the score of each point."""

    model: str
    version: int
    model_id: Whole
    codes: list[int]
    scores: list[Number]
    score_name: Literal["squared_distance", "one_minus_cosine", "log_density", "tail_score"]
    attribution: list[list[Share]] | None
    quantiles: list[Number] | None


class RollbackRequest(_Strict):
    """The version to publish again."""

    version: int


class RequeueRequest(_Strict):
    """The dead letters to requeue."""

    reason: str = Field(default="", description="Only letters whose reason has this text.")


class PauseRequest(_Strict):
    """The reason of a pause."""

    reason: str = Field(default="", description="A text for others, up to 200 characters.")


class ResumeRequest(_Strict):
    """The end of a pause has no options."""


class RefitRequest(_Strict):
    """A refit has no options."""


class Action(_Strict):
    """An action that runs or has ended."""

    id: str
    kind: str
    model: str
    state: Literal["running", "done", "failed"]
    message: str
    started_ms: int
    ended_ms: Whole


class Overview(_Strict):
    """The event `overview` of api/updates."""

    time_ms: int
    server: Server
    total: int
    phases: dict[str, int]
    totals: Totals
    changed: list[Row]
    removed: list[str]
    many: bool = Field(description="Too many rows have changed; read api/models again.")


class DeadEvent(_Strict):
    """The event `dead`."""

    count: int
    letters: list[Letter]


class Reset(_Strict):
    """The event `reset`: read everything again."""

    reason: Literal["projection", "model", "missed", "deleted"]


class Beat(_Strict):
    """The event `beat`: the connection lives."""

    time_ms: int


OVERVIEW_EVENTS: dict[str, type[BaseModel]] = {"overview": Overview, "beat": Beat}
MODEL_EVENTS: dict[str, type[BaseModel]] = {
    "version": Version,
    "points": Points,
    "status": Row,
    "event": Event,
    "dead": DeadEvent,
    "alert": Alert,
    "action": Action,
    "reset": Reset,
    "server": Server,
    "beat": Beat,
}
"""The events of both streams of updates, by their names."""
