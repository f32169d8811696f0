"""Binning: the Gaussians of every tile of the picture, nearest first.

One radix sort of the depths per camera; then every Gaussian, in that order, emits the tiles that
its ellipse really reaches, so that each tile's list comes out sorted. A (Gaussian, tile) pair is an
*entry*. It owns a *slot*: the slots of a Gaussian are neighbours, which lets the backward pass sum
them without atomics. All cameras are binned together; nothing depends on the number of threads.
"""

import numpy as np

from gaussiantalker_ns.kernels.compile import inline_jit, jit, next_job, pooled_kernel
from gaussiantalker_ns.kernels.records import (
    HALF_WIDTH,
    RECORD,
    TILE_HEIGHT,
    TILE_WIDTH,
    U,
    visible_rows,
)
from gaussiantalker_ns.kernels.simd import LANES, prefetch

NO_ROWS = 15
"""Packed rows 15 to 0: none."""
_GROUP = LANES // 2
"""Tiles of a row whose halves fill a vector."""
_AHEAD = 8
_RADIX_BITS = 11
_BINS = 1 << _RADIX_BITS


@jit
def _sort_camera(keys, order, spare_keys, spare_order):
    """Stable radix sort of unsigned keys; returns whether the result is in the spare arrays."""
    low, high = keys[0], keys[0]
    for key in keys:
        low, high = min(low, key), max(high, key)
    counts = np.empty(_BINS, np.int64)
    shift = np.uint32(0)
    swapped = False
    while (high - low) >> shift > 0:
        counts[:] = 0
        for key in keys:
            counts[((key - low) >> shift) & np.uint32(_BINS - 1)] += 1
        start = 0
        for bin in range(_BINS):
            counts[bin], start = start, start + counts[bin]
        for k in range(keys.size):
            bin = ((keys[k] - low) >> shift) & np.uint32(_BINS - 1)
            spare_keys[counts[bin]] = keys[k]
            spare_order[counts[bin]] = order[k]
            counts[bin] += 1
        keys, spare_keys = spare_keys, keys
        order, spare_order = spare_order, order
        swapped = not swapped
        shift += np.uint32(_RADIX_BITS)
    return swapped


@pooled_kernel
def sort_by_depth(queue, depth_bits, radii, order, num_visible):
    """List each camera's visible Gaussians, nearest first; equal depths by index.

    Args:
        depth_bits: Depths [b, n] as uint32: for positive floats the bits have the floats' order.
        radii: int32 [b, n, 2].
        order: Output int32 [b, n]: place -> Gaussian.
        num_visible: Output int64 [b].
    """
    num_cameras, n = depth_bits.shape
    while True:
        camera = next_job(queue)
        if camera >= num_cameras:
            break
        keys, spare_keys = np.empty(n, np.uint32), np.empty(n, np.uint32)
        spare_order = np.empty(n, np.int32)
        count = 0
        for i in range(n):
            if radii[camera, i, 0] > 0:
                keys[count] = depth_bits[camera, i]
                order[camera, count] = i
                count += 1
        num_visible[camera] = count
        if count and _sort_camera(
            keys[:count], order[camera, :count], spare_keys[:count], spare_order[:count]
        ):
            order[camera, :count] = spare_order[:count]


@jit
def reserve_slots(order, num_visible, boxes, slots, places):
    """Give every visible Gaussian, in its place in the order, as many slots as its box has tiles.

    Args:
        order, num_visible: Visible Gaussians of each camera, nearest first.
        boxes: int64 [b * n], by Gaussian.
        slots: Output int64 [b, n + 1]: first slot of each place, and the end of the last one's.
        places: Output int32 [b, n]: place of each Gaussian, -1 for none.

    Returns:
        Number of slots of all cameras.
    """
    num_cameras, n = order.shape
    total = 0
    places[:] = -1
    for camera in range(num_cameras):
        for place in range(num_visible[camera]):
            slots[camera, place] = total
            total += boxes[camera * n + order[camera, place]]
            places[camera, order[camera, place]] = place
        slots[camera, num_visible[camera]] = total
    return total


@jit
def chunk_bounds(job, num_chunks, count):
    """Bounds of a chunk of a camera's visible Gaussians."""
    chunk = job % num_chunks
    return count * chunk // num_chunks, count * (chunk + 1) // num_chunks


@inline_jit
def _tile_rows(begin, end, top):
    """Rows of a tile (0 to 15 each, in 8 bits) out of rows of the picture; 15 to 0 for none."""
    begin, end = max(begin - top, 0), min(end - top, TILE_HEIGHT - 1)
    return begin | end << 4 if begin <= end else NO_ROWS


