"""Write `docs/recipe_keys.md`, the page of all keys, from the schema of the recipes. A test says when it is due."""

from pathlib import Path

from mlff_calc.training.recipe_schema import recipe_page

if __name__ == "__main__":
    Path(__file__).with_name("recipe_keys.md").write_text(recipe_page(), encoding="utf-8")
