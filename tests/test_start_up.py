"""What is imported, and what is not, before there is a need: counted, not timed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[1] / "docs/sample/raleigh_landsat7_2000-03-31.tif"
AFTER = "import sys; print(*(m for m in {names} if m in sys.modules))"


def loaded_after(code: str, *names: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{code}\n{AFTER.format(names=names)}"],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    return done.stdout.split()


def test_help_needs_click_alone() -> None:
    code = (
        "from click.testing import CliRunner\nfrom geoseg.cli import cli\n"
        "assert CliRunner().invoke(cli, ['predict', '--help']).exit_code == 0"
    )
    assert loaded_after(code, "numpy", "rasterio", "pydantic", "openvino", "torch") == []


@pytest.mark.parametrize("options", [[], ["--no-polygons"]])
def test_a_map_needs_neither_torch_nor_data_frames(tmp_path: Path, options: list[str]) -> None:
    arguments = ["predict", str(SAMPLE), "-o", str(tmp_path), "-q", *options]
    code = f"from geoseg.cli import cli\ncli({arguments!r}, standalone_mode=False)"
    heavy = (
        "torch",
        "torchgeo",
        "timm",
        "pandas",
        "geopandas",
        "xarray",
        "matplotlib",
        "distributed",
        "openvino.tools.ovc",
    )
    assert loaded_after(code, *heavy) == []
    ours = "numba", "pyogrio", "scipy.linalg"
    polygons = loaded_after(code.replace("-q", "--overwrite', '-q"), *ours)
    assert polygons == ([] if options else ["numba", "pyogrio"])


def test_data_frames_still_work_where_they_were_put_off(tmp_path: Path) -> None:
    code = f"""
from geoseg.quick_start import import_pyogrio
import_pyogrio()
import sys
assert not {{"pandas", "geopandas"}} & set(sys.modules)
import geopandas, pyogrio, shapely
frame = geopandas.GeoDataFrame({{"a": [1]}}, geometry=[shapely.Point(1, 2)], crs="EPSG:4326")
pyogrio.write_dataframe(frame, {str(tmp_path / "one.gpkg")!r})
assert pyogrio.read_dataframe({str(tmp_path / "one.gpkg")!r}).equals(frame)
"""
    assert loaded_after(code, "pandas") == ["pandas"]


def test_models_can_still_be_converted_where_that_was_put_off() -> None:
    code = """
from geoseg.quick_start import import_openvino
import_openvino()
import sys
assert "openvino.tools.ovc" not in sys.modules
import geoseg, openvino
assert openvino.Core().available_devices
from openvino.tools.ovc import convert_model
"""
    assert loaded_after(code, "openvino.tools.ovc") == ["openvino.tools.ovc"]