@inline_jit
def _emit(records, at, slot, end_slot, touched, histogram, num_columns, height, rows):
    """Write the tiles that one splat reaches to its slots; returns how many."""
    u, half_width = records[at + U], records[at + HALF_WIDTH]
    first = max(int(np.floor((u - half_width - 0.5) / TILE_WIDTH)), 0)
    last = min(int(np.floor((u + half_width) / TILE_WIDTH)), num_columns - 1)
    start = slot
    for group in range(first, last + 1, _GROUP):
        visible_rows(records, at, group * TILE_WIDTH, height, rows)
        for column in range(group, min(group + _GROUP, last + 1)):
            k = 2 * (column - group)
            begin_0, begin_1 = int(rows[k]), int(rows[k + 1])
            end_0, end_1 = int(rows[k + LANES]), int(rows[k + LANES + 1])
            if begin_0 > end_0:
                begin, end = begin_1, end_1
            elif begin_1 > end_1:
                begin, end = begin_0, end_0
            else:
                begin, end = min(begin_0, begin_1), max(end_0, end_1)
            if begin > end:
                continue
            for row in range(begin // TILE_HEIGHT, end // TILE_HEIGHT + 1):
                top = row * TILE_HEIGHT
                packed = _tile_rows(begin_0, end_0, top) | _tile_rows(begin_1, end_1, top) << 8
                if packed == NO_ROWS | NO_ROWS << 8:
                    continue
                if slot == end_slot:
                    return slot - start
                tile = row * num_columns + column
                touched[slot] = tile << 16 | packed
                histogram[tile] += 1
                slot += 1
    return slot - start


@pooled_kernel
def emit_entries(queue, records, order, num_visible, slots, size, touched, counts, histogram):
    """Let every visible splat name the tiles it reaches.

    Args:
        records: Records of the splats.
        order, num_visible, slots: As above.
        size: Width and height in pixels.
        touched: Output int64 [slots], of each used slot: tile (within its camera) and, in the lower
            16 bits, first and last row in its left and its right half.
        counts: Output int32 [b, n], number of entries, by place.
        histogram: Output int64 [b * chunks, tiles]; zeroed by the caller.
    """
    num_cameras, n = order.shape
    num_chunks = histogram.shape[0] // num_cameras
    num_columns = (size[0] + TILE_WIDTH - 1) // TILE_WIDTH
    rows = np.empty(2 * LANES, np.float32)
    while True:
        job = next_job(queue)
        if job >= histogram.shape[0]:
            break
        camera = job // num_chunks
        first, last = chunk_bounds(job, num_chunks, num_visible[camera])
        for place in range(first, last):
            ahead = camera * n + order[camera, min(place + _AHEAD, last - 1)]
            prefetch(records, ahead * RECORD)
            counts[camera, place] = _emit(
                records, (camera * n + order[camera, place]) * RECORD, slots[camera, place],
                slots[camera, place + 1], touched, histogram[job], num_columns, size[1], rows,
            )  # fmt: skip


@jit
def start_lists(histogram, num_cameras, starts):
    """Turn the counts of each chunk and tile into places in the tile lists.

    Args:
        histogram: int64 [b * chunks, tiles], overwritten by each chunk's first place in each list.
        num_cameras: b.
        starts: Output int64 [b * tiles + 1].
    """
    num_jobs, num_tiles = histogram.shape
    num_chunks = num_jobs // num_cameras
    place = 0
    for camera in range(num_cameras):
        for tile in range(num_tiles):
            starts[camera * num_tiles + tile] = place
            for job in range(camera * num_chunks, (camera + 1) * num_chunks):
                histogram[job, tile], place = place, place + histogram[job, tile]
    starts[num_cameras * num_tiles] = place


@pooled_kernel
def fill_lists(queue, order, num_visible, slots, counts, touched, places, entries):
    """Put the entries into the lists of their tiles, nearest first.

    Args:
        order, num_visible, slots, counts, touched: As emitted.
        places: int64 [b * chunks, tiles] from `start_lists`, used up.
        entries: Output int32 [entries, 3]: Gaussian (camera * n + i), slot, and rows.
    """
    num_cameras, n = order.shape
    num_chunks = places.shape[0] // num_cameras
    while True:
        job = next_job(queue)
        if job >= places.shape[0]:
            break
        camera = job // num_chunks
        first, last = chunk_bounds(job, num_chunks, num_visible[camera])
        for place in range(first, last):
            index = camera * n + order[camera, place]
            first_slot = slots[camera, place]
            for slot in range(first_slot, first_slot + counts[camera, place]):
                tile = touched[slot] >> 16
                at = places[job, tile]
                places[job, tile] = at + 1
                entries[at, 0] = index
                entries[at, 1] = slot
                entries[at, 2] = touched[slot] & 0xFFFF
