"""A recipe is checked whole before anything is opened, and says what is wrong in a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from made_ground import recipe_of, told, write_recipe

from geoseg.errors import InputError
from geoseg.recipe import Recipe, make_recipe, read_recipe, recipe_schema


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"epoch": 3}, "no key 'epoch'; did you mean epochs?"),
        ({"learning_rat": 3}, "no key 'learning_rat'"),
        ({"bands": ["red", "nri"]}, "did you mean nir?"),
        ({"bands": ["red", "red"]}, "give each band once"),
        ({"lr": -1}, "lr: "),
        ({"lr": "fast"}, "lr: "),
        ({"classes": {1: "a"}}, "classes"),
        ({"classes": {1: "a", 2: "a"}}, "share the name"),
        ({"classes": {1: "a", 300: "b"}}, "300"),
        ({"unlabelled": [1]}, "code 1 is a class and unlabelled"),
        ({"validation": 0.6, "test": 0.4}, "leave nothing"),
        ({"folds": 3, "fold": 3}, "folds count from 0"),
        ({"class_weights": "invers"}, "class_weights"),
        ({"lr": float("nan")}, "lr"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path: Path, more: dict[str, object], said: str) -> None:
    path = write_recipe(tmp_path / "r.yaml", tmp_path, **more)
    with pytest.raises(InputError, match=r"r\.yaml") as error:
        read_recipe(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_replace_what_the_file_says(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "r.yaml", tmp_path)
    settings = ["lr=3e-4", "network.widths=[2, 4]", "loss.focal=1", "patience=5", "scale=null"]
    recipe = read_recipe(path, settings)
    assert (recipe.lr, recipe.patience, recipe.scale) == (3e-4, 5, None)
    assert recipe.network == {"widths": [2, 4], "batch_norm": True}
    assert recipe.loss == {"focal": 1}
    for wrong in ("lr", "=3", "lr=[", "ler=3"):
        with pytest.raises(InputError):
            read_recipe(path, [wrong])


def test_data_lies_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    path = write_recipe(tmp_path / "recipes" / "r.yaml", Path("../data"))
    assert read_recipe(path).data == str(tmp_path / "data")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("[1, 2]", "no recipe"),
        ("name: [", "no YAML"),
        ("!!python/object/apply:os.system ['true']", "no YAML"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_recipe(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path / "missing.yaml")


def test_a_recipe_written_is_the_recipe_read(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, classes={1: {"name": "a", "colour": "#123456"}, 2: "b"})
    assert make_recipe(yaml.safe_load(recipe.to_yaml())) == recipe
    assert next(each.colour for each in recipe.legend) == "#123456"


def test_the_schema_knows_every_key_and_what_it_is_for(tmp_path: Path) -> None:
    schema = json.loads(recipe_schema())
    assert set(schema["properties"]) == set(Recipe.model_fields) >= set(told(tmp_path))
    assert all(each.get("description") for each in schema["properties"].values())
    assert schema["additionalProperties"] is False


def test_the_page_of_train_has_every_key() -> None:
    page = (Path(__file__).parents[1] / "docs/pages/train.md").read_text(encoding="utf-8")
    for key, field in Recipe.model_fields.items():
        assert f"| `{key}` |" in page, key
        assert str(field.description).replace("|", "/") in page, key


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "recipes").glob("*/recipe.yaml")), ids=str
)
def test_every_recipe_that_comes_with_the_project_is_one(path: Path) -> None:
    assert path.parent.name.startswith(read_recipe(path).name)
    assert (path.parent / "README.md").is_file()
