"""What bands are called, and which band of a scene is which band of a model.

Common names are those of the STAC `eo` extension. A sensor's own names ("B8A", "SR_B5") mean
different bands on different sensors, so they are only understood when all names of a scene point
to one meaning, or when the sensor is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from geoseg.errors import BandError

__all__ = [
    "COMMON_NAMES",
    "SENSORS",
    "BandMatch",
    "band_names",
    "find_bands",
    "match_bands",
    "parse_bands",
    "sensor_named",
]

COMMON_NAMES: Mapping[str, float] = {
    "coastal": 0.443,
    "blue": 0.490,
    "green": 0.560,
    "red": 0.665,
    "rededge1": 0.705,
    "rededge2": 0.740,
    "rededge3": 0.783,
    "nir": 0.842,
    "nir08": 0.865,
    "nir09": 0.945,
    "cirrus": 1.375,
    "swir16": 1.610,
    "swir22": 2.190,
    "pan": 0.590,
    "lwir11": 10.9,
    "lwir12": 12.0,
}
"""Each common name and the wavelength it stands for, in micrometres."""

SYNONYMS: Mapping[str, str] = {
    "swir1": "swir16",
    "swir2": "swir22",
    "nearinfrared": "nir",
    "nir1": "nir",
    "nirbroad": "nir",
    "nirnarrow": "nir08",
    "coastalaerosol": "coastal",
    "shortwaveinfrared1": "swir16",
    "shortwaveinfrared2": "swir22",
    "panchromatic": "pan",
}

SENSORS: Mapping[str, Mapping[str, str]] = {
    "sentinel2": {
        "b1": "coastal",
        "b2": "blue",
        "b3": "green",
        "b4": "red",
        "b5": "rededge1",
        "b6": "rededge2",
        "b7": "rededge3",
        "b8": "nir",
        "b8a": "nir08",
        "b9": "nir09",
        "b10": "cirrus",
        "b11": "swir16",
        "b12": "swir22",
    },
    "landsat-tm": {  # Landsat 4 and 5 TM, Landsat 7 ETM+
        "b1": "blue",
        "b2": "green",
        "b3": "red",
        "b4": "nir",
        "b5": "swir16",
        "b6": "lwir11",
        "b7": "swir22",
        "b8": "pan",
    },
    "landsat-oli": {  # Landsat 8 and 9
        "b1": "coastal",
        "b2": "blue",
        "b3": "green",
        "b4": "red",
        "b5": "nir",
        "b6": "swir16",
        "b7": "swir22",
        "b8": "pan",
        "b9": "cirrus",
        "b10": "lwir11",
        "b11": "lwir12",
    },
    "naip": {"b1": "red", "b2": "green", "b3": "blue", "b4": "nir"},
}
"""A sensor's own band names, lower case without leading zeros, as common names."""

BAND_ORDERS: Mapping[str, Mapping[int, tuple[str, ...]]] = {
    "sentinel2": {
        4: ("blue", "green", "red", "nir"),
        12: tuple(name for b, name in SENSORS["sentinel2"].items() if b != "b10"),
        13: tuple(SENSORS["sentinel2"].values()),
    },
    "landsat-tm": {
        6: ("blue", "green", "red", "nir", "swir16", "swir22"),
        7: tuple(SENSORS["landsat-tm"].values())[:7],
    },
    "landsat-oli": {
        6: ("blue", "green", "red", "nir", "swir16", "swir22"),
        7: ("coastal", "blue", "green", "red", "nir", "swir16", "swir22"),
    },
    "naip": {3: ("red", "green", "blue"), 4: ("red", "green", "blue", "nir")},
}
"""The order in which files without band names are customarily stacked, by number of bands."""

INTERCHANGEABLE: Mapping[str, str] = {"nir": "nir08", "nir08": "nir"}
"""Bands that may stand in for one another when the wanted one is missing; said when done."""

WAVELENGTH_TOLERANCE = 0.04
"""A band with a wavelength within this share of a common name's is that band."""


@dataclass(frozen=True, slots=True)
class BandMatch:
    """Which bands of a scene a model reads."""

    indexes: tuple[int, ...]
    """1-based band numbers, in the model's order."""
    names: tuple[str, ...]
    """The common names they were matched by, in the model's order."""
    assumed: tuple[str, ...]
    """What was not written in the scene but taken for granted, a sentence each."""
    known: frozenset[int] = frozenset()
    """1-based numbers of all bands that are known to be spectral, wanted or not."""


