"""Writes the generated pages of this folder, from the command line, the settings, the table and docstrings.

    python docs/reference/generate.py

``tests/test_docs.py`` fails where a page is not what this writes.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import typer
from pydantic_core import PydanticUndefined

import annotator
from annotator.cli import app
from annotator.cli.base import ORDER
from annotator.settings import RunSettings
from annotator.table import FAILURE_COLUMNS, schema
from train.finetune.settings import FinetuneSettings
from train.settings import TrainSettings

HERE = Path(__file__).parent
GENERATED = "<!-- Written by docs/reference/generate.py. -->\n"
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
EXIT_CODES = (
    ("0", "Everything was done."),
    (
        "1",
        "Nothing could be done: weights, disk, memory, or another run in the same place. With `--store`, "
        "also: the table is written, but the store lacks some of it.",
    ),
    ("2", "The command can't be carried out as given: an option, a path or a settings key."),
    ("3", "The table or corpus is written, but some inputs failed. The failures are listed beside it."),
    ("130, 143", "Stopped by Ctrl-C (SIGINT) or SIGTERM. The same command goes on from there."),
)


def pages() -> dict[str, str]:
    """Text of each generated page, by file name."""
    return {
        "commands.md": commands_page(),
        "settings.md": settings_page(),
        "columns.md": columns_page(),
        "python.md": python_page(),
    }


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    cells = [head, tuple("---" for _ in head), *(tuple(c.replace("|", "\\|") for c in row) for row in rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells) + "\n"


def commands_page() -> str:
    parts = [
        GENERATED + "# Commands\n",
        "`annotate COMMAND --help` shows the same in the terminal. `annotate --version` prints the version.\n"
        "`annotate --install-completion` makes the shell complete commands, options and choices.\n",
        "## Exit codes\n",
        table(("code", "meaning"), list(EXIT_CODES)),
    ]
    for name in ORDER:
        command = COMMANDS[name]
        context = typer.Context(command, info_name=f"annotate {name}")
        usage = " ".join(command.get_usage(context).split()).removeprefix("Usage: ")
        parts.append(f"## annotate {name}\n\n{command.help}\n\n```text\n{usage}\n```\n")
        examples = [line.strip() for line in command.epilog.splitlines() if line.startswith("  ")]
        parts.append("```sh\n" + "\n".join(examples) + "\n```\n")
        shown = [p for p in command.params if not getattr(p, "hidden", False)]
        for panel in dict.fromkeys(panel_of(p) for p in shown):
            rows = [option_row(p, context) for p in shown if panel_of(p) == panel]
            head = ("argument" if panel == "Arguments" else "option", "value", "meaning", "default")
            parts.append(f"**{panel}**\n\n" + table(head, rows))
    return "\n".join(parts)


def panel_of(parameter: Any) -> str:
    kind: str = parameter.param_type_name
    return parameter.rich_help_panel or {"argument": "Arguments", "option": "Options"}[kind]


def option_row(parameter: Any, context: typer.Context) -> tuple[str, str, str, str]:
    """Names, value, meaning and default of an option or argument."""
    shown = (parameter.display_type_rich(context) or "").strip("<>")
    if parameter.param_type_name == "argument":
        name = f"`{parameter.metavar or parameter.name.upper()}`"
        shown = shown if "|" in shown else ""  # choices; that it is a path, its meaning says
    else:
        name = ", ".join(f"`{o}`" for o in sorted(parameter.opts, key=len, reverse=True))
    value = f"`{shown}`" if shown else ""
    default = ""
    if parameter.required:
        default = "required"
    elif isinstance(parameter.show_default, str):
        default = parameter.show_default
    elif parameter.default not in (None, False):
        default = str(parameter.default)
    return name, value, parameter.help, default


def settings_page() -> str:
    parts = [
        GENERATED + "# Settings keys\n",
        "Keys of a settings file (`--config FILE`, TOML), with `-` or `_`. Options override the file. What\n"
        "the keys of a run mean in full is on [Settings of a run](../settings.md).\n",
        "## annotate run, prepare, evaluate, faces\n",
        table(
            ("key", "option", "type", "default"),
            [run_row(name, field) for name, field in RunSettings.model_fields.items()],
        ),
    ]
    for name, kind in (("train", TrainSettings), ("finetune", FinetuneSettings)):
        types = typing.get_type_hints(kind)
        rows = [
            (f"`{key.replace('_', '-')}`", type_name(types[key]), value_name(getattr(kind, key)))
            for key in types
            if key != "device"
        ]
        parts.append(f"## annotate {name}\n\n" + table(("key", "type", "default"), rows))
    parts.append("`patience = 0` means: never stop early.\n")
    return "\n".join(parts)


def run_row(name: str, field: Any) -> tuple[str, str, str, str]:
    options = {parameter.name for parameter in COMMANDS["run"].params}
    default = "" if field.default in (None, PydanticUndefined) else value_name(field.default)
    hint = typing.get_type_hints(RunSettings)[name]
    return f"`{name.replace('_', '-')}`", "yes" if name in options else "no", type_name(hint), default


def type_name(hint: Any) -> str:
    """A type for people."""
    plain = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
    arguments = [a for a in typing.get_args(hint) if a is not type(None)]
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    if type(None) in typing.get_args(hint):
        return type_name(arguments[0])
    if typing.get_origin(hint) is tuple:
        return "list" if Ellipsis in arguments else '`"i/N"`'
    return plain[hint]


def value_name(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{v}"' for v in value) + "]`"
    return "" if value is None else f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def columns_page() -> str:
    columns = schema(("LABEL",))
    rows = [(f"`{name}`", f"`{polars_name(kind)}`", in_csv(kind)) for name, kind in columns.items()]
    return "\n".join(
        [
            GENERATED + "# Columns\n",
            "The table has these columns in this order. What each means is on [The table](../table.md).\n"
            "`p_LABEL` stands for one column per label of the model.\n",
            table(("column", "type in Parquet", "in CSV"), rows),
            "The failures file has `" + "`, `".join(FAILURE_COLUMNS) + "`.\n",
        ]
    )


def polars_name(kind: pl.DataType) -> str:
    return re.sub(r"\bString\b", "str", str(kind)).replace("'", "")


def in_csv(kind: pl.DataType) -> str:
    if isinstance(kind, pl.List):
        return "left out" if isinstance(kind.inner, pl.Struct) else "joined by `;`"
    return "yes"


def python_page() -> str:
    parts = [
        GENERATED + "# Python\n",
        "The public names of the package `annotator`. Everything else may change with any version.\n",
    ]
    for name in annotator.__all__:
        if name == "__version__":
            parts.append("## annotator.\\_\\_version\\_\\_\n\nThe version, as text.\n")
            continue
        found = getattr(annotator, name)
        text = re.sub(r":\w+:`([^`]+)`", r"`\1`", inspect.getdoc(found) or "").replace("``", "`")
        text = re.sub(r"(?m)^(Args|Raises|Returns):$", r"\1:\n", text)
        text = re.sub(r"(?m)^    (\w+): ", r"- `\1`: ", text)
        if inspect.isfunction(found):
            signature = str(inspect.signature(found)).replace("'", "")
            text = f"```python\n{name}{signature}\n```\n\n{text}"
        elif dataclasses.is_dataclass(found):
            rows = [(f"`{f.name}`", f"`{f.type}`") for f in dataclasses.fields(found)]
            text += "\n\n" + table(("field", "type"), rows)
        parts.append(f"## annotator.{name}\n\n{text.rstrip()}\n")
    return "\n".join(parts)


def main() -> None:
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
