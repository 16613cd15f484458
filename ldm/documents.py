"""Safe reading of YAML and JSON: bounded time and memory, and a UserError of one line for every fault."""
from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import yaml

from ldm import files
from ldm.errors import UserError

DEPTH = 50                  # nesting of lists and mappings
NODES = 5000                # values in a YAML document, with each alias expanded
DIGITS = 100                # in a number; Python takes quadratic time for a long one
YAML_BYTES, JSON_BYTES = 2 ** 16, 2 ** 28
SHOWN = 60                  # characters of a value in a message


def short(value: object) -> str:
    """`value` for a message: on one line, cut if it is long."""
    text = value if isinstance(value, Path) else repr(value)
    text = str(text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with limits. Without them 5000 brackets take minutes, and nested aliases expand
    beyond any memory."""

    depth = count = 0

    def fetch_flow_collection_start(self, token):
        if self.flow_level >= DEPTH:
            raise yaml.YAMLError(f"is nested more than {DEPTH} deep")
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent, index):
        self.depth, self.count = self.depth + 1, self.count + 1
        if self.depth > DEPTH:
            raise yaml.YAMLError(f"is nested more than {DEPTH} deep")
        if self.count > NODES:
            raise yaml.YAMLError(f"has more than {NODES} values")
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.MappingNode):              # PyYAML takes the last of two values
            _refuse_twice([key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)],
                          yaml.YAMLError)
        return node

    def get_single_node(self):
        node = super().get_single_node()
        if node is not None and _weight(node, {}) > NODES:
            raise yaml.YAMLError(f"expands to more than {NODES} values")
        return node


def _refuse_twice(keys, error):
    """Raise `error` if a key occurs twice: which of its values is meant is not known."""
    if len(set(keys)) < len(keys):
        raise error(f"the key {short(Counter(keys).most_common(1)[0][0])} occurs twice")


def _weight(node, known):
    """The number of nodes at and below `node`. known: {id: number, or None while it is being counted}."""
    if id(node) not in known:
        known[id(node)] = None
        below = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = [part for item in below for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_weight(part, known) for part in parts)
    if known[id(node)] is None:
        raise yaml.YAMLError("an alias contains itself")
    return known[id(node)]


def _short_number(construct):
    def run(loader, node):
        if len(node.value) > DIGITS:
            raise yaml.YAMLError(f"a number of {len(node.value)} digits")
        return construct(loader, node)
    return run


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}",
                            _short_number(getattr(yaml.SafeLoader, f"construct_yaml_{_kind}")))


def parse_yaml(text: str, where: object) -> Any:
    """The plain values of a YAML text. `where` is the subject of the UserError for invalid YAML."""
    try:
        return yaml.load(text, _Loader)                     # a SafeLoader: it makes plain values only
    except Exception as e:      # PyYAML passes on whatever Python says to a bad date, number or tag
        problem = " ".join(str(e).split())[:200] or type(e).__name__
        raise UserError(where, f"cannot be read as YAML ({problem})",
                        "correct the YAML; use plain values only") from None


def read_text(path: files.Name, limit: int, wanted: str) -> str:
    """The text of a UTF-8 file (with or without byte order mark) of at most `limit` bytes.

    wanted: what the UserError asks for, such as "a YAML file".
    """
    with files.open_regular(path, wanted) as file:
        try:
            data = file.read(limit + 1)
            if len(data) > limit:
                raise UserError(path, f"is larger than {limit} bytes", f"give {wanted}")
            return data.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as e:
            raise UserError(path, f"cannot be read ({getattr(e, 'strerror', None) or e})",
                            f"give {wanted}") from None


def read_yaml(path: files.Name) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError if it is unreadable, invalid or not a mapping."""
    tree = parse_yaml(read_text(path, YAML_BYTES, "a YAML file"), path)
    if not isinstance(tree, dict):
        raise UserError(path, "is not a mapping of options", "write lines of the form `key: value`")
    for key in tree:
        if not isinstance(key, str):
            raise UserError(path, f"unknown key {short(key)}", "use words as keys")
    return tree


def read_json(path: files.Name, wanted: str) -> Any:
    """The value in a JSON file. wanted: what the UserError asks for."""
    try:
        return json.loads(read_text(path, JSON_BYTES, wanted), parse_constant=_no_constant,
                          parse_int=_short_int, object_pairs_hook=_mapping)
    except UserError:
        raise
    except (ValueError, RecursionError) as e:
        raise UserError(path, f"cannot be read as JSON ({' '.join(str(e).split())[:200]})",
                        f"give {wanted}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _short_int(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_twice([key for key, _ in pairs], ValueError)
    return dict(pairs)
