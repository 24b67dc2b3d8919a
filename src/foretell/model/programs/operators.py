"""Which operations a program may use: those on tensors and on sizes, and none that reaches a file or a process.

Names alone; whoever runs a program looks them up in the framework. Knows no graph.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["Operator", "operator_named"]

_ATEN = re.compile(r"torch\.ops\.aten\.([A-Za-z0-9_]{1,100})\.([A-Za-z][A-Za-z0-9_]{0,100})")
_SIZES = {
    *("_operator.eq", "_operator.ne", "_operator.le", "_operator.ge", "_operator.lt", "_operator.gt"),
    *("_operator.neg", "_operator.pos", "_operator.mul", "_operator.add", "_operator.sub", "_operator.floordiv"),
    *("_operator.truediv", "_operator.mod", "_operator.and_", "_operator.or_", "_operator.pow"),
    *("math.trunc", "math.floor", "math.ceil"),
    *("torch.sym_not", "torch.sym_int", "torch.sym_float", "torch.sym_ite", "torch.sym_max", "torch.sym_min"),
    "torch.sym_sqrt",
}
"""Arithmetic on sizes. Shifts are left out: a few of them make a number that fills the memory. Powers would too, so
whoever runs them bounds them."""
_REFUSED = {
    "from_file",  # maps any file of the machine, and can write to it
    *("set", "set_", "set_data", "data", "resize", "resize_", "resize_as", "resize_as_", "record_stream"),
    *("pin_memory", "is_pinned", "rename", "rename_", "retain_grad", "requires_grad_"),
}
_PRIVATE = {
    *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "_assert_async", "_assert_scalar", "_assert_tensor_metadata"),
    *(
        "_cdist_forward",
        "_conj",
        "_convolution",
        "_embedding_bag",
        "_fft_c2c",
        "_fft_c2r",
        "_fft_r2c",
        "_fused_rms_norm",
    ),
    *("_grouped_mm", "_is_all_true", "_is_any_true", "_linalg_det", "_linalg_eigh", "_linalg_slogdet", "_linalg_svd"),
    *("_local_scalar_dense", "_log_softmax", "_masked_scale", "_native_batch_norm_legit"),
    *("_native_batch_norm_legit_no_training", "_native_multi_head_attention", "_pack_padded_sequence"),
    *("_pad_packed_sequence", "_prelu_kernel", "_reshape_alias", "_reshape_from_tensor", "_safe_softmax"),
    *("_scaled_dot_product_attention_math", "_scaled_dot_product_efficient_attention"),
    *("_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_for_cpu", "_shape_as_tensor"),
    *(
        "_softmax",
        "_stack",
        "_thnn_fused_gru_cell",
        "_thnn_fused_lstm_cell",
        "_to_copy",
        "_transformer_encoder_layer_fwd",
    ),
    *("_trilinear", "_unique", "_unique2", "_unsafe_view", "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa"),
    *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "_weight_norm"),
    *("_weight_norm_interface", "__and__", "__or__", "__xor__", "__lshift__", "__rshift__", "__iand__", "__ior__"),
}
"""Names with an underscore that exporters write; the others are PyTorch's own, and some of them check nothing."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One operation: of the aten library with its overload, or on sizes."""

    kind: Literal["aten", "sizes"]
    name: str
    """`conv2d`; for sizes the whole of it: `_operator.add`."""
    overload: str = ""


def operator_named(target: str) -> Operator | str:
    """Return the operation, or why it may not be used, in words."""
    if target in _SIZES:
        return Operator("sizes", target)
    found = _ATEN.fullmatch(target)
    if found is None:
        if target.startswith("torch.ops.higher_order."):
            return "a graph inside the graph (torch.cond, torch.no_grad inside forward ...); export it without"
        if target.startswith("torch.ops."):
            return "an operator of another library than PyTorch's own; export it without, or convert it to ONNX"
        return "no operation on tensors"
    name, overload = found.groups()
    if name in _REFUSED or (name.startswith("_") and name not in _PRIVATE):
        return "not allowed here: it reaches beyond its tensors, or is PyTorch's own affair"
    return Operator("aten", name, overload)