def sensor_named(name: str) -> str:
    """The sensor key for what a person calls it ("Sentinel-2", "landsat8", "etm+").

    Raises:
        BandError: if no sensor is known by that name.
    """
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    families = {
        r"(sentinel)?s?2[abc]?|sentinel2.*": "sentinel2",
        r"(landsat|l[tec]?0?)[457]|landsattm|e?tm": "landsat-tm",
        r"(landsat|l[oc]?0?)[89]|landsatoli|oli": "landsat-oli",
        r"naip": "naip",
    }
    for pattern, sensor in families.items():
        if re.fullmatch(pattern, plain):
            return sensor
    raise BandError(f"sensor {name!r} is not known; known are {', '.join(SENSORS)}")


def parse_bands(text: str) -> dict[str, int]:
    """Read 'red=3,green=2' into {'red': 3, 'green': 2}.

    Raises:
        BandError: if the text is not of that form or a name is not a common name.
    """
    bands: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, number = part.partition("=")
        common = _common(name)
        if not equals or not re.fullmatch(r"\s*0*[1-9]\d{0,5}\s*", number):
            raise BandError(f"--bands: {part!r} is not NAME=NUMBER, such as red=3")
        if common is None:
            raise BandError(f"--bands: {name!r} is none of {', '.join(COMMON_NAMES)}")
        if common in bands:
            raise BandError(f"--bands: {common!r} is given twice")
        if int(number) in bands.values():
            raise BandError(f"--bands: band {int(number)} is given two names")
        bands[common] = int(number)
    if not bands:
        raise BandError("--bands: nothing given; write NAME=NUMBER,..., such as red=3,green=2")
    return bands


def match_bands(
    wanted: Sequence[str],
    *,
    count: int,
    descriptions: Sequence[str | None] = (),
    colours: Sequence[str | None] = (),
    wavelengths_um: Sequence[float | None] = (),
    told: Mapping[str, int] | None = None,
    sensor: str | None = None,
    or_else: Sequence[Sequence[str]] = (),
) -> BandMatch:
    """Find a model's bands in a scene.

    What a person told comes first, then band names, then wavelengths, then a told sensor's
    customary order, then colour interpretation. Nothing is ever taken by position alone.

    Args:
        wanted: the model's bands by common name, in its order.
        count: how many bands the scene has.
        descriptions: the scene's band names, None where it has none.
        colours: the scene's colour interpretations, lower case ("red", "gray").
        wavelengths_um: the scene's central wavelengths in micrometres.
        told: 1-based band numbers by common name, from `--bands`.
        sensor: a key of SENSORS, from `--sensor`.
        or_else: sets of bands that the model also manages with alone; where a wanted band is
            missing, the largest of them that the scene has is taken.

    Raises:
        BandError: naming what was found, what was wanted and the option that settles it.
    """
    found, remarks = find_bands(
        count=count,
        descriptions=descriptions,
        colours=colours,
        wavelengths_um=wavelengths_um,
        told=told,
        sensor=sensor,
    )
    for names in (wanted, *sorted(or_else, key=len, reverse=True)):
        stands_for = {name: _standing_for(name, found) for name in names}
        if None in stands_for.values():
            continue
        assumed = [
            f"{band} stands in for {name}" for name, band in stands_for.items() if band != name
        ]
        if len(names) < len(wanted):
            without = " ".join(name for name in wanted if name not in names)
            assumed.append(f"the model manages without {without}, at a cost")
        indexes = tuple(found[band] for band in stands_for.values() if band is not None)
        known = frozenset(found.values())
        return BandMatch(indexes, tuple(names), (*remarks, *assumed), known)
    raise BandError(_missing(wanted, or_else, found, count))


def _standing_for(name: str, found: Mapping[str, int]) -> str | None:
    """The band of a scene that is, or stands in for, a wanted one."""
    if name in found:
        return name
    stand_in = INTERCHANGEABLE.get(name)
    return stand_in if stand_in in found else None


