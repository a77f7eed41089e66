"""Eight float32 lanes as a value inside numba functions.

LLVM's loop vectoriser needs long loops of known shape; a primitive covers only a few pixels of a
column. So the kernels say what they mean: `Lanes` is LLVM's <8 x float>, one AVX register (LLVM
splits it into two of NEON or SSE), `Mask` the result of comparing two. Operators + - * / and
comparisons < <= > >= work on Lanes, & | on Masks; a product and a sum may be fused into one.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as _intrinsic
from numba.extending import lower_builtin, models, register_model, type_callable

__all__ = [
    "WIDTH",
    "greatest",
    "least",
    "load",
    "root",
    "select",
    "splat",
    "store",
]

# Any: mypy cannot see through the decorator.
intrinsic: Any = _intrinsic

WIDTH = 8
_VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
_FLAGS = ("contract",)


class Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Lanes{WIDTH}")


class Mask(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Mask{WIDTH}")


lanes = Lanes()
mask = Mask()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _VECTOR)


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(ir.IntType(1), WIDTH))


def _operator(op, operand, result, build):
    """Teaches numba the binary operator `op` on two values of type `operand`."""

    def typing(context):
        def typer(a, b):
            return result if a == operand and b == operand else None

        return typer

    type_callable(op)(typing)

    @lower_builtin(op, operand, operand)
    def lower(context, builder, signature, args):
        return build(builder, *args)


_operator(operator.add, lanes, lanes, lambda b, x, y: b.fadd(x, y, flags=_FLAGS))
_operator(operator.sub, lanes, lanes, lambda b, x, y: b.fsub(x, y, flags=_FLAGS))
_operator(operator.mul, lanes, lanes, lambda b, x, y: b.fmul(x, y, flags=_FLAGS))
_operator(operator.truediv, lanes, lanes, lambda b, x, y: b.fdiv(x, y, flags=_FLAGS))
_operator(operator.lt, lanes, mask, lambda b, x, y: b.fcmp_ordered("<", x, y))
_operator(operator.le, lanes, mask, lambda b, x, y: b.fcmp_ordered("<=", x, y))
_operator(operator.gt, lanes, mask, lambda b, x, y: b.fcmp_ordered(">", x, y))
_operator(operator.ge, lanes, mask, lambda b, x, y: b.fcmp_ordered(">=", x, y))
_operator(operator.and_, mask, mask, lambda b, x, y: b.and_(x, y))
_operator(operator.or_, mask, mask, lambda b, x, y: b.or_(x, y))


def _splat(builder, value):
    first = builder.insert_element(
        ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), zeros)


@intrinsic
def splat(typingctx, value):
    """One float in all lanes."""

    def build(context, builder, signature, args):
        return _splat(builder, context.cast(builder, args[0], value, types.float32))

    return lanes(value), build


def _address(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@intrinsic
def load(typingctx, array, index):
    """The eight elements of a contiguous float32 array from `index` on."""

    def build(context, builder, signature, args):
        i = context.cast(builder, args[1], signature.args[1], types.intp)
        return builder.load(_address(context, builder, array, args[0], i), align=4)

    return lanes(array, index), build


@intrinsic
def store(typingctx, array, index, value):
    """Writes the eight lanes into a contiguous float32 array from `index` on."""

    def build(context, builder, signature, args):
        i = context.cast(builder, args[1], signature.args[1], types.intp)
        builder.store(args[2], _address(context, builder, array, args[0], i), align=4)
        return context.get_dummy_value()

    return types.void(array, index, value), build


def _choose(comparison):
    def build(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(comparison, *args), *args)

    return build


@intrinsic
def least(typingctx, a, b):
    """Lane by lane the smaller; `b` where either is not a number."""
    return lanes(a, b), _choose("<")


@intrinsic
def greatest(typingctx, a, b):
    """Lane by lane the greater; `b` where either is not a number."""
    return lanes(a, b), _choose(">")


@intrinsic
def root(typingctx, a):
    """Square root of each lane."""

    def build(context, builder, signature, args):
        sqrt = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR]), f"llvm.sqrt.v{WIDTH}f32"
        )
        return builder.call(sqrt, args)

    return lanes(a), build


@intrinsic
def select(typingctx, condition, a, b):
    """Lane by lane `a` where the mask is set, else `b`."""

    def build(context, builder, signature, args):
        return builder.select(*args)

    return lanes(condition, a, b), build
