"""Recurrent layers: RNN, GRU and LSTM, in all directions.

What the input contributes to the gates is one matrix product over the whole sequence; a loop over
its steps adds what the state contributes, so the length may be symbolic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ranvier.frontends.onnx.activations import Activation, activations_of
from ranvier.frontends.onnx.call import Call, static
from ranvier.frontends.onnx.control import emit_loop, slice_of
from ranvier.frontends.onnx.frame import Frame
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import I64
from ranvier.ir.graph import Value

State = tuple[Value, ...]
Step = Callable[[Call, Value, State, "Weights"], State]
"""(the node inside the loop, what the input contributes, states, weights) -> the next states."""
Weights = Sequence[Value | None]
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
    chosen, each = activations or names * len(directions), len(names)
    if len(chosen) != each * len(directions):
        raise Refusal(f"has {len(chosen)} activations, not {each * len(directions)}")
    # as in ONNX Runtime, gates and candidates are clipped, what an LSTM shows of its cell is not
    clips = ((clip,) * min(each, 2) + (None,) * (each - 2)) * len(directions)
    functions = activations_of(chosen, alphas, betas, clips)
    first = tuple(given[:states])
    if layout:
        x = call.transpose(x, (1, 0, 2))
        first = tuple(None if s is None else call.transpose(s, (1, 0, 2)) for s in first)
    return _Layer(
        call, x, w, r, bias, lengths, first, directions,
        [functions[i * each : (i + 1) * each] for i in range(len(directions))], bool(layout),
    )  # fmt: skip


@dataclass(frozen=True)
class _Direction:
    """What one direction of a layer does: the input's share of the gates, weights, the step."""

    gates: Value
    weights: Weights
    step: Step


def _run(layer: _Layer, direction_of: Callable[[int], _Direction]) -> tuple[Value, ...]:
    """(outputs, last states...)."""
    call = layer.call
    outputs, finals = [], []
    for i, backwards in enumerate(layer.directions):
        direction = direction_of(i)
        if backwards:
            direction = replace(direction, gates=_reversed(layer, direction.gates))
        rows, state = _walk(layer, direction, layer.first_states(i))
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


def _walk(layer: _Layer, direction: _Direction, first: State) -> tuple[Value, State]:
    """The hidden states of all steps `[sequence, batch, hidden]`, and the last states."""
    outer, batch = layer.call.around.frame, layer.x.shape[1]

    def fill(inside: Call, frame: Frame, iteration: Dim, state: State) -> list[Value]:
        gates = slice_of(inside, frame.capture(direction.gates, outer), iteration)
        weights = [None if w is None else frame.capture(w, outer) for w in direction.weights]
        following = direction.step(inside, gates, state, weights)
        row = following[0]
        if layer.lengths is not None:
            length = inside.cast(frame.capture(layer.lengths, outer), I64)
            goes_on = inside.number("greater", inside.reshape(length, (batch, 1)), iteration)
            row = inside.where(goes_on, row, 0.0)
            following = tuple(
                inside.emit("where", goes_on, new, old)
                for new, old in zip(following, state, strict=True)
            )
        return [*following, row]

    length = direction.gates.shape[0]
    *state, rows = emit_loop(layer.call, length, None, first, fill, False)
    return rows, tuple(state)


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


def _plus(call: Call, x: Value, bias: Value | None) -> Value:
    return x if bias is None else call.emit("add", x, bias)


def _times(call: Call, x: Value, weights: Value | None) -> Value:
    assert weights is not None
    return call.emit("matmul", x, weights)


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

    def direction_of(i: int) -> _Direction:
        recurrence = call.transpose(layer.of_direction(layer.r, i), (1, 0))
        (function,) = layer.activations[i]

        def step(inside: Call, gates: Value, states: State, weights: Weights) -> State:
            total = inside.emit("add", gates, _times(inside, states[0], weights[0]))
            return (function(inside, total),)

        gates = _projected(layer, i, _sum(call, *layer.biases(i)))
        return _Direction(gates, (recurrence,), step)

    return _run(layer, direction_of)


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

    def direction_of(i: int) -> _Direction:
        rows = layer.of_direction(layer.r, i)
        of_input, of_state = layer.biases(i)
        gated, candidate = layer.activations[i]
        both = call.transpose(call.slice(rows, 0, 0, 2 * size), (1, 0))
        last = call.transpose(call.slice(rows, 0, 2 * size, 3 * size), (1, 0))
        shared = own = None
        if of_state is not None:
            shared, own = _gate(call, of_state, 0, 2 * size), _gate(call, of_state, 2, size)

        def step(inside: Call, gates: Value, states: State, weights: Weights) -> State:
            hidden = states[0]
            recurrent = _plus(inside, _times(inside, hidden, weights[0]), weights[2])
            update, reset = (
                gated(
                    inside,
                    inside.emit(
                        "add", _gate(inside, gates, k, size), _gate(inside, recurrent, k, size)
                    ),
                )
                for k in range(2)
            )
            if linear_before_reset:
                inner = _plus(inside, _times(inside, hidden, weights[1]), weights[3])
                inner = inside.emit("mul", reset, inner)
            else:
                inner = _times(inside, inside.emit("mul", reset, hidden), weights[1])
                inner = _plus(inside, inner, weights[3])
            fresh = candidate(inside, inside.emit("add", _gate(inside, gates, 2, size), inner))
            kept = inside.emit("mul", update, inside.emit("sub", hidden, fresh))
            return (inside.emit("add", fresh, kept),)

        return _Direction(_projected(layer, i, of_input), (both, last, shared, own), step)

    return _run(layer, direction_of)


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

    def direction_of(i: int) -> _Direction:
        recurrence = call.transpose(layer.of_direction(layer.r, i), (1, 0))
        peeps = None if peepholes is None else layer.of_direction(peepholes, i)
        gated, candidate, shown = layer.activations[i]

        def gate(inside: Call, own: Value, peep: Value | None, k: int, memory: Value) -> Value:
            if peep is not None:
                share = inside.emit("mul", _gate(inside, peep, k, size), memory)
                own = inside.emit("add", own, share)
            return gated(inside, own)

        def step(inside: Call, gates: Value, states: State, weights: Weights) -> State:
            hidden, memory = states
            total = inside.emit("add", gates, _times(inside, hidden, weights[0]))
            enter, leave, forget, fresh = (_gate(inside, total, k, size) for k in range(4))
            enter = gate(inside, enter, weights[1], 0, memory)
            if input_forget:
                forget = inside.emit("sub", inside.scalar(1.0, enter.dtype), enter)
            else:
                forget = gate(inside, forget, weights[1], 2, memory)
            added = inside.emit("mul", enter, candidate(inside, fresh))
            following = inside.emit("add", inside.emit("mul", forget, memory), added)
            leave = gate(inside, leave, weights[1], 1, following)
            return inside.emit("mul", leave, shown(inside, following)), following

        gates = _projected(layer, i, _sum(call, *layer.biases(i)))
        return _Direction(gates, (recurrence, peeps), step)

    return _run(layer, direction_of)
