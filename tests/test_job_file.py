"""Job files: what is right is read, what is wrong is said in a line."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_jobs import write_job

from geoseg.errors import InputError
from geoseg.jobs.job_file import Job, job_schema, load_job
from geoseg.jobs.name_pattern import NamePattern
from geoseg.jobs.pairing import DatedScene, PairingRule, first_of_each, pair_scenes


def test_paths_are_relative_to_the_job_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_job(tmp_path, area="area.gpkg", feed="alerts.xml")
    monkeypatch.chdir("/")
    job = load_job(path)
    assert job.scenes == str(tmp_path / "in")
    assert job.output == str(tmp_path / "out")
    assert job.ledger == str(tmp_path / "out/ledger.gpkg")
    assert job.area == str(tmp_path / "area.gpkg")
    assert job.feed == (str(tmp_path / "alerts.xml"),)


def test_the_name_is_the_files_unless_told(tmp_path: Path) -> None:
    path = write_job(tmp_path)
    path.write_text(path.read_text().replace("name: lake\n", ""))
    assert load_job(path.rename(tmp_path / "my lake.yaml")).name == "my_lake"


def test_secrets_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_job(tmp_path, webhook="$HOOK", ledger="$LEDGER")
    with pytest.raises(InputError, match="LEDGER is not set"):
        load_job(path)
    monkeypatch.setenv("HOOK", "https://example.org/secret")
    monkeypatch.setenv("LEDGER", "postgresql://host/db")
    job = load_job(path)
    assert (job.webhook, job.ledger) == ("https://example.org/secret", "postgresql://host/db")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"max_clouds": 0.1}, "unknown key 'max_clouds'; did you mean 'max_cloud'?"),
        ({"form": ["trees"]}, "unknown key 'form'; did you mean 'from'?"),
        ({"zzzzzz": 1}, "unknown key 'zzzzzz'; known are name, scenes"),
        ({"from_classes": ["trees"]}, "unknown key 'from_classes'"),
        ({"max_cloud": 2}, "max_cloud: Input should be less than or equal to 1"),
        ({"method": "magic"}, "method: Input should be 'model', 'irmad' or 'cva'"),
        ({"pattern": "lake.tif"}, "must hold one date"),
        ({"pattern": "{date:%Y}.tif"}, "must say year, month and day"),
        ({"pattern": "{date:%Y%b%d}.tif"}, "must say year, month and day"),
        ({"compare_with": "baseline"}, "belong together"),
        ({"baseline": "b.tif"}, "belong together"),
        ({"scenes": None}, "say where scenes arrive"),
        ({"name": "../up"}, "may hold letters"),
        ({"webhook": "ftp://x"}, "webhook must be"),
        ({"feed": "alerts.csv"}, "must end in"),
        ({"from": "trees"}, "cva knows none"),
        ({"name": "", "ledger": "shared.gpkg"}, "name: is missing; with ledger:"),
        ({"retries": -1}, "retries: Input should be greater"),
        ({"alert_area_ha": float("nan")}, "alert_area_ha: Input should be"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=r"job\.yaml") as caught:
        load_job(write_job(tmp_path, **keys))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("output: out\noutput: other\n", "line 2 says 'output' a second time"),
        ("output: [", "is not YAML"),
        ("just words", "holds no keys"),
        ("output: out\nbaseline_date: 2024-02-30\n", "holds what is no value: day"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("scenes: in\npattern: '{date:%Y%m%d}.tif'\n", "the key 'output' is missing"),
    ],
)
def test_files_that_are_no_job_files(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_job(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_results_may_be_called_as_a_model_is(tmp_path: Path) -> None:
    (tmp_path / "landcover").mkdir()
    assert load_job(write_job(tmp_path, method="model", output="landcover")).model == "landcover"
    (tmp_path / "landcover/card.json").write_text("{}")
    loaded = load_job(write_job(tmp_path, method="model"))
    assert loaded.model == str(tmp_path / "landcover")


def test_the_schema_knows_every_key_and_says_what_it_is_for() -> None:
    schema = job_schema()
    json.dumps(schema)
    keys = {field.alias or name for name, field in Job.model_fields.items()}
    assert schema["properties"].keys() == keys
    assert schema["additionalProperties"] is False
    assert all(each["description"] for each in schema["properties"].values())


@given(st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31)))
def test_dates_are_found_again(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    for pattern, name in {
        "lake_{date:%Y%m%d}.tif": f"lake_{moment:%Y%m%d}.tif",
        "**/S2?_{date:%Y-%j}_*.tif": f"a/b/S2A_{moment:%Y-%j}_x.tif",
        "*_{date:%d.%m.%Y}.tif": f"x_{moment:%d.%m.%Y}.tif",
    }.items():
        found = NamePattern(pattern).date_in(name)
        assert found is not None
        assert found.date() == moment.date()
    exact = NamePattern("{date:%Y%m%dT%H%M%S}.tif").date_in(f"{moment:%Y%m%dT%H%M%S}.tif")
    assert exact == moment.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    ["lake_2020010.tif", "lake_20200101.tif.part", "lake_20200101_tif", "x/lake_20200101.tif"],
)
def test_names_that_do_not_fit(name: str) -> None:
    assert NamePattern("lake_{date:%Y%m%d}.tif").date_in(name) is None


DAYS = st.integers(0, 900).map(lambda n: datetime(2019, 1, 1, tzinfo=UTC) + timedelta(days=n))
SCENES = st.lists(
    st.builds(DatedScene, DAYS, st.sampled_from("abcdef"), st.sampled_from("12345678")), max_size=12
)


@given(SCENES, st.randoms())
def test_pairs_depend_on_the_set_alone(scenes: list[DatedScene], random: Any) -> None:
    distinct = first_of_each(scenes)
    shuffled = list(scenes)
    random.shuffle(shuffled)
    assert first_of_each(shuffled) == distinct
    assert {each.sha256 for each in distinct} == {each.sha256 for each in scenes}
    for kind in ("previous", "same_season"):
        rule = PairingRule(kind)  # type: ignore[arg-type]
        assert pair_scenes(first_of_each(shuffled), rule) == pair_scenes(distinct, rule)


@given(SCENES)
def test_each_scene_is_compared_with_the_one_before(scenes: list[DatedScene]) -> None:
    distinct = first_of_each(scenes)
    pairs = pair_scenes(distinct, PairingRule())
    assert [after for after, _ in pairs] == sorted(distinct)
    for after, before in pairs:
        earlier = [each for each in distinct if each.date < after.date]
        assert before == (None if not earlier else max(earlier))


@given(SCENES, st.integers(0, 60))
def test_same_season_is_the_nearest_to_a_year_before(scenes: list[DatedScene], days: int) -> None:
    distinct = first_of_each(scenes)
    for after, before in pair_scenes(distinct, PairingRule("same_season", days)):
        over_the_leap_day = date(2020, 2, 29) <= after.date.date() <= date(2021, 2, 28)
        wanted = after.date - timedelta(days=365 + over_the_leap_day)
        off = {each: abs((each.date - wanted).days) for each in distinct}
        near = [each for each in distinct if off[each] <= days and each.date < after.date]
        if before is None:
            assert not near
        else:
            assert off[before] == min(off[each] for each in near)


def test_a_leap_day_has_a_year_before() -> None:
    leap = DatedScene(datetime(2020, 2, 29, tzinfo=UTC), "b", "2")
    year = DatedScene(datetime(2019, 2, 28, tzinfo=UTC), "a", "1")
    assert pair_scenes([leap, year], PairingRule("same_season", 0))[1] == (leap, year)


def test_a_baseline_is_for_later_scenes_only() -> None:
    day = datetime(2020, 1, 1, tzinfo=UTC)
    base = DatedScene(day, "base", "0")
    scenes = [DatedScene(day + timedelta(days=n), f"s{n}", f"{n}") for n in (-1, 0, 1, 2)]
    pairs = pair_scenes(scenes, PairingRule("baseline", baseline=base))
    assert [before for _, before in pairs] == [None, None, base, base]


def test_baseline_dates_are_dates(tmp_path: Path) -> None:
    path = write_job(
        tmp_path, compare_with="baseline", baseline="b.tif", baseline_date=date(2020, 1, 2)
    )
    assert load_job(path).baseline_date == date(2020, 1, 2)
