"""Recurrent layers: RNN, GRU and LSTM, in all directions.

What the input contributes to the gates is one matrix product over the whole sequence; a step adds
what the state contributes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ranvier.frontends.onnx.activations import Activation, activations_of
from ranvier.frontends.onnx.call import Call, static
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.dtype import I64
from ranvier.ir.graph import Value

State = tuple[Value, ...]
Step = Callable[[Value, State], State]
MOST_STEPS = 512
"""Sequences are written out step by step, up to this length."""
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True)
class _Layer:
    """One recurrent node, its operands with the sequence in front of the batch."""

    call: Call
    x: Value  # [sequence, batch, features]
    w: Value  # [directions, gates * hidden, features]
    r: Value  # [directions, gates * hidden, hidden]
    bias: Value | None  # [directions, 2 * gates * hidden]
    lengths: Value | None  # [batch]
    states: tuple[Value | None, ...]  # [directions, batch, hidden]
    directions: tuple[bool, ...]
    activations: list[list[Activation]]
    batch_first: bool

    @property
    def hidden(self) -> int:
        """Elements of the state."""
        return static(self.r.shape[2], "the size of its state")

    def of_direction(self, value: Value, i: int) -> Value:
        """A parameter of one direction, without the dim of directions."""
        return self.call.reshape(self.call.slice(value, 0, i, i + 1), value.shape[1:])

    def first_states(self, i: int) -> State:
        """The states in which a direction begins; zeros where none are given."""
        zeros = self.call.full((self.x.shape[1], self.hidden), 0.0, self.x.dtype)
        return tuple(
            zeros if state is None else self.of_direction(state, i) for state in self.states
        )

    def biases(self, i: int) -> tuple[Value | None, Value | None]:
        """(of the input, of the state), `[gates * hidden]` each."""
        if self.bias is None:
            return None, None
        row = self.of_direction(self.bias, i)
        half = static(row.shape[0], "the size of its bias") // 2
        return self.call.slice(row, 0, 0, half), self.call.slice(row, 0, half, 2 * half)


def _layer(
    call: Call, operands: Sequence[Value | None], states: int, names: tuple[str, ...],
    activations: tuple[str, ...] | None, alphas: Sequence[float], betas: Sequence[float],
    clip: float | None, direction: str, layout: int,
) -> _Layer:  # fmt: skip
    x, w, r, bias, lengths = operands[:5]
    given = operands[5:]
    assert x is not None
    assert w is not None
    assert r is not None
    if direction not in _DIRECTIONS:
        raise Refusal(f"has the direction {direction}")
    directions = _DIRECTIONS[direction]
    functions = activations_of(activations or names * len(directions), alphas, betas, clip)
    each = len(names)
    if len(functions) != each * len(directions):
        raise Refusal(f"has {len(functions)} activations, not {each * len(directions)}")
    first = tuple(given[:states])
    if layout:
        x = call.transpose(x, (1, 0, 2))
        first = tuple(None if s is None else call.transpose(s, (1, 0, 2)) for s in first)
    return _Layer(
        call, x, w, r, bias, lengths, first, directions,
        [functions[i * each : (i + 1) * each] for i in range(len(directions))], bool(layout),
    )  # fmt: skip


def _run(layer: _Layer, step_of: Callable[[int], tuple[Value, Step]]) -> tuple[Value, ...]:
    """(outputs, last states...); `step_of` gives the gates' share of the input, and the step."""
    call = layer.call
    outputs, finals = [], []
    for i, backwards in enumerate(layer.directions):
        gates, step = step_of(i)
        rows, state = _walk(layer, _reversed(layer, gates) if backwards else gates, step, i)
        outputs.append(_reversed(layer, rows) if backwards else rows)
        finals.append(state)
    sequence, batch = layer.x.shape[:2]
    stacked = call.concat(
        [call.reshape(rows, (sequence, 1, batch, layer.hidden)) for rows in outputs], 1
    )
    last = [
        call.concat([call.reshape(state[k], (1, batch, layer.hidden)) for state in finals], 0)
        for k in range(len(finals[0]))
    ]
    if layer.batch_first:
        stacked = call.transpose(stacked, (2, 0, 1, 3))
        last = [call.transpose(state, (1, 0, 2)) for state in last]
    return stacked, *last


