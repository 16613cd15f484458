"""Tables of the names in foreign weight files, and the strict comparison with a network's names."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

from ldm.errors import UserError
from ldm.files import Name

# Keys with these beginnings hold other tensors than weights, such as those of an optimizer.
NO_WEIGHTS = ("optim", "sched", "scaler", "callback")

# Prefixes that a wrapping module puts before *every* name: DataParallel, a Lightning module's `self.model`,
# torch.compile; several, as in "module._orig_mod.", if one wraps the other.
WRAPPERS = ("module.", "model.", "_orig_mod.")

# Prefixes of one network in a checkpoint of several; names without the prefix belong to the others and are
# left out. A latent-diffusion checkpoint of CompVis holds its autoencoder so.
PARTS = ("first_stage_model.",)

# What only training needs, as {prefix of the names: a name that the network must have for the rule to
# hold}. A VQ-GAN checkpoint of CompVis carries its loss: the discriminator and LPIPS. The prefix counts
# after PARTS.
TRAINING_ONLY = {"loss.": "quantize.embedding.weight"}

# PyTorch's counter of batches, beside each running variance. Nothing uses it, and our networks have none.
COUNTER, BESIDE = "num_batches_tracked", "running_var"

# Everything that a pickle may name. Storages and dtypes of torch, by the dtype they stand for:
STORAGES = {
    "FloatStorage": "float32", "HalfStorage": "float16", "DoubleStorage": "float64",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16",
    "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
}
DTYPES = ("float16", "bfloat16", "float32", "float64", "bool",
          "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
# A Jittor Var names itself "jittor", "jittor_core.Var" in 1.3.11; the others are its names elsewhere.
VARS = (("jittor", "jittor_core.Var"), ("jittor", "Var"), ("jittor_core", "Var"))
NUMPY_MODULES = ("numpy.core", "numpy._core")           # before numpy 2 and since


def wrappers(state: Mapping[str, Any]) -> list[str]:
    """The prefixes of WRAPPERS that every name of `state` has: "" first, each with one more than the last."""
    found = [""]
    while state and len(found) < 8:
        longer = [found[-1] + p for p in WRAPPERS if all(name.startswith(found[-1] + p) for name in state)]
        if not longer:
            break
        found += longer
    return found


def short(text: object, limit: int = 80) -> str:
    """`text`, with its middle left out if it is longer than `limit`."""
    text = str(text)
    return text if len(text) <= limit else f"{text[:limit // 2]}...{text[-limit // 4:]}"


def _prefix(state, expected):
    """The prefix to remove: the only one with which expected names are found; "" if none or several."""
    possible = wrappers(state) + list(PARTS)
    covering = [p for p in possible if any(p + name in state for name in expected)]
    return covering[0] if len(covering) == 1 else ""


def _is_training_only(name, expected):
    if name.endswith("." + COUNTER):
        return name[:-len(COUNTER)] + BESIDE in expected
    return any(name.startswith(prefix) and mark in expected for prefix, mark in TRAINING_ONLY.items())


def _some(names, limit=5):
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{len(names)} ({', '.join(map(short, names[:limit]))}{more})"


def _text(shape):
    return short("x".join(map(str, shape))) or "scalar"


def refuse_unless_same(state: Mapping[str, Any], expected: Mapping[str, Sequence[int]],
                       subject: Name) -> None:
    """Raise a UserError that lists all missing, extra and misshapen tensors of `state` (name -> array).

    expected: name -> shape; subject: what the error names.
    """
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected]
    wrong = [f"{short(name)} is {_text(array.shape)} instead of {_text(expected[name])}"
             for name, array in state.items()
             if name in expected and tuple(array.shape) != tuple(expected[name])]
    faults = [f"{label} {_some(names)}" for label, names in
              (("missing", missing), ("extra", extra), ("of another shape", wrong)) if names]
    if faults:
        raise UserError(subject, f"holds other tensors than needed: {'; '.join(faults)}",
                        f"give exactly the {len(expected)} tensors of the network")


def _refuse_unless_floats(state, subject):
    """Raise a UserError that lists the tensors of `state` that hold no floats.

    Jittor would take them over with their type, and an operator that expects floats fails much later.
    """
    wrong = [f"{short(name)} is {tensor.dtype.name}" for name, tensor in state.items()
             if tensor.dtype.kind != "f"]
    if wrong:
        raise UserError(subject, f"holds tensors that are not of floats: {_some(wrong)}",
                        "give the weights as they were trained")


def fit(state: Mapping[str, Any], expected: Mapping[str, Sequence[int]],
        subject: Name) -> tuple[dict[str, Any], list[str]]:
    """Rename the tensors of `state` to the names of a network, strictly.

    state: name -> array; expected: name -> shape. Only the tables above decide which prefixes are removed and
    which tensors of training are left out; any other difference is an error of `refuse_unless_same`. All
    weights of our networks are floats: other types are an error too.
    Returns (network's name -> array, the names left out).
    """
    prefix = _prefix(state, expected)
    left_out = [name for name in state if not name.startswith(prefix)]
    fitted = {}
    for name, array in state.items():
        if name.startswith(prefix):
            bare = name[len(prefix):]
            if bare not in expected and _is_training_only(bare, expected):
                left_out.append(name)
            else:
                fitted[bare] = array
    refuse_unless_same(fitted, expected, subject)
    _refuse_unless_floats(fitted, subject)
    return fitted, left_out
