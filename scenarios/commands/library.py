"""``routerwise scenarios`` and ``routerwise schema``."""

from __future__ import annotations

import json

import click

from scenarios.scenario_files import library_description, library_names
from scenarios.schema import Scenario


@click.command()
def scenarios() -> None:
    """List the scenarios that come with routerwise, with what they show."""
    for name in library_names():
        click.echo(f"{name:28} {library_description(name)}")


@click.command()
def schema() -> None:
    """Print the JSON Schema of scenario files, for editors and for generating scenarios."""
    click.echo(json.dumps(Scenario.model_json_schema(), indent=2))