def _walk(layer: _Layer, gates: Value, step: Step, i: int) -> tuple[Value, State]:
    """The hidden states of all steps `[sequence, batch, hidden]`, and the last states."""
    call = layer.call
    length, batch, width = gates.shape
    if not isinstance(length, int):
        raise Refusal(f"runs over a sequence whose length is symbolic ({length})")
    if length > MOST_STEPS:
        raise Refusal(f"runs over {length} steps; at most {MOST_STEPS} are supported so far")
    state, rows = layer.first_states(i), []
    for place in range(length):
        now = call.reshape(call.slice(gates, 0, place, place + 1), (batch, width))
        following = step(now, state)
        row = following[0]
        if layer.lengths is not None:
            goes_on = call.number("greater", call.cast(layer.lengths, I64), place)
            goes_on = call.reshape(goes_on, (batch, 1))
            row = call.where(goes_on, row, 0.0)
            following = tuple(
                call.emit("where", goes_on, new, old)
                for new, old in zip(following, state, strict=True)
            )
        state = following
        rows.append(call.reshape(row, (1, batch, layer.hidden)))
    if not rows:
        raise Refusal("runs over a sequence of no steps")
    return call.concat(rows, 0), state


def _reversed(layer: _Layer, x: Value) -> Value:
    """A sequence from its end, which may be another one for every batch."""
    call = layer.call
    if layer.lengths is None:
        return call.emit("reverse", x, axes=(0,))
    length = call.reshape(call.cast(layer.lengths, I64), (1, x.shape[1], 1))
    place = call.iota(x.shape[0], axis=0, rank=3)
    mirrored = call.number("sub", call.emit("sub", length, place), 1)
    source = call.emit("where", call.emit("less", place, length), mirrored, place)
    return call.emit("gather_elements", x, call.broadcast(source, x.shape), axis=0)


def _projected(layer: _Layer, i: int, bias: Value | None) -> Value:
    """What the input contributes to the gates, `[sequence, batch, gates * hidden]`."""
    call = layer.call
    weights = call.transpose(layer.of_direction(layer.w, i), (1, 0))
    result = call.emit("matmul", layer.x, weights)
    return result if bias is None else call.emit("add", result, bias)


def _sum(call: Call, a: Value | None, b: Value | None) -> Value | None:
    if a is None or b is None:
        return a or b
    return call.emit("add", a, b)


def _gate(call: Call, x: Value, k: int, hidden: int) -> Value:
    """Gate `k` of `[batch, gates * hidden]`."""
    return call.slice(x, x.rank - 1, k * hidden, (k + 1) * hidden)


@onnx_operator("RNN", since=7)
def rnn(
    call: Call, x: Value, w: Value, r: Value, bias: Value | None = None,
    lengths: Value | None = None, state: Value | None = None,
    *, activation_alpha: tuple[float, ...] = (), activation_beta: tuple[float, ...] = (),
    activations: tuple[str, ...] | None = None, clip: float | None = None,
    direction: str = "forward", hidden_size: int = 0, layout: int = 0,
) -> tuple[Value, ...]:  # fmt: skip
    """h = f(W x + R h + b)."""
    layer = _layer(
        call, (x, w, r, bias, lengths, state), 1, ("Tanh",), activations, activation_alpha,
        activation_beta, clip, direction, layout,
    )  # fmt: skip

    def step_of(i: int) -> tuple[Value, Step]:
        recurrence = call.transpose(layer.of_direction(layer.r, i), (1, 0))
        (function,) = layer.activations[i]

        def step(gates: Value, states: State) -> State:
            total = call.emit("add", gates, call.emit("matmul", states[0], recurrence))
            return (function(call, total),)

        return _projected(layer, i, _sum(call, *layer.biases(i))), step

    return _run(layer, step_of)


