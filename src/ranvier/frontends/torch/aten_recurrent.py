"""Recurrent layers of ATen: a loop over the sequence for every layer and direction.

What the input contributes to the gates is one matrix product over the whole sequence; a step adds
what the state contributes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ranvier.frontends.torch.call import Call, Refusal, static
from ranvier.frontends.torch.registry import aten, operator
from ranvier.ir.dim import symbol
from ranvier.ir.dtype import I64
from ranvier.ir.graph import GraphBuilder, Value

State = tuple[Value, ...]


@dataclass(frozen=True)
class _Weights:
    """Parameters of one layer in one direction, transposed for products from the right."""

    input: Value  # [features, gates * hidden]
    state: Value  # [hidden, gates * hidden]
    input_bias: Value | None  # [gates * hidden]
    state_bias: Value | None
    projection: Value | None  # [hidden, projected]

    @property
    def captured(self) -> tuple[Value, ...]:
        """What a step reads."""
        return tuple(v for v in (self.state, self.state_bias, self.projection) if v is not None)


Step = Callable[[Call, Value, State, _Weights], State]
"""`(call, the input's share of the gates [batch, gates * hidden], state, weights) -> state`."""


def _parameters(
    call: Call, params: Sequence[Value], has_biases: bool, projected: bool
) -> list[_Weights]:
    """The flat list of PyTorch, one entry per layer and direction."""
    each = 2 + 2 * has_biases + projected
    found = []
    for i in range(0, len(params), each):
        given = list(params[i : i + each])
        projection = given.pop() if projected else None
        biases = given[2:] if has_biases else [None, None]
        found.append(
            _Weights(
                call.transpose(given[0], (1, 0)),
                call.transpose(given[1], (1, 0)),
                biases[0],
                biases[1],
                None if projection is None else call.transpose(projection, (1, 0)),
            )
        )
    return found


def _matmul(call: Call, x: Value, weights: Value, bias: Value | None = None) -> Value:
    product = call.emit("matmul", x, weights)
    return product if bias is None else call.emit("add", product, bias)


def _part(call: Call, x: Value, i: int, count: int) -> Value:
    """The i-th of `count` equal parts of the last dim."""
    width = static(x.shape[-1], "the size of the state") // count
    return call.slice(x, x.rank - 1, i * width, (i + 1) * width)


def _lstm_step(call: Call, now: Value, state: State, weights: _Weights) -> State:
    hidden, cell = state
    gates = call.emit("add", now, _matmul(call, hidden, weights.state, weights.state_bias))
    enter, forget, new, leave = (_part(call, gates, i, 4) for i in range(4))
    kept = call.emit("mul", call.emit("sigmoid", forget), cell)
    added = call.emit("mul", call.emit("sigmoid", enter), call.emit("tanh", new))
    cell = call.emit("add", kept, added)
    hidden = call.emit("mul", call.emit("sigmoid", leave), call.emit("tanh", cell))
    if weights.projection is not None:
        hidden = _matmul(call, hidden, weights.projection)
    return hidden, cell


def _gru_step(call: Call, now: Value, state: State, weights: _Weights) -> State:
    (hidden,) = state
    share = _matmul(call, hidden, weights.state, weights.state_bias)
    reset, update = (
        call.emit("sigmoid", call.emit("add", _part(call, now, i, 3), _part(call, share, i, 3)))
        for i in (0, 1)
    )
    remembered = call.emit("mul", reset, _part(call, share, 2, 3))
    new = call.emit("tanh", call.emit("add", _part(call, now, 2, 3), remembered))
    # (1 - update) * new + update * hidden
    gap = call.emit("sub", hidden, new)
    return (call.emit("add", new, call.emit("mul", update, gap)),)


def _plain_step(activation: str) -> Step:
    def step(call: Call, now: Value, state: State, weights: _Weights) -> State:
        share = _matmul(call, state[0], weights.state, weights.state_bias)
        return (call.emit(activation, call.emit("add", now, share)),)

    return step


def _walk(
    call: Call,
    gates: Value,
    state: State,
    weights: _Weights,
    step: Step,
    backwards: bool,
    lengths: Value | None,
) -> tuple[Value, State]:
    """Hidden states of all steps `[sequence, batch, hidden]` in order, and the last state.

    Behind the end of a sequence its state stays and the hidden states are zeros.
    """
    length, batch, width = gates.shape
    label = call.unique(f"{call.name}_steps")
    place = symbol(f"{label}_i", 0, None)
    body = GraphBuilder(label)
    inside = replace(call, builder=body)
    carried = tuple(body.input(f"state_{i}", value.type) for i, value in enumerate(state))
    sequence = body.input("gates", gates.type)
    captured = iter([body.input(f"weights_{i}", v.type) for i, v in enumerate(weights.captured)])
    own = replace(
        weights,
        state=next(captured),
        state_bias=None if weights.state_bias is None else next(captured),
        projection=None if weights.projection is None else next(captured),
    )
    row = length - 1 - place if backwards else place
    now = inside.reshape(inside.slice(sequence, 0, row, row + 1), (batch, width))
    following = step(inside, now, carried, own)
    hidden = following[0]
    ends = () if lengths is None else (lengths,)
    if lengths is not None:
        end = inside.reshape(body.input("lengths", lengths.type), (batch, 1))
        goes_on = inside.emit("greater", end, inside.scalar(row, I64))
        kept = zip(following, carried, strict=True)
        following = tuple(inside.emit("where", goes_on, new, old) for new, old in kept)
        hidden = inside.emit("where", goes_on, hidden, inside.scalar(0.0, hidden.dtype))
    shapes = (*(value.shape for value in state), (length, *hidden.shape))
    *last, rows = call.builder.add_node(
        "loop",
        (*state, gates, *weights.captured, *ends),
        {
            "body": body.finish([*following, hidden]),
            "carried": len(state),
            "conditional": False,
            "iteration": place,
            "varying": (),
            "limit": length,
            "count": length,
            "shapes": shapes,
            "defines": (),
        },
        (label,),
        call.source,
    )
    return call.emit("reverse", rows, axes=(0,)) if backwards else rows, tuple(last)


def _layers(
    call: Call,
    x: Value,
    states: State,
    weights: Sequence[_Weights],
    num_layers: int,
    batch_first: bool,
    step: Step,
    lengths: Value | None = None,
) -> tuple[Value, ...]:
    """The hidden states of the last layer, then the last states `[layers * directions, ...]`."""
    x = call.transpose(x, (1, 0, 2)) if batch_first else x
    directions = len(weights) // num_layers
    finals: list[State] = []
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            i = layer * directions + direction
            first = tuple(_row(call, state, i) for state in states)
            gates = _matmul(call, x, weights[i].input, weights[i].input_bias)
            rows, last = _walk(call, gates, first, weights[i], step, direction == 1, lengths)
            outputs.append(rows)
            finals.append(last)
        x = outputs[0] if directions == 1 else call.emit("concat", *outputs, axis=2)
    stacked = tuple(_stacked(call, [final[k] for final in finals]) for k in range(len(states)))
    return call.transpose(x, (1, 0, 2)) if batch_first else x, *stacked


def _row(call: Call, x: Value, i: int) -> Value:
    return call.reshape(call.slice(x, 0, i, i + 1), x.shape[1:])


def _stacked(call: Call, values: Sequence[Value]) -> Value:
    rows = [call.reshape(value, (1, *value.shape)) for value in values]
    return rows[0] if len(rows) == 1 else call.emit("concat", *rows, axis=0)


def _require_no_dropout(dropout: float, train: bool, num_layers: int) -> None:
    if dropout and train and num_layers > 1:
        raise Refusal("drops elements at random, as in training: call model.eval() first")


@aten("lstm.input")
def lstm(
    call: Call,
    x: Value,
    hx: Sequence[Value],
    params: Sequence[Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Value, ...]:
    """arXiv 1402.1128 for the projections of hidden states."""
    _require_no_dropout(dropout, train, num_layers)
    hidden, cell = hx
    weights = _parameters(call, params, has_biases, hidden.shape[-1] != cell.shape[-1])
    return _layers(call, x, (hidden, cell), weights, num_layers, batch_first, _lstm_step)


def _register(overload: str, step: Step) -> None:
    @aten(overload)
    def recurrence(
        call: Call,
        x: Value,
        hx: Value,
        params: Sequence[Value],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Value, ...]:
        _require_no_dropout(dropout, train, num_layers)
        weights = _parameters(call, params, has_biases, False)
        return _layers(call, x, (hx,), weights, num_layers, batch_first, step)


def _register_of_lengths(kind: str, step: Step) -> None:
    @operator(f"ranvier.{kind}_of_lengths.default")
    def recurrence(
        call: Call,
        x: Value,
        lengths: Value,
        hx: Value | Sequence[Value],
        params: Sequence[Value],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
    ) -> tuple[Value, ...]:
        _require_no_dropout(dropout, train, num_layers)
        states = (hx,) if isinstance(hx, Value) else tuple(hx)
        is_projected = states[0].shape[-1] != states[-1].shape[-1]
        weights = _parameters(call, params, has_biases, is_projected)
        ends = call.cast(lengths, I64)
        return _layers(call, x, states, weights, num_layers, False, step, ends)


_STEPS: dict[str, Step] = {
    "lstm": _lstm_step,
    "gru": _gru_step,
    "rnn_tanh": _plain_step("tanh"),
    "rnn_relu": _plain_step("relu"),
}
for _kind, _step in _STEPS.items():
    if _kind != "lstm":
        _register(f"{_kind}.input", _step)
    _register_of_lengths(_kind, _step)
