"""YAML and JSON that anybody may have written: read in bounded time, every fault a UserError of one line."""
import json
from pathlib import Path

import yaml

from ldm import files
from ldm.errors import UserError

DEPTH = 50                  # of lists and mappings inside each other
NODES = 5000                # of a YAML document, each alias counted as all that it stands for
DIGITS = 100                # of a number; Python takes quadratic time for a long one
YAML_BYTES, JSON_BYTES = 2 ** 16, 2 ** 28
SHOWN = 60                  # characters of a value in a message
# PyYAML's constructors let through what Python's own say of a bad date, number or tag.
FAULTS = (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, RecursionError, OverflowError)


def short(value):
    """`value` as a message may show it: on one line, cut where it is long."""
    text = value if isinstance(value, Path) else repr(value)
    text = str(text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which by itself has no limits: it takes minutes for 5000 brackets, and an alias
    of an alias of an alias stands for more than any memory holds."""

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
        return node

    def get_single_node(self):
        node = super().get_single_node()
        if node is not None and _weight(node, {}) > NODES:
            raise yaml.YAMLError(f"stands for more than {NODES} values")
        return node


def _weight(node, known):
    """How many nodes there are at and below `node`. known: {id: that, None while it is counted}."""
    if id(node) not in known:
        known[id(node)] = None
        below = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = [part for item in below for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_weight(part, known) for part in parts)
    if known[id(node)] is None:
        raise yaml.YAMLError("an alias stands for a part of itself")
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


def parse_yaml(text, where):
    """What a YAML text says, as plain values. `where` is the subject of the UserError for what is no YAML."""
    try:
        return yaml.load(text, _Loader)                     # a SafeLoader: it makes plain values alone
    except FAULTS as e:
        problem = " ".join(str(e).split())[:200] or type(e).__name__
        raise UserError(where, f"cannot be read as YAML ({problem})",
                        "plain values are needed") from None


def read_text(path, limit, wanted):
    """The text of a file, UTF-8 with or without a byte order mark, of `limit` bytes at most."""
    with files.open_regular(path, wanted) as file:
        try:
            data = file.read(limit + 1)
            if len(data) > limit:
                raise UserError(path, f"is larger than {limit} bytes", f"{wanted} is needed")
            return data.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as e:
            raise UserError(path, f"cannot be read ({getattr(e, 'strerror', None) or e})",
                            f"{wanted} is needed") from None


def read_yaml(path):
    """The mapping in a YAML file; an unreadable file, bad YAML or another kind of document is a UserError."""
    tree = parse_yaml(read_text(path, YAML_BYTES, "a YAML file"), path)
    if not isinstance(tree, dict):
        raise UserError(path, "holds no options", "a mapping of options is needed")
    for key in tree:
        if not isinstance(key, str):
            raise UserError(path, f"unknown key {short(key)}", "keys are words")
    return tree


def read_json(path, wanted):
    """What a JSON file says; `wanted` says in its UserError what is needed."""
    try:
        return json.loads(read_text(path, JSON_BYTES, wanted), parse_constant=_no_constant)
    except UserError:
        raise
    except (ValueError, RecursionError) as e:
        raise UserError(path, f"cannot be read as JSON ({' '.join(str(e).split())[:200]})",
                        f"{wanted} is needed") from None


def _no_constant(name):
    raise ValueError(f"{name} is no number of JSON's")
