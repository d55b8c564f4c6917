"""The codecs of the entry formats; see `common.Codec`."""

from streamclust.formats.codecs import fields, json_text, raw
from streamclust.formats.codecs.common import Codec

CODECS: dict[str, Codec] = {
    "fields": fields.CODEC,
    "json": json_text.CODEC,
    "float32": raw.CODEC,
    "float64": raw.CODEC,
}
