"""The Triton kernels: a gather fused into a matrix product. Imported at the first launch only.

All products have the same structure: a program computes a tile of a node's own channels for a tile
of the batch, iterating over the node's list of channels
(:class:`mpnn_arch.kernels.triton_tables.Walk`). The lists cross the boundaries of shares, so the
inner dimension is processed in full tiles whatever the sizes of the shares. Forward, the list holds
the input channels that a target receives; transposed (the gradient with respect to the input), the
output channels of a source's targets. For the gradient with respect to the weights, a program
computes a range of a node's list, iterating over the batch.

All offsets that can exceed 2^31 are 64-bit. Sums are accumulated in ``ACC``: float32, or float64
for float64.
"""

# mypy: disallow-untyped-defs = False
# mypy: disallow-incomplete-defs = False
import triton
import triton.language as tl

# Arguments that follow the batch and the size of the maps. Triton would compile a kernel anew where
# one becomes 1, or divisible by 16 or not: for the last, smaller batch of every epoch.
BATCH_ARGUMENTS = [
    "batch",
    "batch_per_split",
    "pixels",
    "pixels_per_split",
    "groups",
    "tiles",
    "row_tiles",
    "list_tiles",
    "grid_height",
    "grid_width",
    "out_height",
    "out_width",
    "a_height",
    "a_width",
    "grad_height",
    "grad_width",
]


@triton.jit
def multiply_add(a, b, acc, PRECISION: tl.constexpr, ACC: tl.constexpr, WIDEN: tl.constexpr):
    """acc + a @ b. WIDEN for the interpreter, which treats the bits of bfloat16 as integers."""
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION, out_dtype=ACC)


@triton.jit
def in_groups(stride, GRANULE: tl.constexpr):
    """``stride``, a multiple of GRANULE. As a product, since a hint on an argument is ignored."""
    return stride // GRANULE * GRANULE