@onnx_operator("GRU", since=7)
def gru(
    call: Call, x: Value, w: Value, r: Value, bias: Value | None = None,
    lengths: Value | None = None, state: Value | None = None,
    *, activation_alpha: tuple[float, ...] = (), activation_beta: tuple[float, ...] = (),
    activations: tuple[str, ...] | None = None, clip: float | None = None,
    direction: str = "forward", hidden_size: int = 0, layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Value, ...]:  # fmt: skip
    """Gates z (update), r (reset) and the candidate, in this order."""
    layer = _layer(
        call, (x, w, r, bias, lengths, state), 1, ("Sigmoid", "Tanh"), activations,
        activation_alpha, activation_beta, clip, direction, layout,
    )  # fmt: skip
    size = layer.hidden

    def step_of(i: int) -> tuple[Value, Step]:
        weights = layer.of_direction(layer.r, i)
        of_input, of_state = layer.biases(i)
        gated, candidate = layer.activations[i]
        both = call.transpose(call.slice(weights, 0, 0, 2 * size), (1, 0))
        last = call.transpose(call.slice(weights, 0, 2 * size, 3 * size), (1, 0))

        def step(gates: Value, states: State) -> State:
            hidden = states[0]
            recurrent = call.emit("matmul", hidden, both)
            if of_state is not None:
                recurrent = call.emit("add", recurrent, call.slice(of_state, 0, 0, 2 * size))
            update, reset = (
                gated(
                    call,
                    call.emit("add", _gate(call, gates, k, size), _gate(call, recurrent, k, size)),
                )
                for k in range(2)
            )
            own = None if of_state is None else _gate(call, of_state, 2, size)
            if linear_before_reset:
                inner = call.emit("matmul", hidden, last)
                inner = inner if own is None else call.emit("add", inner, own)
                inner = call.emit("mul", reset, inner)
            else:
                inner = call.emit("matmul", call.emit("mul", reset, hidden), last)
                inner = inner if own is None else call.emit("add", inner, own)
            fresh = candidate(call, call.emit("add", _gate(call, gates, 2, size), inner))
            kept = call.emit("mul", update, call.emit("sub", hidden, fresh))
            return (call.emit("add", fresh, kept),)

        return _projected(layer, i, of_input), step

    return _run(layer, step_of)


@onnx_operator("LSTM", since=7)
def lstm(
    call: Call, x: Value, w: Value, r: Value, bias: Value | None = None,
    lengths: Value | None = None, state: Value | None = None, cell: Value | None = None,
    peepholes: Value | None = None,
    *, activation_alpha: tuple[float, ...] = (), activation_beta: tuple[float, ...] = (),
    activations: tuple[str, ...] | None = None, clip: float | None = None,
    direction: str = "forward", hidden_size: int = 0, input_forget: int = 0, layout: int = 0,
) -> tuple[Value, ...]:  # fmt: skip
    """Gates i (input), o (output), f (forget) and the candidate c, in this order."""
    layer = _layer(
        call, (x, w, r, bias, lengths, state, cell), 2, ("Sigmoid", "Tanh", "Tanh"), activations,
        activation_alpha, activation_beta, clip, direction, layout,
    )  # fmt: skip
    size = layer.hidden

    def step_of(i: int) -> tuple[Value, Step]:
        recurrence = call.transpose(layer.of_direction(layer.r, i), (1, 0))
        gated, candidate, shown = layer.activations[i]
        peeps = None if peepholes is None else layer.of_direction(peepholes, i)

        def gate(total: Value, k: int, peep: int, memory: Value) -> Value:
            own = _gate(call, total, k, size)
            if peeps is not None:
                own = call.emit(
                    "add", own, call.emit("mul", _gate(call, peeps, peep, size), memory)
                )
            return gated(call, own)

        def step(gates: Value, states: State) -> State:
            hidden, memory = states
            total = call.emit("add", gates, call.emit("matmul", hidden, recurrence))
            enter = gate(total, 0, 0, memory)
            if input_forget:
                forget = call.emit("sub", call.scalar(1.0, enter.dtype), enter)
            else:
                forget = gate(total, 2, 2, memory)
            fresh = call.emit("mul", enter, candidate(call, _gate(call, total, 3, size)))
            following = call.emit("add", call.emit("mul", forget, memory), fresh)
            leave = gate(total, 1, 1, following)
            return call.emit("mul", leave, shown(call, following)), following

        return _projected(layer, i, _sum(call, *layer.biases(i))), step

    return _run(layer, step_of)