def find_bands(
    *,
    count: int,
    descriptions: Sequence[str | None] = (),
    colours: Sequence[str | None] = (),
    wavelengths_um: Sequence[float | None] = (),
    told: Mapping[str, int] | None = None,
    sensor: str | None = None,
) -> tuple[dict[str, int], tuple[str, ...]]:
    """All bands of a scene that have a common name, by the rules and arguments of `match_bands`.

    Returns:
        1-based band numbers by common name, and what was assumed.

    Raises:
        BandError: as `match_bands`, but for bands that are missing.
    """
    if told is not None:
        for name, number in told.items():
            if name not in COMMON_NAMES:
                raise BandError(f"--bands: {name!r} is none of {', '.join(COMMON_NAMES)}")
            if not 1 <= number <= count:
                raise BandError(f"--bands: {name}={number}, but the scene has {count} bands")
        return dict(told), ()
    found = band_names(descriptions, wavelengths_um, sensor)
    if not found and sensor is not None:
        found = _by_order(sensor, count)
        return found, (f"bands taken in {sensor}'s customary order: {' '.join(found)}",)
    if not found:
        found = {c: i for i, c in enumerate(colours, 1) if c is not None and c in COMMON_NAMES}
    return found, ()


def band_names(
    descriptions: Sequence[str | None],
    wavelengths_um: Sequence[float | None] = (),
    sensor: str | None = None,
) -> dict[str, int]:
    """The common names that a scene's own metadata gives its bands, with 1-based numbers.

    Raises:
        BandError: if a name could mean several bands and no sensor was told.
    """
    return _named(descriptions, sensor) or _by_wavelength(wavelengths_um)


def _missing(
    wanted: Sequence[str], or_else: Sequence[Sequence[str]], found: Mapping[str, int], count: int
) -> str:
    have = " ".join(found) if found else f"{count} without names"
    every = sorted((wanted, *or_else), key=len)
    nearest = next((names for names in reversed(every) if len(names) <= count), every[0])
    lacking = ", ".join(name for name in nearest if name not in found)
    sets = ", or ".join(" ".join(names) for names in (wanted, *or_else))
    need = f"the model needs the bands {sets}, the scene has {have} (missing: {lacking})"
    if count < len(nearest):
        return f"{need}; {count} bands are too few, choose another model with --model"
    example = ",".join(f"{name}={i + 1}" for i, name in enumerate(nearest))
    return f"{need}; say which is which, such as --bands {example}, or name the --sensor"


def _common(name: str) -> str | None:
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    plain = SYNONYMS.get(plain, plain)
    return plain if plain in COMMON_NAMES else None


def _own_name(description: str) -> str | None:
    """'B08', 'SR_B5' and 'T32_B8A_10m' as 'b8', 'b5', 'b8a'; 'Band 4' is a number, no name."""
    match = re.search(r"(?:^|[^a-z])b0*(\d{1,2}a?)(?:$|[^0-9a-z])", description.lower())
    return f"b{match.group(1)}" if match else None


def _named(descriptions: Iterable[str | None], sensor: str | None) -> dict[str, int]:
    names = [text or "" for text in descriptions]
    common: dict[str, int] = {}
    for i, text in enumerate(names):
        if common_name := _common(text):
            common.setdefault(common_name, i + 1)
    if common:
        return common
    own: dict[str, int] = {}
    for i, text in enumerate(names):
        if own_name := _own_name(text):
            own.setdefault(own_name, i + 1)
    if not own:
        return {}
    meanings = {
        key: {table[own_name]: number for own_name, number in own.items()}
        for key, table in SENSORS.items()
        if sensor in (None, key) and all(b in table for b in own) and key != "naip"
    }
    distinct = {tuple(sorted(meaning.items())) for meaning in meanings.values()}
    if len(distinct) > 1:
        raise BandError(
            f"the band names {' '.join(filter(None, names))} mean different bands on "
            f"{' and '.join(meanings)}; say which with --sensor"
        )
    return next(iter(meanings.values()), {})


def _by_wavelength(wavelengths_um: Sequence[float | None]) -> dict[str, int]:
    found: dict[str, tuple[float, int]] = {}
    for i, wavelength in enumerate(wavelengths_um):
        if not wavelength:
            continue
        name, centre = min(COMMON_NAMES.items(), key=lambda item: abs(item[1] - wavelength))
        apart = abs(centre - wavelength) / centre
        if apart <= WAVELENGTH_TOLERANCE and apart < found.get(name, (1.0, 0))[0]:
            found[name] = (apart, i + 1)
    return {name: number for name, (_, number) in found.items()}


def _by_order(sensor: str, count: int) -> dict[str, int]:
    orders = BAND_ORDERS[sensor]
    if count not in orders:
        known = ", ".join(map(str, orders))
        raise BandError(
            f"files of {sensor} are customarily stacked with {known} bands, this one has {count}; "
            "say which is which with --bands NAME=NUMBER,..."
        )
    return {name: i + 1 for i, name in enumerate(orders[count])}