@triton.jit(do_not_specialize=BATCH_ARGUMENTS)
def linear_product(
    out,
    a,
    weight,
    order,
    list_ptr,
    channel,
    weight_start,
    offsets,
    batch,
    tiles,
    groups,
    a_batch_stride,
    a_channel_stride,
    out_batch_stride,
    ROW_TILES: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    GRANULE: tl.constexpr,
    WEIGHT_GRANULE: tl.constexpr,
    OUT_GRANULE: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """out[b, n] = sum over k of a[b, channel[k]] * weight[k, n], for the own channels n of a node.

    A program processes every ``groups``-th tile of nodes in sequence, so that the rows of its batch
    tile, which their lists share, stay in the L1 cache.
    """
    group = tl.program_id(0) % groups
    b = (tl.program_id(0) // groups) * BLOCK_B + tl.arange(0, BLOCK_B)
    in_batch = b < batch
    a_batch_stride = in_groups(a_batch_stride, GRANULE)
    a_row = a + b.to(tl.int64) * a_batch_stride
    out_row = out + b.to(tl.int64) * in_groups(out_batch_stride, OUT_GRANULE)

    for tile in range(group, tiles, groups):
        node = tl.load(order + tile // ROW_TILES)
        first = tl.multiple_of(tl.load(offsets + node), OUT_GRANULE)
        rows = tl.multiple_of(tl.load(offsets + node + 1) - first, OUT_GRANULE)
        row = (tile % ROW_TILES) * BLOCK_N + tl.arange(0, BLOCK_N)
        in_share = row < rows
        begin = tl.load(list_ptr + node)
        length = tl.load(list_ptr + node + 1) - begin
        weight_row = weight + row
        if not TRANSPOSED:
            base = tl.multiple_of(tl.load(weight_start + node), WEIGHT_GRANULE)
            weight_row = weight + base + row * tl.multiple_of(length, WEIGHT_GRANULE)
        # A tile past the end of a smaller share has nothing to sum and nothing to store.
        begin = tl.multiple_of(begin, GRANULE)
        length = tl.where((tile % ROW_TILES) * BLOCK_N < rows, length, 0)
        length = tl.multiple_of(length, GRANULE)

        acc = tl.zeros([BLOCK_B, BLOCK_N], dtype=ACC)
        for start in range(0, length, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            listed = k < length
            column = tl.load(channel + begin + k, mask=listed, other=0)
            column = tl.max_contiguous(tl.multiple_of(column, GRANULE), GRANULE)
            column_offset = column.to(tl.int64) * a_channel_stride
            a_tile = tl.load(
                a_row[:, None] + column_offset[None, :],
                mask=in_batch[:, None] & listed[None, :],
                other=0.0,
            )
            if TRANSPOSED:
                entry = tl.load(weight_start + begin + k, mask=listed, other=0)
                entry = tl.multiple_of(entry, WEIGHT_GRANULE)
                w_tile = tl.load(
                    weight_row[None, :] + entry[:, None],
                    mask=listed[:, None] & in_share[None, :],
                    other=0.0,
                )
            else:
                w_tile = tl.trans(
                    tl.load(
                        weight_row[:, None] + k[None, :],
                        mask=in_share[:, None] & listed[None, :],
                        other=0.0,
                    )
                )
            acc = multiply_add(a_tile, w_tile, acc, PRECISION, ACC, WIDEN)

        tl.store(
            out_row[:, None] + (first + row)[None, :],
            acc.to(out.dtype.element_ty),
            mask=in_batch[:, None] & in_share[None, :],
        )


@triton.jit(do_not_specialize=BATCH_ARGUMENTS)
def linear_weights(
    out,
    grad,
    a,
    order,
    list_ptr,
    channel,
    weight_start,
    offsets,
    batch,
    batch_per_split,
    split_stride,
    row_tiles,
    list_tiles,
    num_nodes,
    grad_batch_stride,
    grad_channel_stride,
    a_batch_stride,
    a_channel_stride,
    GRANULE: tl.constexpr,
    GRAD_GRANULE: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """out[split, n, k] = sum over the split's batch of grad[b, n] * a[b, channel[k]]."""
    pid = tl.program_id(0)
    node = tl.load(order + (pid // (row_tiles * list_tiles)) % num_nodes)
    split = pid // (row_tiles * list_tiles * num_nodes)
    start = (pid % list_tiles) * BLOCK_K
    start_row = (pid // list_tiles) % row_tiles * BLOCK_N
    begin = tl.multiple_of(tl.load(list_ptr + node), GRANULE)
    length = tl.multiple_of(tl.load(list_ptr + node + 1) - begin, GRANULE)
    first = tl.multiple_of(tl.load(offsets + node), GRAD_GRANULE)
    rows = tl.multiple_of(tl.load(offsets + node + 1) - first, GRAD_GRANULE)
    if (start >= length) | (start_row >= rows):
        return

    row = start_row + tl.arange(0, BLOCK_N)
    k = start + tl.arange(0, BLOCK_K)
    in_share = row < rows
    listed = k < length
    column = tl.load(channel + begin + k, mask=listed, other=0)
    column = tl.max_contiguous(tl.multiple_of(column, GRANULE), GRANULE)
    a_batch_stride = in_groups(a_batch_stride, GRANULE)
    grad_batch_stride = in_groups(grad_batch_stride, GRAD_GRANULE)
    a_column = a + column.to(tl.int64) * a_channel_stride
    grad_column = grad + (first + row).to(tl.int64) * grad_channel_stride

    acc = tl.zeros([BLOCK_K, BLOCK_N], dtype=ACC)
    stop = tl.minimum((split + 1) * batch_per_split, batch)
    for start_b in range(split * batch_per_split, stop, BLOCK_B):
        b = start_b + tl.arange(0, BLOCK_B)
        in_batch = b < stop
        a_tile = tl.load(
            a_column[:, None] + (b.to(tl.int64) * a_batch_stride)[None, :],
            mask=listed[:, None] & in_batch[None, :],
            other=0.0,
        )
        grad_tile = tl.load(
            (b.to(tl.int64) * grad_batch_stride)[:, None] + grad_column[None, :],
            mask=in_batch[:, None] & in_share[None, :],
            other=0.0,
        )
        acc = multiply_add(a_tile, grad_tile, acc, PRECISION, ACC, WIDEN)

    base = tl.multiple_of(tl.load(weight_start + node), GRANULE)
    position = base + row[None, :] * length + k[:, None]
    tl.store(
        out + split.to(tl.int64) * in_groups(split_stride, GRANULE) + position,
        acc.to(out.dtype.element_ty),
        mask=listed[:, None] & in_share[None, :],
    )


@triton.jit(do_not_specialize=BATCH_ARGUMENTS)
def conv_product(
    out,
    a,
    weight,
    order,
    list_ptr,
    channel,
    weight_start,
    offsets,
    taps,
    tap_count,
    pixels,
    tiles,
    grid_height,
    grid_width,
    out_height,
    out_width,
    a_height,
    a_width,
    a_batch_stride,
    a_channel_stride,
    a_row_stride,
    a_column_stride,
    out_batch_stride,
    out_channel_stride,
    out_row_stride,
    out_column_stride,
    tap_stride,
    KERNEL_HEIGHT: tl.constexpr,
    KERNEL_WIDTH: tl.constexpr,
    STRIDE_HEIGHT: tl.constexpr,
    STRIDE_WIDTH: tl.constexpr,
    PADDING_HEIGHT: tl.constexpr,
    PADDING_WIDTH: tl.constexpr,
    DILATION_HEIGHT: tl.constexpr,
    DILATION_WIDTH: tl.constexpr,
    PHASES: tl.constexpr,
    ROW_TILES: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    WEIGHT_STRIDE: tl.constexpr,
    GRANULE: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The same product on images: the batch is the pixels of all images, the list runs tap by tap.

    Transposed with a stride, only some taps of the kernel reach a pixel, the same ones for all
    pixels of a phase (row and column modulo the stride); a program computes pixels of one phase,
    iterating over the taps that reach it: ``taps[phase, :tap_count[phase]]``. Forward there is one
    phase, with every tap.

    A GRANULE above 1 promises that the channels of ``a`` are contiguous, in groups of as many that
    begin at its multiples, and that the weights of a tap are so too. ``offsets`` may count fewer
    channels of a share than it is padded to: those are stored, without gaps.
    """
    KERNEL: tl.constexpr = KERNEL_HEIGHT * KERNEL_WIDTH
    pid = tl.program_id(0)
    tile = pid % tiles
    node = tl.load(order + tile // ROW_TILES)
    first = tl.load(offsets + node)
    row = (tile % ROW_TILES) * BLOCK_N + tl.arange(0, BLOCK_N)
    rows = tl.load(offsets + node + 1) - first
    if (tile % ROW_TILES) * BLOCK_N >= rows:
        return
    in_share = row < rows
    has_weights = row < tl.cdiv(rows, GRANULE) * GRANULE  # in whole groups
    begin = tl.multiple_of(tl.load(list_ptr + node), GRANULE)
    length = tl.multiple_of(tl.load(list_ptr + node + 1) - begin, GRANULE)

    phase = (pid // tiles) % PHASES
    pixel = (pid // (tiles * PHASES)) * BLOCK_P + tl.arange(0, BLOCK_P)
    column = pixel % grid_width
    line = (pixel // grid_width) % grid_height
    image = (pixel // grid_width) // grid_height
    if TRANSPOSED:
        line = line * STRIDE_HEIGHT + phase // STRIDE_WIDTH
        column = column * STRIDE_WIDTH + phase % STRIDE_WIDTH
    in_grid = (pixel < pixels) & (line < out_height) & (column < out_width)
    a_image = image.to(tl.int64) * a_batch_stride

    if not TRANSPOSED:
        base = tl.multiple_of(tl.load(weight_start + node), GRANULE).to(tl.int64)
        weight_row = base + row * length

    acc = tl.zeros([BLOCK_N, BLOCK_P], dtype=ACC)
    steps = tl.cdiv(length, BLOCK_K)
    for step in range(0, steps * tl.load(tap_count + phase)):
        tap = tl.load(taps + phase * KERNEL + step // steps)
        down = (tap // KERNEL_WIDTH) * DILATION_HEIGHT - PADDING_HEIGHT
        right = (tap % KERNEL_WIDTH) * DILATION_WIDTH - PADDING_WIDTH
        if TRANSPOSED:
            # Exact divisions: the phase's taps are those for which the stride divides.
            a_line = (line - down) // STRIDE_HEIGHT
            a_column = (column - right) // STRIDE_WIDTH
            reached = in_grid & (line >= down) & (column >= right)
        else:
            a_line = line * STRIDE_HEIGHT + down
            a_column = column * STRIDE_WIDTH + right
            reached = in_grid & (a_line >= 0) & (a_column >= 0)
        reached = reached & (a_line < a_height) & (a_column < a_width)
        a_pixel = a_image + (a_line * a_row_stride + a_column * a_column_stride)
        a_pixel = a + tl.multiple_of(a_pixel, GRANULE)

        k = (step % steps) * BLOCK_K + tl.arange(0, BLOCK_K)
        listed = k < length
        read = tl.load(channel + begin + k, mask=listed, other=0)
        read = tl.max_contiguous(tl.multiple_of(read, GRANULE), GRANULE).to(tl.int64)
        a_tile = tl.load(
            (read * a_channel_stride)[:, None] + a_pixel[None, :],
            mask=listed[:, None] & reached[None, :],
            other=0.0,
        )
        if TRANSPOSED:
            entry = tl.load(weight_start + begin + k, mask=listed, other=0)
            entry = tl.multiple_of(entry, GRANULE).to(tl.int64)
            position = row[:, None] + entry[None, :]
        else:
            position = weight_row[:, None] + k[None, :]
        tap_weights = weight + tl.multiple_of(tap.to(tl.int64) * tap_stride, GRANULE)
        w_tile = tl.load(
            tap_weights + position * WEIGHT_STRIDE,
            mask=has_weights[:, None] & listed[None, :],
            other=0.0,
        )
        acc = multiply_add(w_tile, a_tile, acc, PRECISION, ACC, WIDEN)

    out_pixel = image.to(tl.int64) * out_batch_stride
    out_pixel += line * out_row_stride + column * out_column_stride
    out_row = (first + row).to(tl.int64) * out_channel_stride
    tl.store(
        out + out_row[:, None] + out_pixel[None, :],
        acc.to(out.dtype.element_ty),
        mask=in_share[:, None] & in_grid[None, :],
    )


@triton.jit(do_not_specialize=BATCH_ARGUMENTS)
def conv_weights(
    out,
    grad,
    a,
    order,
    list_ptr,
    channel,
    weight_start,
    offsets,
    pixels,
    pixels_per_split,
    split_stride,
    row_tiles,
    list_tiles,
    num_nodes,
    grad_height,
    grad_width,
    a_height,
    a_width,
    grad_batch_stride,
    grad_channel_stride,
    grad_row_stride,
    grad_column_stride,
    a_batch_stride,
    a_channel_stride,
    a_row_stride,
    a_column_stride,
    tap_stride,
    KERNEL_HEIGHT: tl.constexpr,
    KERNEL_WIDTH: tl.constexpr,
    STRIDE_HEIGHT: tl.constexpr,
    STRIDE_WIDTH: tl.constexpr,
    PADDING_HEIGHT: tl.constexpr,
    PADDING_WIDTH: tl.constexpr,
    DILATION_HEIGHT: tl.constexpr,
    DILATION_WIDTH: tl.constexpr,
    WEIGHT_STRIDE: tl.constexpr,
    GRANULE: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """out[split, n, k, tap] = sum over the split's output pixels of grad[n] * a[channel[k]].

    GRANULE as for ``conv_product``, here of the channels of ``grad`` too.
    """
    KERNEL: tl.constexpr = KERNEL_HEIGHT * KERNEL_WIDTH
    pid = tl.program_id(0)
    tap = pid % KERNEL
    pid = pid // KERNEL
    node = tl.load(order + (pid // (row_tiles * list_tiles)) % num_nodes)
    split = pid // (row_tiles * list_tiles * num_nodes)
    start = (pid % list_tiles) * BLOCK_K
    start_row = (pid // list_tiles) % row_tiles * BLOCK_N
    begin = tl.multiple_of(tl.load(list_ptr + node), GRANULE)
    length = tl.multiple_of(tl.load(list_ptr + node + 1) - begin, GRANULE)
    first = tl.multiple_of(tl.load(offsets + node), GRANULE)
    rows = tl.multiple_of(tl.load(offsets + node + 1) - first, GRANULE)
    if (start >= length) | (start_row >= rows):
        return

    row = start_row + tl.arange(0, BLOCK_N)
    k = start + tl.arange(0, BLOCK_K)
    in_share = row < rows
    listed = k < length
    read = tl.load(channel + begin + k, mask=listed, other=0)
    read = tl.max_contiguous(tl.multiple_of(read, GRANULE), GRANULE).to(tl.int64)
    a_channel = a + read * a_channel_stride
    grad_channel = grad + (first + row).to(tl.int64) * grad_channel_stride
    down = (tap // KERNEL_WIDTH) * DILATION_HEIGHT - PADDING_HEIGHT
    right = (tap % KERNEL_WIDTH) * DILATION_WIDTH - PADDING_WIDTH

    acc = tl.zeros([BLOCK_K, BLOCK_N], dtype=ACC)
    stop = tl.minimum((split + 1) * pixels_per_split, pixels)
    for start_p in range(split * pixels_per_split, stop, BLOCK_P):
        pixel = start_p + tl.arange(0, BLOCK_P)
        column = pixel % grad_width
        line = (pixel // grad_width) % grad_height
        image = ((pixel // grad_width) // grad_height).to(tl.int64)
        in_grid = pixel < stop
        a_line = line * STRIDE_HEIGHT + down
        a_column = column * STRIDE_WIDTH + right
        reached = in_grid & (a_line >= 0) & (a_line < a_height)
        reached = reached & (a_column >= 0) & (a_column < a_width)
        a_pixel = image * a_batch_stride + (a_line * a_row_stride + a_column * a_column_stride)
        grad_pixel = image * grad_batch_stride
        grad_pixel += line * grad_row_stride + column * grad_column_stride
        a_pixel = tl.multiple_of(a_pixel, GRANULE)
        grad_pixel = tl.multiple_of(grad_pixel, GRANULE)
        a_tile = tl.load(
            a_channel[:, None] + a_pixel[None, :],
            mask=listed[:, None] & reached[None, :],
            other=0.0,
        )
        if GRANULE > 1:  # as the product reads it: a transposed tile would be copied 4 bytes wide
            grad_tile = tl.load(
                grad_pixel[:, None] + grad_channel[None, :],
                mask=in_grid[:, None] & in_share[None, :],
                other=0.0,
            )
        else:  # so that both tiles share the addresses of their pixels
            grad_tile = tl.trans(
                tl.load(
                    grad_channel[:, None] + grad_pixel[None, :],
                    mask=in_share[:, None] & in_grid[None, :],
                    other=0.0,
                )
            )
        acc = multiply_add(a_tile, grad_tile, acc, PRECISION, ACC, WIDEN)

    base = tl.multiple_of(tl.load(weight_start + node), GRANULE).to(tl.int64)
    position = base + row[None, :] * length + k[:, None]
    split_out = out + split.to(tl.int64) * split_stride
    tap_out = split_out + tl.multiple_of(tap.to(tl.int64) * tap_stride, GRANULE)
    tl.store(
        tap_out + position * WEIGHT_STRIDE,
        acc.to(out.dtype.element_ty),
        mask=listed[:, None] & in_share[None, :],
    )
