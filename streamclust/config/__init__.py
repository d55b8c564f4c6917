"""Settings: declared once, read from a file, the environment and flags."""

from streamclust.config.learning import (
    CentroidsGiven,
    FileGiven,
    ForgettingByPoints,
    ForgettingByPower,
    ForgettingByTime,
    ForgettingSettings,
    MixtureGiven,
    NoForgetting,
    WarmUp,
)
from streamclust.config.load import load_settings
from streamclust.config.model import (
    BatchSettings,
    CommitSettings,
    DeadSettings,
    EncodeSettings,
    GaussianMixtureSettings,
    KMeansSettings,
    ModelSettings,
    PointsSettings,
    PublishSettings,
    RefitSettings,
)
from streamclust.config.settings import LogSettings, RedisSettings, Settings, WorkerSettings

__all__ = [
    "BatchSettings",
    "CentroidsGiven",
    "CommitSettings",
    "DeadSettings",
    "EncodeSettings",
    "FileGiven",
    "ForgettingByPoints",
    "ForgettingByPower",
    "ForgettingByTime",
    "ForgettingSettings",
    "GaussianMixtureSettings",
    "KMeansSettings",
    "LogSettings",
    "MixtureGiven",
    "ModelSettings",
    "NoForgetting",
    "PointsSettings",
    "PublishSettings",
    "RedisSettings",
    "RefitSettings",
    "Settings",
    "WarmUp",
    "WorkerSettings",
    "load_settings",
]
